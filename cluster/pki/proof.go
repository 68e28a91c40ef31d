package pki

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"
)

// proofLife is how long a certificate of a node's own making is shown.
const proofLife = time.Hour

// Proof is a certificate that the key signs for itself. Nobody vouches for the
// name in it; a handshake with it proves that the server has the key.
func (k *Key) Proof(name string, now time.Time) (tls.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a proof of the key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"muster"}, CommonName: commonName(name)},
		NotBefore:    now.Add(-backdate), NotAfter: now.Add(proofLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.signer.Public(), k.signer)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a proof of the key: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k.signer}, nil
}
