package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"
)

// Credentials are what a node shows and whom it believes: its certificate with
// the key, and the cluster's CAs. They are immutable; renewal makes new ones.
type Credentials struct {
	Identity Identity
	CAs      *Bundle
	// Certificate is followed by all that leads from it to each CA: a joining
	// node, or a token's bearer, knows only one CA's hash.
	Certificate tls.Certificate
}

// NewCredentials joins a certificate (PEM, as Sign gave it) with its key. It
// checks that they belong together and that the CAs vouch for them now or, for a
// certificate that has run out, vouched for them.
func NewCredentials(chain []byte, key *Key, cas *Bundle) (*Credentials, error) {
	certs, err := parseCertificates(chain)
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	leaf := certs[0]
	if !key.owns(leaf) {
		return nil, errors.New("the certificate belongs to another key")
	}
	id, err := cas.Verify(certs, x509.ExtKeyUsageServerAuth, leaf.NotAfter)
	if err != nil {
		return nil, err
	}
	pair := tls.Certificate{PrivateKey: key.signer, Leaf: leaf}
	for _, cert := range union(union(certs, cas.certs), cas.links) {
		pair.Certificate = append(pair.Certificate, cert.Raw)
	}
	return &Credentials{Identity: id, CAs: cas, Certificate: pair}, nil
}

// KeyHash is the SHA-256 of the node's public key.
func (c *Credentials) KeyHash() []byte { return KeyHash(c.Certificate.Leaf) }

// Expires is the end of the certificate's life.
func (c *Credentials) Expires() time.Time { return c.Certificate.Leaf.NotAfter }

// RenewAt is when the certificate should be renewed.
func (c *Credentials) RenewAt() time.Time { return RenewAt(c.Certificate.Leaf) }

// RenewAt is a moment between 50 and 80 % of the certificate's life. It follows
// from the certificate, so that a restart does not move it, and differs between
// certificates, so that nodes do not come all at once.
func RenewAt(cert *x509.Certificate) time.Time {
	begin := cert.NotBefore.Add(backdate)
	life := cert.NotAfter.Sub(begin)
	chance := float64(binary.BigEndian.Uint32(Hash(string(cert.Raw)))) / math.MaxUint32
	return begin.Add(time.Duration(float64(life) * (0.5 + 0.3*chance)))
}

// CA is the CA that signed the certificate; the zero Fingerprint where the node
// does not believe it any more.
func (c *Credentials) CA() Fingerprint {
	if ca := c.CAs.SignerOf(c.Certificate.Leaf); ca != nil {
		return FingerprintOf(ca)
	}
	return Fingerprint{}
}

// Chain is the certificate with its CA's, PEM.
func (c *Credentials) Chain() []byte {
	var text []byte
	for _, der := range c.Certificate.Certificate {
		text = append(text, encodeCertificate(der)...)
	}
	return text
}

func (c *Credentials) String() string { return c.Identity.String() }

// LogValue makes a log line say whose they are.
func (c *Credentials) LogValue() slog.Value { return c.Identity.LogValue() }

// MarshalText keeps the private key out of whatever is encoded.
func (c *Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
