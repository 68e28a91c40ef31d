package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

func serialOf(n int) string { return fmt.Sprintf("%032x", n+1) }

// issue is the record of a reader's certificate.
func issue(serial, tenant string, expires int64) *clusterpb.IssueCertificate {
	return &clusterpb.IssueCertificate{Certificate: &clusterpb.IssuedCertificate{
		Serial: serial, Role: "reader", Name: "thanos", Tenant: tenant, KeyHash: hashOf("reader's key"), ExpiresMs: expires,
	}}
}

func TestAReaderIsOnRecordUntilItIsRevokedOrItsTenantIsGone(t *testing.T) {
	h := created(t, 2, 3)
	h.do(&clusterpb.PutTenant{Id: "a"})
	h.do(issue(serialOf(2), "", h.now+day))
	h.do(issue(serialOf(1), "a", h.now+day))
	all := pki.Identity{Cluster: "c", Role: "reader", Name: "thanos"}
	bound := all
	bound.Tenant = "a"
	vouches := func(id pki.Identity, serial, key, want string) {
		t.Helper()
		err := h.state.Vouches(id, serial, hashOf(key))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, serial %s: %v, want %q", id, serial, err, want)
		}
	}
	const key = "reader's key"
	vouches(all, serialOf(2), key, "")
	vouches(bound, serialOf(1), key, "")
	vouches(all, serialOf(1), key, "differs") // the bound one's record
	vouches(all, serialOf(2), "another", "differs")
	vouches(all, serialOf(3), key, "not on record")
	writer := all
	writer.Role = "writer"
	vouches(writer, serialOf(2), key, "differs")

	// Another tenant of that name is not the one that it was bound to.
	h.do(&clusterpb.DeleteTenant{Id: "a"})
	vouches(bound, serialOf(1), key, "was deleted")
	h.do(&clusterpb.PutTenant{Id: "a"})
	vouches(bound, serialOf(1), key, "was deleted")

	h.do(&clusterpb.RevokeCertificate{Serial: serialOf(2)})
	vouches(all, serialOf(2), key, "revoked")
	h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.RevokeCertificate{Serial: serialOf(2)})

	h.now += 2 * day
	h.do(&clusterpb.Expire{})
	if left := h.state.Cluster().GetIssued(); len(left) != 0 {
		t.Errorf("left is %v", left)
	}
}

func TestIssueRefusesByField(t *testing.T) {
	h := created(t, 1, 1)
	h.do(issue(serialOf(1), "", h.now+day))
	h.refused(clusterpb.Refusal_EXISTS, "serial", issue(serialOf(1), "", h.now+day))
	h.refused(clusterpb.Refusal_NOT_FOUND, "", issue(serialOf(2), "nobody", h.now+day))
	for field, spoil := range map[string]func(*clusterpb.IssuedCertificate){
		"serial":   func(i *clusterpb.IssuedCertificate) { i.Serial = "1" },
		"role":     func(i *clusterpb.IssuedCertificate) { i.Role = "node" },
		"name":     func(i *clusterpb.IssuedCertificate) { i.Name = "a/b" },
		"tenant":   func(i *clusterpb.IssuedCertificate) { i.Tenant = "../x" },
		"key_hash": func(i *clusterpb.IssuedCertificate) { i.KeyHash = nil },
		"ttl":      func(i *clusterpb.IssuedCertificate) { i.ExpiresMs = h.now },
	} {
		c := issue(serialOf(2), "", h.now+day)
		spoil(c.Certificate)
		h.refused(clusterpb.Refusal_INVALID, field, c)
	}
	h.refused(clusterpb.Refusal_INVALID, "ttl", issue(serialOf(2), "", h.now+11*365*day))
	h.refused(clusterpb.Refusal_INVALID, "serial", &clusterpb.IssueCertificate{})
	for i := range maxIssued - 1 {
		h.do(issue(serialOf(i+10), "", h.now+day))
	}
	h.refused(clusterpb.Refusal_LIMIT, "name", issue(serialOf(5), "", h.now+day))
	h.now += 2 * day // they have run out, and make room
	h.do(issue(serialOf(5), "", h.now+day))
	if n := len(h.state.Cluster().GetIssued()); n != 1 {
		t.Errorf("%d records", n)
	}
}

func TestACARotationIsBegunOnceAndFinishedWhenAsked(t *testing.T) {
	h := created(t, 1, 1)
	old := string(h.state.Cluster().GetCaCertificates())
	h.refused(clusterpb.Refusal_INVALID, "ca_certificates", &clusterpb.RotateCA{})
	h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.RetireCA{})
	h.do(issue(serialOf(1), "", h.now+day))
	begun := h.do(&clusterpb.RotateCA{CaCertificates: []byte(old + "new")}).Version
	h.refused(clusterpb.Refusal_EXISTS, "", &clusterpb.RotateCA{CaCertificates: []byte("other")})
	h.do(&clusterpb.RotateCA{CaCertificates: []byte(old + "new2"), Again: true})
	h.refused(clusterpb.Refusal_UNSAFE, "", &clusterpb.RetireCA{Drop: true, CaCertificates: []byte("new2")})
	h.version(int64(begun)).refused(clusterpb.Refusal_CONFLICT_VERSION, "version", &clusterpb.RetireCA{})
	h.do(&clusterpb.RetireCA{})
	h.do(&clusterpb.RetireCA{}) // harmless
	h.refused(clusterpb.Refusal_INVALID, "ca_certificates", &clusterpb.RetireCA{Drop: true})
	h.do(issue(serialOf(2), "", h.now+day))
	h.do(&clusterpb.RetireCA{Drop: true, CaCertificates: []byte("new2")})
	if h.state.Issued(serialOf(1)) != nil || h.state.Issued(serialOf(2)) == nil {
		t.Errorf("issued are %v, want those that the new CA has signed", h.state.Cluster().GetIssued())
	}
	if c := h.state.Cluster(); string(c.GetCaCertificates()) != "new2" || c.GetCaRotation() != nil {
		t.Errorf("cluster %v", c)
	}
}

// A deleted tenant's tokens say so as long as its tombstone stands, and belong
// to nobody once the tenant is created again.
func TestTokensOfADeletedTenantAreRemembered(t *testing.T) {
	h := created(t, 1, 1)
	token := &clusterpb.CreateTenantToken{Tenant: "a", Token: &clusterpb.TenantToken{Id: "t", Hash: hashOf("t")}}
	h.do(&clusterpb.PutTenant{Id: "a"})
	h.do(token)
	if h.state.DeletedByToken(hashOf("t")) != nil || h.state.TenantByToken(hashOf("t")) == nil {
		t.Error("the token of a living tenant")
	}
	h.do(&clusterpb.DeleteTenant{Id: "a"})
	if h.state.DeletedByToken(hashOf("t")).GetTenant() != "a" || h.state.TenantByToken(hashOf("t")) != nil {
		t.Error("the token of a deleted tenant is not known as such")
	}
	h.do(&clusterpb.PutTenant{Id: "a"})
	if h.state.DeletedByToken(hashOf("t")) != nil || h.state.TenantByToken(hashOf("t")) != nil {
		t.Error("the token came back with the name")
	}
	h.do(token)
	h.do(&clusterpb.DeleteTenant{Id: "a"})
	h.now += 31 * day
	h.do(&clusterpb.Expire{TombstonesBeforeMs: h.now - 30*day})
	if h.state.DeletedByToken(hashOf("t")) != nil || h.state.tenantHashes.Len() != 0 {
		t.Errorf("%d hashes are left when the tombstone is gone", h.state.tenantHashes.Len())
	}
}

func TestTenantTokensExpire(t *testing.T) {
	h := created(t, 1, 1)
	h.do(&clusterpb.PutTenant{Id: "a"})
	token := func(id string, expires int64) *clusterpb.CreateTenantToken {
		return &clusterpb.CreateTenantToken{Tenant: "a", Token: &clusterpb.TenantToken{Id: id, Hash: hashOf(id), ExpiresMs: expires}}
	}
	h.refused(clusterpb.Refusal_INVALID, "expires", token("past", h.now))
	h.refused(clusterpb.Refusal_INVALID, "expires", token("never", -1))
	h.do(token("short", h.now+hour))
	h.do(token("long", 0))
	h.now += 2 * hour
	h.do(&clusterpb.Expire{TokensBeforeMs: h.now - day})
	if n := len(h.state.Tenant("a").GetTokens()); n != 2 {
		t.Errorf("%d tokens: an expired one is told apart from an unknown one for a day", n)
	}
	h.now += day
	h.do(&clusterpb.Expire{TokensBeforeMs: h.now - day})
	if left := h.state.Tenant("a").GetTokens(); len(left) != 1 || left[0].GetId() != "long" || h.state.TenantByToken(hashOf("short")) != nil {
		t.Errorf("tokens %v", left)
	}
}
