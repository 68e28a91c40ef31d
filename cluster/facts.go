package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// fact is a field of an object as the events tell it, under the name that the
// admin API gives it. What is listed here is all that events know of objects:
// secrets, their hashes and slot tables are never among it.
type fact struct {
	field string
	value string // "" for none
	list  []string
}

func tenantFacts(t *clusterpb.Tenant) []fact {
	if t == nil {
		return nil
	}
	facts := append([]fact{{field: "state", value: stateText(t.GetState())}}, specFacts("", t.GetSpec())...)
	var tokens []string
	for _, tok := range t.GetTokens() {
		tokens = append(tokens, tok.GetId())
	}
	return append(facts, fact{field: "tokens", list: tokens})
}

func specFacts(prefix string, s *clusterpb.TenantSpec) []fact {
	var facts []fact
	for _, f := range specFields(s) {
		value := ""
		switch {
		case f.value == nil:
		case strings.HasPrefix(f.name, "limits."):
			value = strconv.FormatInt(*f.value, 10)
		default:
			value = spanText(*f.value)
		}
		facts = append(facts, fact{field: prefix + f.name, value: value})
	}
	return append(facts, fact{field: prefix + "relabel", list: ruleTexts(s.GetRelabel())})
}

func ringFacts(r *clusterpb.Ring) []fact {
	if r == nil {
		return nil
	}
	return []fact{
		{field: "tenants", list: r.GetTenants()},
		{field: "replication_factor", value: strconv.FormatUint(uint64(r.GetReplicationFactor()), 10)},
		{field: "write_quorum", value: modeOf(r.GetWriteQuorum()).String()},
		{field: "nodes", list: r.GetNodes()},
	}
}

func memberFacts(m *clusterpb.Member) []fact {
	if m == nil {
		return nil
	}
	return []fact{
		{field: "state", value: strings.ToLower(m.GetState().String())},
		{field: "weight", value: strconv.FormatUint(uint64(m.GetWeight()), 10)},
		{field: "zone", value: m.GetZone()},
		{field: "address", value: m.GetAddress()},
		{field: "http_address", value: m.GetHttpAddress()},
		{field: "write_address", value: m.GetWriteAddress()},
		{field: "store_address", value: m.GetStoreAddress()},
		{field: "store", value: strconv.FormatUint(uint64(m.GetStore()), 10)},
	}
}

func settingsFacts(s *clusterpb.Settings) []fact {
	if s == nil {
		return nil
	}
	return append([]fact{
		{field: "default_tenant", value: s.GetDefaultTenant()},
		{field: "tenant_label", value: s.GetTenantLabel()},
		{field: "replica_label", value: s.GetReplicaLabel()},
		{field: "tenant_auth", value: strings.ToLower(strings.TrimPrefix(s.GetTenantAuth().String(), "AUTH_"))},
		{field: "tenant_certificate_field", value: s.GetTenantCertificateField()},
		{field: "split_tenant_label", value: s.GetSplitTenantLabel()},
		{field: "auto_create_tenants", value: strconv.FormatBool(s.GetAutoCreateTenants())},
		{field: "max_tenants", value: strconv.FormatInt(s.GetMaxTenants(), 10)},
		{field: "dead_after", value: spanText(s.GetDeadAfterMs())},
		{field: "maintenance", value: strconv.FormatBool(s.GetMaintenance())},
		{field: "move_series_per_second", value: strconv.FormatInt(s.GetMoveSeriesPerSecond(), 10)},
	}, specFacts("tenant_defaults.", s.GetTenantDefaults())...)
}

func tokenFacts(t *clusterpb.Token) []fact {
	if t == nil {
		return nil
	}
	expires := "never"
	if t.GetExpiresMs() != 0 {
		expires = time.UnixMilli(t.GetExpiresMs()).UTC().Format(time.RFC3339)
	}
	return []fact{
		{field: "role", value: roleText(t.GetRole())},
		{field: "expires", value: expires},
		{field: "used_by", value: t.GetBoundName()},
	}
}

// spanText is a duration as people write it: 15d.
func spanText(ms int64) string {
	return model.Duration(time.Duration(ms) * time.Millisecond).String()
}

// differ tells the event what of an object is different: facts of it before
// and after, none where it does not exist.
func (e *edit) differ(what, name string, before, after []fact) {
	for i := range max(len(before), len(after)) {
		var was, is fact
		if i < len(before) {
			was = before[i]
		}
		if i < len(after) {
			is = after[i]
		}
		c := &clusterpb.FieldChange{Field: cmp.Or(is.field, was.field), Before: was.value, After: is.value}
		if was.list != nil || is.list != nil {
			c.Before, c.After = listChange(was.list, is.list)
		}
		if c.GetBefore() != c.GetAfter() {
			e.changes = append(e.changes, objectChange{what, name, c})
		}
	}
}

// objectChange is a change of a field, and whose.
type objectChange struct {
	what, name string
	change     *clusterpb.FieldChange
}

// maxFact bounds a value in an event, in bytes.
const maxFact = 200

// listChange shows two short lists as they are, and of long ones what only one
// of them has.
func listChange(was, is []string) (before, after string) {
	before, after = strings.Join(was, ","), strings.Join(is, ",")
	if len(before) <= maxFact && len(after) <= maxFact {
		return before, after
	}
	return only("-", was, is), only("+", is, was)
}

// only lists with a sign what a has and b has not.
func only(sign string, a, b []string) string {
	other := make(map[string]bool, len(b))
	for _, s := range b {
		other[s] = true
	}
	own := slices.DeleteFunc(slices.Clone(a), func(s string) bool { return other[s] })
	var out strings.Builder
	for i, s := range own {
		if out.Len()+len(s)+2 > maxFact-20 {
			fmt.Fprintf(&out, " and %d more", len(own)-i)
			break
		}
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString(sign + s)
	}
	return out.String()
}

// moveFacts are what events tell of a ring's move.
func moveFacts(m *clusterpb.Move) []fact {
	value := ""
	switch {
	case m.GetCancelled() != 0:
		value = "cancelled: " + causeText(m)
	case m != nil:
		value = causeText(m)
	}
	return []fact{{field: "move", value: value}}
}
