package pki

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// maxBundle bounds the certificates that one PEM text may hold.
const maxBundle = 32

// Bundle is the set of CAs that a cluster believes; more than one while a CA is
// being replaced. It is immutable.
type Bundle struct{ certs []*x509.Certificate }

// NewBundle holds these CAs, the newest last.
func NewBundle(cas ...*x509.Certificate) *Bundle { return &Bundle{cas} }

// ParseBundle reads CA certificates, PEM; the newest stands last.
func ParseBundle(text []byte) (*Bundle, error) {
	certs, err := parseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("parse CA certificates: %w", err)
	}
	for _, cert := range certs {
		if !cert.IsCA || !cert.BasicConstraintsValid {
			return nil, fmt.Errorf("parse CA certificates: %q is no CA", cert.Subject.CommonName)
		}
	}
	return &Bundle{certs}, nil
}

// With returns a bundle that also holds the CAs of more, as the newest.
func (b *Bundle) With(more *Bundle) *Bundle {
	next := &Bundle{certs: append([]*x509.Certificate(nil), b.certs...)}
	for _, cert := range more.certs {
		if !next.contains(cert) {
			next.certs = append(next.certs, cert)
		}
	}
	return next
}

// PEM is the text that ParseBundle reads.
func (b *Bundle) PEM() []byte {
	var text []byte
	for _, cert := range b.certs {
		text = append(text, encodeCertificate(cert.Raw)...)
	}
	return text
}

// Fingerprint names the newest CA, the one that tokens carry.
func (b *Bundle) Fingerprint() Fingerprint {
	if len(b.certs) == 0 {
		return Fingerprint{}
	}
	return FingerprintOf(b.certs[len(b.certs)-1])
}

// Has reports whether the bundle holds the CA of that name.
func (b *Bundle) Has(f Fingerprint) bool {
	for _, cert := range b.certs {
		if FingerprintOf(cert) == f {
			return true
		}
	}
	return false
}

// Pool is the bundle for crypto/tls.
func (b *Bundle) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range b.certs {
		pool.AddCert(cert)
	}
	return pool
}

// Verify checks a presented chain, leaf first, at the time now, and says whom it
// speaks for. usage is what the peer is: x509.ExtKeyUsageClientAuth or
// x509.ExtKeyUsageServerAuth.
func (b *Bundle) Verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (Identity, error) {
	if len(chain) == 0 {
		return Identity{}, errors.New("no certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: b.Pool(), Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return Identity{}, fmt.Errorf("verify certificate: %w", err)
	}
	return IdentityOf(chain[0])
}

func (b *Bundle) contains(cert *x509.Certificate) bool {
	for _, have := range b.certs {
		if have.Equal(cert) {
			return true
		}
	}
	return false
}

func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a PEM block %q among certificates", block.Type)
		}
		if len(certs) == maxBundle {
			return nil, fmt.Errorf("more than %d certificates", maxBundle)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate")
	}
	return certs, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
