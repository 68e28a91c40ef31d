package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
)

// maxRequest bounds a certificate request that somebody sends.
const maxRequest = 16 << 10

// Request is somebody's wish for a certificate: a public key and the proof that
// the sender has the private one. Names in it are not believed.
type Request struct{ csr *x509.CertificateRequest }

// NewRequest asks for a certificate of key (PKCS #10, DER).
func NewRequest(key *Key, name string) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: name},
	}, key.signer)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return der, nil
}

// ParseRequest checks the proof in a request.
func ParseRequest(der []byte) (*Request, error) {
	if len(der) > maxRequest {
		return nil, fmt.Errorf("certificate request of %d bytes, want at most %d", len(der), maxRequest)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate request: %w", err)
	}
	switch csr.PublicKey.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return nil, fmt.Errorf("certificate request for a %T, want ECDSA or Ed25519", csr.PublicKey)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return &Request{csr}, nil
}

// KeyHash is what KeyHash of the certificate will be.
func (r *Request) KeyHash() []byte {
	sum := sha256.Sum256(r.csr.RawSubjectPublicKeyInfo)
	return sum[:]
}
