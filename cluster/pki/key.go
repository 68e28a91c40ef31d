package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
)

// Key is a private key. It prints as nothing but its kind.
type Key struct{ signer *ecdsa.PrivateKey }

// NewKey makes an ECDSA P-256 key: what every TLS client of the last ten years
// can verify.
func NewKey() (*Key, error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return &Key{signer}, nil
}

// ParseKey reads the PEM (PKCS #8) that PEM wrote.
func ParseKey(text []byte) (*Key, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("parse key: no PEM block PRIVATE KEY")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("parse key: not PKCS #8") // the cause could quote the key
	}
	signer, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("parse key: a %T, want ECDSA", parsed)
	}
	return &Key{signer}, nil
}

// PEM is the key itself: for a file of mode 0600 or the hand-over to a voter,
// never for a log.
func (k *Key) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.signer)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Signer signs with the key.
func (k *Key) Signer() crypto.Signer { return k.signer }

// Hash is the SHA-256 of the public key (SPKI, DER), as KeyHash of a certificate
// for it.
func (k *Key) Hash() []byte {
	der, err := x509.MarshalPKIXPublicKey(k.signer.Public())
	if err != nil {
		return nil // a P-256 key always encodes
	}
	sum := sha256.Sum256(der)
	return sum[:]
}

func (k *Key) String() string { return "[private key]" }

// Format keeps the key out of every verb.
func (k *Key) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(k.String())) }

// LogValue keeps the key out of logs.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText keeps the key out of whatever is encoded.
func (k *Key) MarshalText() ([]byte, error) { return nil, errors.New("a private key is not text") }

func (k *Key) owns(c *x509.Certificate) bool { return k.signer.PublicKey.Equal(c.PublicKey) }
