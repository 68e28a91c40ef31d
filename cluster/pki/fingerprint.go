package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// Fingerprint names a CA: the SHA-256 of its certificate's public key (SPKI,
// DER). It stays when the certificate is renewed with the same key.
type Fingerprint [sha256.Size]byte

// FingerprintOf returns the fingerprint of a CA's certificate.
func FingerprintOf(cert *x509.Certificate) Fingerprint {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// ParseFingerprint reads what String wrote: 64 lower-case hex digits.
func ParseFingerprint(text string) (Fingerprint, error) {
	var f Fingerprint
	if len(text) != hex.EncodedLen(len(f)) {
		return f, fmt.Errorf("CA hash has %d characters, want %d", len(text), hex.EncodedLen(len(f)))
	}
	if _, err := hex.Decode(f[:], []byte(text)); err != nil || f.String() != text {
		return Fingerprint{}, fmt.Errorf("CA hash is not lower-case hex")
	}
	return f, nil
}

func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// Short is the beginning of the fingerprint, for people.
func (f Fingerprint) Short() string { return f.String()[:12] }
