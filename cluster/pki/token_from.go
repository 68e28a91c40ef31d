package pki

import (
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// TokenFrom makes a token of random bytes that the caller has: the same bytes
// make the same token, so that a request that is repeated is answered with the
// token that was kept. With a zero fingerprint it is a tenant's.
func TokenFrom(ca Fingerprint, random io.Reader) (Token, error) {
	raw := make([]byte, idBytes+secretBytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return Token{}, fmt.Errorf("make token: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(raw[idBytes:])
	return Token{
		ID:     strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw[:idBytes])),
		CA:     ca,
		secret: &text,
	}, nil
}
