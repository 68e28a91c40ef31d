package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Roles that a certificate can carry.
const (
	RoleNode   = "node"   // a member of the cluster
	RoleReader = "reader" // reads on the store door
	RoleWriter = "writer" // writes on the store door
)

// ErrNoIdentity is returned for a certificate that names nobody of a cluster.
var ErrNoIdentity = errors.New("certificate carries no muster identity")

const scheme = "muster"

var (
	clusterForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	nameForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	tenantForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@=+-]{0,127}$`)
)

// Identity is who a certificate speaks for. It is a value and comparable.
type Identity struct {
	Cluster     string // id of the cluster, not its name
	Role        string
	Name        string
	Tenant      string // reader and writer only; empty: all tenants
	Incarnation uint64 // nodes only: Member.incarnation
}

// Validate says what keeps i from standing in a certificate.
func (i Identity) Validate() error {
	switch {
	case !clusterForm.MatchString(i.Cluster):
		return fmt.Errorf("cluster id %q: want lower-case letters, digits and -", i.Cluster)
	case i.Role != RoleNode && i.Role != RoleReader && i.Role != RoleWriter:
		return fmt.Errorf("role %q: want node, reader or writer", i.Role)
	case !nameForm.MatchString(i.Name):
		return fmt.Errorf("name %q: want at most 128 letters, digits, dots, - and _, beginning with a letter or digit", i.Name)
	case i.Role == RoleNode && i.Tenant != "":
		return errors.New("a node is not bound to a tenant")
	case i.Role != RoleNode && i.Incarnation != 0:
		return fmt.Errorf("a %s has no incarnation", i.Role)
	case i.Tenant != "" && !tenantForm.MatchString(i.Tenant):
		return fmt.Errorf("tenant %q is not a tenant's id", i.Tenant)
	}
	return nil
}

// URI is the one spelling of i.
func (i Identity) URI() *url.URL {
	u := &url.URL{Scheme: scheme, Host: i.Cluster, Path: "/" + i.Role + "/" + i.Name}
	if i.Incarnation != 0 {
		u.Path += "/" + strconv.FormatUint(i.Incarnation, 10)
	}
	if i.Tenant != "" {
		u.RawQuery = "tenant=" + url.QueryEscape(i.Tenant)
	}
	return u
}

func (i Identity) String() string { return i.URI().String() }

// LogValue makes a log line say who, in one word.
func (i Identity) LogValue() slog.Value { return slog.StringValue(i.String()) }

// ParseIdentity reads what URI wrote, and nothing else: any other spelling of the
// same identity is refused.
func ParseIdentity(u *url.URL) (Identity, error) {
	if u == nil || u.Scheme != scheme {
		return Identity{}, ErrNoIdentity
	}
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	if len(parts) != 2 && len(parts) != 3 {
		return Identity{}, fmt.Errorf("identity %q: want muster://cluster/role/name[/incarnation]", u)
	}
	id := Identity{Cluster: u.Host, Role: parts[0], Name: parts[1], Tenant: u.Query().Get("tenant")}
	if len(parts) == 3 {
		n, err := strconv.ParseUint(parts[2], 10, 64)
		if err != nil {
			return Identity{}, fmt.Errorf("identity %q: incarnation %q is not a number", u, parts[2])
		}
		id.Incarnation = n
	}
	if err := id.Validate(); err != nil {
		return Identity{}, fmt.Errorf("identity %q: %w", u, err)
	}
	if id.String() != u.String() {
		return Identity{}, fmt.Errorf("identity %q: want it spelled %q", u, id)
	}
	return id, nil
}

// IdentityOf reads the identity of a certificate whose chain was verified. A
// certificate with two muster URIs speaks for nobody.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	var found *url.URL
	for _, u := range cert.URIs {
		if u.Scheme != scheme {
			continue
		}
		if found != nil {
			return Identity{}, errors.New("certificate carries two muster identities")
		}
		found = u
	}
	return ParseIdentity(found)
}

// KeyHash is the SHA-256 of the certificate's public key (SPKI, DER): what a
// member record keeps of a node's key.
func KeyHash(cert *x509.Certificate) []byte {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return sum[:]
}
