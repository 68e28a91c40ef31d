package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
)

// Words that tokens begin with.
const (
	clusterWord = "MUSTER1"
	tenantWord  = "MUSTERT1"
)

const (
	secretBytes = 24 // 192 bits
	minSecret   = 22 // characters that hold 128 bits
	maxToken    = 512
	idBytes     = 5
)

// ErrToken is returned for a text that is no token. No error quotes the text.
var ErrToken = errors.New("not a token")

var (
	tokenID     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	tokenSecret = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

// Token lets its bearer in. Printed or logged it shows its id and not its
// secret; Text is the token itself.
type Token struct {
	ID string
	// CA names the cluster's CA; zero in a tenant's token.
	CA Fingerprint
	// secret is behind a pointer so that printing a struct that holds the token
	// in a field of its own does not show it either.
	secret *string
}

// NewToken makes a token for a node that joins or for a person.
func NewToken(ca Fingerprint) (Token, error) {
	if ca == (Fingerprint{}) {
		return Token{}, errors.New("make token: no CA")
	}
	return newToken(ca)
}

// NewTenantToken makes a token for a tenant.
func NewTenantToken() (Token, error) { return newToken(Fingerprint{}) }

func newToken(ca Fingerprint) (Token, error) { return TokenFrom(ca, rand.Reader) }

// ParseToken reads a token; white space around it is dropped. Errors wrap
// ErrToken, say which part is wrong and do not show it.
func ParseToken(text string) (Token, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return Token{}, fmt.Errorf("%w: it is empty", ErrToken)
	}
	if len(text) > maxToken {
		return Token{}, fmt.Errorf("%w: %d characters, want at most %d", ErrToken, len(text), maxToken)
	}
	word, rest, _ := strings.Cut(text, ".")
	parts := strings.Split(rest, ".")
	switch {
	case word == clusterWord && len(parts) == 3:
		ca, err := ParseFingerprint(parts[0])
		if err != nil {
			return Token{}, fmt.Errorf("%w: %w", ErrToken, err)
		}
		if ca == (Fingerprint{}) {
			return Token{}, fmt.Errorf("%w: its CA hash is zero", ErrToken)
		}
		return parsed(ca, parts[1], parts[2])
	case word == clusterWord:
		return Token{}, fmt.Errorf("%w: %d parts, want MUSTER1.<ca-hash>.<id>.<secret>; was it copied whole?", ErrToken, len(parts)+1)
	case word == tenantWord && len(parts) == 2:
		return parsed(Fingerprint{}, parts[0], parts[1])
	case word == tenantWord:
		return Token{}, fmt.Errorf("%w: %d parts, want MUSTERT1.<id>.<secret>; was it copied whole?", ErrToken, len(parts)+1)
	default:
		return Token{}, fmt.Errorf("%w: it begins with neither MUSTER1 nor MUSTERT1", ErrToken)
	}
}

// ParseClusterToken reads a token of a node or person and refuses a tenant's.
func ParseClusterToken(text string) (Token, error) {
	t, err := ParseToken(text)
	if err == nil && t.ForTenant() {
		return Token{}, fmt.Errorf("%w of this kind: it is a tenant's (MUSTERT1), want MUSTER1.<ca-hash>.<id>.<secret>", ErrToken)
	}
	return t, err
}

func parsed(ca Fingerprint, id, secret string) (Token, error) {
	if !tokenID.MatchString(id) {
		return Token{}, fmt.Errorf("%w: its id has characters that ids do not have, or not 1 to 64", ErrToken)
	}
	if len(secret) < minSecret {
		return Token{}, fmt.Errorf("%w: its secret has %d characters, want at least %d; was it copied whole?", ErrToken, len(secret), minSecret)
	}
	if !tokenSecret.MatchString(secret) {
		return Token{}, fmt.Errorf("%w: its secret has characters that secrets do not have", ErrToken)
	}
	return Token{ID: id, CA: ca, secret: &secret}, nil
}

// ForTenant reports whether this is a tenant's token.
func (t Token) ForTenant() bool { return t.CA == (Fingerprint{}) }

// Text is the token itself, shown once to whom it is for.
func (t Token) Text() string {
	if t.secret == nil {
		return ""
	}
	return t.public() + "." + *t.secret
}

// Hash is Hash of the token's text: what the control state keeps.
func (t Token) Hash() []byte { return Hash(t.Text()) }

func (t Token) public() string {
	if t.ForTenant() {
		return tenantWord + "." + t.ID
	}
	return clusterWord + "." + t.CA.String() + "." + t.ID
}

func (t Token) String() string { return t.public() + ".[redacted]" }

// Format keeps the secret out of every verb.
func (t Token) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(t.String())) }

// LogValue keeps the secret out of logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText redacts, so that no encoder shows the secret by accident.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Hash is the SHA-256 of a token's text.
func Hash(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// Matches reports whether hash is Hash(text), in time that does not depend on
// where they differ.
func Matches(hash []byte, text string) bool {
	return subtle.ConstantTimeCompare(hash, Hash(text)) == 1
}
