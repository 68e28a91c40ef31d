package pki

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 30 * 24 * time.Hour
	// backdate forgives clocks that are behind the signer's.
	backdate = time.Hour
	// maxHosts bounds the names that one certificate carries.
	maxHosts = 16
)

// CA signs certificates. It is immutable; only voters have one.
type CA struct {
	cert *x509.Certificate
	key  *Key
}

// NewCA makes the CA of a cluster.
func NewCA(cluster string, now time.Time) (*CA, error) {
	key, err := NewKey()
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	return NewCAWith(key, cluster, now)
}

// NewCAWith makes a CA with a key that is there already.
func NewCAWith(key *Key, cluster string, now time.Time) (*CA, error) {
	if !clusterForm.MatchString(cluster) {
		return nil, fmt.Errorf("make CA: cluster id %q", cluster)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"muster"}, CommonName: commonName("muster CA of " + cluster)},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            1, // the next CA, while both are believed: see Bundle.Rotated
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.signer.Public(), key.signer)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	return &CA{cert, key}, nil
}

// ErrForeignKey is returned for a CA key that belongs to no certificate at hand.
var ErrForeignKey = errors.New("the CA key belongs to none of the CA certificates")

// NewCAFrom joins a CA's key with its certificate in the bundle.
func NewCAFrom(bundle *Bundle, key *Key) (*CA, error) {
	for _, cert := range bundle.certs {
		if key.owns(cert) {
			return &CA{cert, key}, nil
		}
	}
	return nil, ErrForeignKey
}

// Certificate is the CA's own. It is shared: nobody writes to it.
func (c *CA) Certificate() *x509.Certificate { return c.cert }

// Key is the CA's key.
func (c *CA) Key() *Key { return c.key }

// Fingerprint names the CA.
func (c *CA) Fingerprint() Fingerprint { return FingerprintOf(c.cert) }

// Bundle holds this CA alone.
func (c *CA) Bundle() *Bundle { return NewBundle(c.cert) }

// Sign gives a certificate of thirty days for the request's key to id, followed
// by the CA's own certificate, as PEM. The caller has decided that the requester
// is id. hosts are DNS names and addresses that clients outside of the cluster
// may know the node by; members do not look at them.
func (c *CA) Sign(req *Request, id Identity, now time.Time, hosts ...string) ([]byte, error) {
	return c.Grant(req, Grant{Identity: id, Hosts: hosts}, now)
}

// Grant is what a certificate says.
type Grant struct {
	Identity Identity
	// Life of the certificate; it ends with the CA's at the latest. Default 30 days.
	Life time.Duration
	// Serial number; nil draws one.
	Serial *big.Int
	Hosts  []string
}

// Grant signs a certificate as Sign does.
func (c *CA) Grant(req *Request, g Grant, now time.Time) ([]byte, error) {
	id := g.Identity
	if err := id.Validate(); err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	if len(g.Hosts) > maxHosts {
		return nil, fmt.Errorf("sign certificate of %s: %d host names, want at most %d", id.Name, len(g.Hosts), maxHosts)
	}
	template, err := g.template(now)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %s: %w", id.Name, err)
	}
	if template.NotAfter.After(c.cert.NotAfter) {
		template.NotAfter = c.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, req.csr.PublicKey, c.key.signer)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %s: %w", id.Name, err)
	}
	return append(encodeCertificate(der), encodeCertificate(c.cert.Raw)...), nil
}

func (g Grant) template(now time.Time) (*x509.Certificate, error) {
	if g.Life <= 0 {
		g.Life = leafLife
	}
	if g.Serial == nil {
		var err error
		if g.Serial, err = newSerial(); err != nil {
			return nil, err
		}
	}
	id := g.Identity
	template := &x509.Certificate{
		SerialNumber:          g.Serial,
		Subject:               pkix.Name{Organization: []string{"muster"}, OrganizationalUnit: []string{id.Role}, CommonName: commonName(id.Name)},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(g.Life),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{id.URI()},
	}
	if id.Role == RoleNode { // nobody else is a server
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, host := range g.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if nameForm.MatchString(host) {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return template, nil
}

// vouch signs another CA's public key: who believes this CA believes it too.
func (c *CA) vouch(other *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               other.Subject,
		SubjectKeyId:          other.SubjectKeyId,
		NotBefore:             now.Add(-backdate),
		NotAfter:              other.NotAfter,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	if template.NotAfter.After(c.cert.NotAfter) {
		template.NotAfter = c.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, other.PublicKey, c.key.signer)
	if err != nil {
		return nil, fmt.Errorf("sign a CA: %w", err)
	}
	return x509.ParseCertificate(der)
}

// NewSerial draws the serial number of a certificate to come.
func NewSerial() (*big.Int, error) { return newSerial() }

// SerialText is the one spelling of a serial number: 32 hex digits.
func SerialText(n *big.Int) string { return fmt.Sprintf("%032x", n) }

// ParseSerial reads what SerialText wrote.
func ParseSerial(text string) (*big.Int, error) {
	n, ok := new(big.Int).SetString(text, 16)
	if !ok || n.Sign() <= 0 || SerialText(n) != text {
		return nil, fmt.Errorf("serial number %.64q: want 32 lower-case hex digits", text)
	}
	return n, nil
}

// commonName is the name as far as X.509 has room for it (64 characters). It is
// for people; identity is the URI.
func commonName(name string) string { return name[:min(len(name), 64)] }

func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}
