package cluster

import (
	"strings"
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

func TestSettings(t *testing.T) {
	h := created(t, 1, 1)
	s := DefaultSettings()
	s.TenantLabel, s.ReplicaLabel = "", "" // left out: as they are
	s.Maintenance, s.TenantAuth = true, clusterpb.TenantAuth_AUTH_HEADER
	s.Version = 99
	res := h.do(&clusterpb.PutSettings{Settings: s})
	got := h.state.Settings()
	if got.GetTenantLabel() != "tenant_id" || got.GetVersion() != h.rev || !got.GetMaintenance() || !res.Changed.Settings {
		t.Fatalf("settings %v", got)
	}
	for field, spoil := range map[string]func(*clusterpb.Settings){
		"tenant_label":             func(s *clusterpb.Settings) { s.TenantLabel = "other" },
		"replica_label":            func(s *clusterpb.Settings) { s.ReplicaLabel = "other" },
		"tenant_auth":              func(s *clusterpb.Settings) { s.TenantAuth = 9 },
		"tenant_certificate_field": func(s *clusterpb.Settings) { s.TenantAuth = clusterpb.TenantAuth_AUTH_CERTIFICATE },
		"default_tenant":           func(s *clusterpb.Settings) { s.DefaultTenant = "" },
		"max_tenants":              func(s *clusterpb.Settings) { s.MaxTenants = -1 },
		"dead_after":               func(s *clusterpb.Settings) { s.DeadAfterMs = 0 },
		"move_series_per_second":   func(s *clusterpb.Settings) { s.MoveSeriesPerSecond = 0 },
		"split_tenant_label":       func(s *clusterpb.Settings) { s.SplitTenantLabel = "__name__" },
		"tenant_defaults.limits.request_bytes": func(s *clusterpb.Settings) {
			s.TenantDefaults.Limits.RequestBytes = ref(int64(-1))
		},
	} {
		s := DefaultSettings()
		spoil(s)
		h.refused(clusterpb.Refusal_INVALID, field, &clusterpb.PutSettings{Settings: s})
	}
	h.refused(clusterpb.Refusal_INVALID, "settings", &clusterpb.PutSettings{})
	h.version(1).refused(clusterpb.Refusal_CONFLICT_VERSION, "version", &clusterpb.PutSettings{Settings: DefaultSettings()})
}

func TestTokens(t *testing.T) {
	h := created(t, 1, 1)
	person := func(id string, expires int64) *clusterpb.CreateToken {
		return &clusterpb.CreateToken{Token: &clusterpb.Token{Id: id, Role: clusterpb.TokenRole_ROLE_VIEWER, Hash: hashOf(id), ExpiresMs: expires}}
	}
	h.do(person("a", 0))
	h.do(person("b", h.now+hour))
	if tok := h.state.TokenByHash(hashOf("b")); tok.GetId() != "b" || tok.GetVersion() != h.rev || tok.GetCreatedMs() != h.now {
		t.Fatalf("token %v", tok)
	}
	h.refused(clusterpb.Refusal_EXISTS, "id", person("a", 0))
	same := person("c", 0)
	same.Token.Hash = hashOf("a")
	h.refused(clusterpb.Refusal_EXISTS, "id", same)
	for field, spoil := range map[string]func(*clusterpb.Token){
		"id":         func(t *clusterpb.Token) { t.Id = strings.Repeat("x", 64) },
		"hash":       func(t *clusterpb.Token) { t.Hash = []byte("the secret itself") },
		"role":       func(t *clusterpb.Token) { t.Role = 0 },
		"expires":    func(t *clusterpb.Token) { t.ExpiresMs = -1 },
		"bound_name": func(t *clusterpb.Token) { t.BoundName = "n1" },
	} {
		c := person("d", 0)
		spoil(c.Token)
		h.refused(clusterpb.Refusal_INVALID, field, c)
	}
	h.refused(clusterpb.Refusal_INVALID, "expires", nodeToken("eternal", 0))
	h.refused(clusterpb.Refusal_INVALID, "id", &clusterpb.CreateToken{})

	h.do(nodeToken("node", h.now+hour))
	bind := &clusterpb.BindToken{Id: "node", Name: "n2", KeyHash: hashOf("key")}
	v := h.do(bind).Version
	if again := h.do(bind).Version; again != v || h.state.Token("node").GetBoundName() != "n2" {
		t.Fatalf("bound at %d, again at %d: %v", v, again, h.state.Token("node"))
	}
	h.refused(clusterpb.Refusal_DENIED, "token", &clusterpb.BindToken{Id: "node", Name: "n3", KeyHash: hashOf("key")})
	h.refused(clusterpb.Refusal_DENIED, "token", &clusterpb.BindToken{Id: "node", Name: "n2", KeyHash: hashOf("other")})
	h.refused(clusterpb.Refusal_INVALID, "key_hash", &clusterpb.BindToken{Id: "node", Name: "n2"})

	h.do(&clusterpb.RevokeToken{Id: "a"})
	h.refused(clusterpb.Refusal_NOT_FOUND, "", &clusterpb.RevokeToken{Id: "a"})
	if h.state.TokenByHash(hashOf("a")) != nil || len(h.state.Tokens()) != 2 {
		t.Fatalf("tokens %v", h.state.Tokens())
	}
	h.now += day
	h.do(person("kept", 0))
	h.do(&clusterpb.Expire{TokensBeforeMs: h.now})
	if got := h.state.Tokens(); len(got) != 1 || got[0].GetId() != "kept" {
		t.Fatalf("tokens %v", got)
	}
}

func TestExpireTouchesThePastOnly(t *testing.T) {
	h := created(t, 1, 1)
	h.refused(clusterpb.Refusal_INVALID, "epochs_before", &clusterpb.Expire{EpochsBeforeMs: h.now + hour})
	h.refused(clusterpb.Refusal_INVALID, "tokens_before", &clusterpb.Expire{TokensBeforeMs: -1})
	before := objects(h.state)
	h.do(&clusterpb.Expire{EpochsBeforeMs: h.now, TombstonesBeforeMs: h.now, TokensBeforeMs: h.now})
	if after := objects(h.state); after != before {
		t.Fatalf("an expiry of nothing made\n%s\nof\n%s", after, before)
	}
}
