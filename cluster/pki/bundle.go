package pki

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxBundle bounds the certificates that one PEM text may hold.
const maxBundle = 32

// Bundle is the set of CAs that a cluster believes; more than one while a CA is
// being replaced. It is immutable.
type Bundle struct {
	certs []*x509.Certificate // self-signed, the newest last
	// links are CAs' public keys as signed by the CA before: nobody believes them
	// by themselves; they lead from a CA that somebody knows to its successor.
	links []*x509.Certificate
}

// NewBundle holds these CAs, the newest last.
func NewBundle(cas ...*x509.Certificate) *Bundle { return &Bundle{certs: cas} }

// ParseBundle reads CA certificates, PEM: of the self-signed ones the newest
// stands last.
func ParseBundle(text []byte) (*Bundle, error) {
	certs, err := parseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("parse CA certificates: %w", err)
	}
	b := &Bundle{}
	for _, cert := range certs {
		if !cert.IsCA || !cert.BasicConstraintsValid {
			return nil, fmt.Errorf("parse CA certificates: %q is no CA", cert.Subject.CommonName)
		}
		if cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil {
			b.certs = append(b.certs, cert)
		} else {
			b.links = append(b.links, cert)
		}
	}
	if len(b.certs) == 0 {
		return nil, errors.New("parse CA certificates: none of them is self-signed")
	}
	return b, nil
}

// With returns a bundle that also holds the CAs of more, as the newest.
func (b *Bundle) With(more *Bundle) *Bundle {
	return &Bundle{certs: union(b.certs, more.certs), links: union(b.links, more.links)}
}

// Rotated is the bundle with the CA next as the newest one. from is the CA that
// signs now; it vouches for next, so that who has heard of it alone believes the
// certificates of both. The other way round nothing is signed: it would outlive
// the dropping of a CA whose key was lost.
func (b *Bundle) Rotated(from, next *CA, now time.Time) (*Bundle, error) {
	link, err := from.vouch(next.cert, now)
	if err != nil {
		return nil, err
	}
	return &Bundle{certs: append(slices.Clone(b.certs), next.cert), links: append(slices.Clone(b.links), link)}, nil
}

// Newest holds the newest CA alone.
func (b *Bundle) Newest() *Bundle { return &Bundle{certs: b.certs[max(0, len(b.certs)-1):]} }

// Certificates are the CAs' own, the newest last. Nobody writes to them.
func (b *Bundle) Certificates() []*x509.Certificate { return b.certs }

// SignerOf is the CA that signed a certificate; nil where it is none of these.
func (b *Bundle) SignerOf(cert *x509.Certificate) *x509.Certificate {
	for _, ca := range b.certs {
		if cert.CheckSignatureFrom(ca) == nil {
			return ca
		}
	}
	return nil
}

// PEM is the text that ParseBundle reads.
func (b *Bundle) PEM() []byte { return encodeAll(b.certs, b.links) }

// Roots is the CAs' own certificates as PEM: what a client outside of the
// cluster is given to believe.
func (b *Bundle) Roots() []byte { return encodeAll(b.certs) }

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

// VerifyAtItsEnd checks a chain (PEM) as Verify does, at the end of the leaf's
// life: it may have run out since.
func (b *Bundle) VerifyAtItsEnd(chain []byte, usage x509.ExtKeyUsage) (*x509.Certificate, Identity, error) {
	certs, err := parseCertificates(chain)
	if err != nil {
		return nil, Identity{}, fmt.Errorf("parse certificate: %w", err)
	}
	id, err := b.Verify(certs, usage, certs[0].NotAfter)
	return certs[0], id, err
}

// ParseIssued says whom a chain, PEM as Sign gives it, lets in as a client now.
func ParseIssued(chain []byte, cas *Bundle, now time.Time) (Identity, error) {
	certs, err := parseCertificates(chain)
	if err != nil {
		return Identity{}, fmt.Errorf("parse certificate: %w", err)
	}
	return cas.Verify(certs, x509.ExtKeyUsageClientAuth, now)
}

// SignerOfChain names the CA that stands behind the certificate in a chain, PEM
// as Sign gives it.
func SignerOfChain(chain []byte) (Fingerprint, error) {
	certs, err := parseCertificates(chain)
	if err != nil || len(certs) < 2 {
		return Fingerprint{}, errors.Join(errors.New("no chain of a certificate and its CA"), err)
	}
	return FingerprintOf(certs[1]), nil
}

func union(have, more []*x509.Certificate) []*x509.Certificate {
	out := slices.Clone(have)
	for _, cert := range more {
		if !slices.ContainsFunc(out, cert.Equal) {
			out = append(out, cert)
		}
	}
	return out
}

func encodeAll(lists ...[]*x509.Certificate) []byte {
	var text []byte
	for _, certs := range lists {
		for _, cert := range certs {
			text = append(text, encodeCertificate(cert.Raw)...)
		}
	}
	return text
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
