package tenancy

import (
	"crypto/x509"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// scopeHeader is what the Cortex family calls the tenant header.
const scopeHeader = "X-Scope-OrgID"

// byToken finds the tenant whose token the request carries. The look-up goes by
// the token's SHA-256 and ends in a comparison of constant time, so that its
// duration tells nothing about any token.
func (t *Tenancy) byToken(st *cluster.State, r *http.Request, now time.Time) (string, *refusal) {
	text, ok := bearer(r)
	if !ok {
		return "", refuse(http.StatusUnauthorized, "no tenant token: send it as Authorization: Bearer TOKEN, or with Basic as the password")
	}
	hash := pki.Hash(text)
	tenant := st.TenantByToken(hash)
	var known *clusterpb.TenantToken
	for _, token := range tenant.GetTokens() {
		if pki.Matches(token.GetHash(), text) {
			known = token // and no break: every token is looked at
		}
	}
	if gone := st.DeletedByToken(hash); known == nil && gone != nil {
		return "", refuse(http.StatusForbidden, "tenant %s was deleted", gone.GetTenant())
	}
	if known == nil {
		return "", refuse(http.StatusUnauthorized, "the tenant token is not known: it may have been revoked")
	}
	if end := known.GetExpiresMs(); end != 0 && end <= now.UnixMilli() {
		return "", refuse(http.StatusUnauthorized, "the tenant token %s has expired at %s", known.GetId(), time.UnixMilli(end).UTC().Format(time.RFC3339))
	}
	return tenant.GetId(), t.contradicts(r, tenant.GetId())
}

// bearer is the token in the Authorization header. Several headers are no
// credential: which of them counts would be a guess.
func bearer(r *http.Request) (string, bool) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	if _, password, ok := r.BasicAuth(); ok {
		return password, password != ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

// contradicts refuses a tenant header that names another tenant than the
// credential does.
func (t *Tenancy) contradicts(r *http.Request, tenant string) *refusal {
	for _, v := range t.named(r) {
		if v != tenant {
			return refuse(http.StatusForbidden, "the tenant header says %s, the credential is of tenant %s", quote(v), quote(tenant))
		}
	}
	return nil
}

// byHeader believes the tenant header; whoever stands in front of this node
// sets it.
func (t *Tenancy) byHeader(r *http.Request, otherwise string) (string, *refusal) {
	names := t.named(r)
	if len(names) == 0 {
		return otherwise, nil
	}
	for _, v := range names[1:] {
		if v != names[0] {
			return "", refuse(http.StatusBadRequest, "the tenant headers differ: %s and %s", quote(names[0]), quote(v))
		}
	}
	return names[0], nil
}

// named lists what the tenant headers say, the empty ones left out.
func (t *Tenancy) named(r *http.Request) []string {
	values := slices.Concat(r.Header.Values(t.header), r.Header.Values(scopeHeader))
	return slices.DeleteFunc(values, func(v string) bool { return v == "" })
}

// byCertificate reads the tenant from the client certificate that the listener
// has verified.
func (t *Tenancy) byCertificate(r *http.Request, field string) (string, *refusal) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return "", refuse(http.StatusUnauthorized, "no client certificate that this node could verify")
	}
	values, ok := certificateField(r.TLS.VerifiedChains[0][0], field)
	if !ok {
		return "", refuse(http.StatusServiceUnavailable, "tenant_certificate_field %s is not known to this version", quote(field))
	}
	switch len(values) {
	case 0:
		return "", refuse(http.StatusUnauthorized, "the client certificate has no %s", field)
	case 1:
		return values[0], t.contradicts(r, values[0])
	default:
		return "", refuse(http.StatusBadRequest, "the client certificate has %d values of %s: want one", len(values), field)
	}
}

// certificateField names a field as Thanos does.
func certificateField(cert *x509.Certificate, field string) ([]string, bool) {
	var values []string
	switch field {
	case "commonName", "":
		values = []string{cert.Subject.CommonName}
	case "organization":
		values = slices.Clone(cert.Subject.Organization)
	case "organizationalUnit":
		values = slices.Clone(cert.Subject.OrganizationalUnit)
	default:
		return nil, false
	}
	return slices.DeleteFunc(values, func(v string) bool { return v == "" }), true
}
