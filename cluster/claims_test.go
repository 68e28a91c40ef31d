package cluster

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// claimed says by a list of all patterns, sorted as the rules are told, and by
// regular expressions, whose the tenant is: nothing of it is shared with claims.
func claimed(s *State, tenant string) string {
	type own struct{ pattern, ring string }
	var matching []own
	rest := ""
	for _, r := range s.Rings() {
		if len(r.Spec.GetTenants()) == 0 {
			rest = r.Spec.GetName()
		}
		for _, p := range r.Spec.GetTenants() {
			if p == tenant && !strings.ContainsAny(p, `*?[\`) {
				return r.Spec.GetName()
			}
			if asRegexp(p).MatchString(tenant) {
				matching = append(matching, own{p, r.Spec.GetName()})
			}
		}
	}
	if len(matching) == 0 {
		return rest
	}
	beginning := regexp.MustCompile(`^[^*?[\\]*`)
	slices.SortFunc(matching, func(a, b own) int {
		if x, y := len(beginning.FindString(a.pattern)), len(beginning.FindString(b.pattern)); x != y {
			return y - x
		}
		if len(a.pattern) != len(b.pattern) {
			return len(b.pattern) - len(a.pattern)
		}
		return strings.Compare(a.pattern, b.pattern)
	})
	return matching[0].ring
}

// asRegexp is a pattern of path.Match in another language.
func asRegexp(pattern string) *regexp.Regexp {
	var out strings.Builder
	class := false
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\' && i+1 < len(pattern):
			i++
			out.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		case class:
			class = c != ']'
			out.WriteByte(c)
		case c == '[':
			class = true
			out.WriteByte(c)
		case c == '*':
			out.WriteString(`[^/]*`)
		case c == '?':
			out.WriteString(`[^/]`)
		default:
			out.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	return regexp.MustCompile("^(?:" + out.String() + ")$")
}

func nameOf(r *Ring) string {
	if r == nil {
		return ""
	}
	return r.Spec.GetName()
}

// TestRoutesAreTheOraclesThroughAllChanges: whatever is done to rings, every
// tenant is where the rules say, those that come later as well; a route's
// revision changes with its ring and never otherwise, and the tenants that
// changed are the ones that watchers hear of: no other one's writes are stale.
func TestRoutesAreTheOraclesThroughAllChanges(t *testing.T) {
	patterns := []string{"a", "b", "ab", "ba-1", "a*", "b*", "*", "?", "a?", "?b", "[ab]*", "[^a]*", "a[a-b]", `\a`, "*-1", "b*-1", "ba*", "*b"}
	tenants := []string{"a", "b", "c", "aa", "ab", "ba", "bb", "ba-1", "bc-1", "a-1", "c-1", "abab"}
	names := []string{DefaultRing, "one", "two", "three"}
	applied := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		h := created(t, 1, 1)
		for _, id := range tenants {
			h.do(&clusterpb.PutTenant{Id: id})
		}
		ring := func(name string) *clusterpb.PutRing {
			put := &clusterpb.PutRing{Name: name, ReplicationFactor: 1, Slots: 8}
			if name != DefaultRing || rapid.IntRange(0, 4).Draw(rt, "default claims") == 0 {
				put.Tenants = rapid.SliceOfNDistinct(rapid.SampledFrom(patterns), 1, 4, rapid.ID).Draw(rt, "claims")
			}
			return put
		}
		draw := func() proto.Message {
			switch rapid.IntRange(0, 5).Draw(rt, "kind") {
			case 0, 1, 2:
				return ring(sampled(rt, "ring", names...))
			case 3:
				return &clusterpb.DeleteRing{Name: sampled(rt, "ring", names...)}
			case 4:
				return &clusterpb.MoveTenant{Tenant: sampled(rt, "tenant", tenants...), Ring: sampled(rt, "ring", names...), DeleteEmptied: rapid.Bool().Draw(rt, "emptied")}
			default:
				c := &clusterpb.PutRings{}
				for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 3, rapid.ID).Draw(rt, "rings") {
					c.Rings = append(c.Rings, &clusterpb.RestoredRing{
						Ring: ring(name), Version: ringVersion(h.state.Ring(name)), Delete: h.state.Ring(name) != nil && rapid.IntRange(0, 3).Draw(rt, "gone") == 0,
					})
				}
				return c
			}
		}
		for range rapid.IntRange(1, 12).Draw(rt, "changes") {
			before := h.state
			change := draw()
			h.rev, h.now = h.rev+1, h.now+1
			cmd := withTime(command(change), h.now)
			before.Place(cmd)
			next, res := before.Apply(h.rev, cmd)
			h.state = next
			if res.Refusal == nil {
				applied[string(change.ProtoReflect().Descriptor().Name())]++
				if c, ok := change.(*clusterpb.PutRings); ok {
					for _, r := range c.GetRings() {
						if is := next.Ring(r.GetRing().GetName()); (is == nil) != r.GetDelete() || is != nil && !slices.Equal(is.Spec.GetTenants(), r.GetRing().GetTenants()) {
							rt.Fatalf("of %v there is %v", r, is)
						}
					}
				}
			}
			changed := map[string]bool{}
			for _, id := range tenants {
				was, is := before.Tenant(id), next.Tenant(id)
				want := claimed(next, id)
				if got := nameOf(next.RingByID(is.GetRoute().GetRing())); got != want || nameOf(next.RouteOf(id)) != want {
					rt.Fatalf("%s goes to %q and is %q's, the rules say %q", id, got, nameOf(next.RouteOf(id)), want)
				}
				moved := was.GetRoute().GetRing() != is.GetRoute().GetRing()
				if moved != (is.GetRoute().GetFrom() == h.rev) || !moved && !proto.Equal(was, is) {
					rt.Fatalf("%s, moved %v: %v then %v", id, moved, was, is)
				}
				if moved {
					changed[id] = true
				}
			}
			if got := slices.Sorted(slices.Values(res.Changed.Tenants)); res.Changed.AllTenants || !slices.Equal(slices.Compact(got), slices.Sorted(maps.Keys(changed))) {
				rt.Fatalf("told are %v, changed %v", got, changed)
			}
		}
		// A tenant that nobody had seen goes where the rules say.
		late := rapid.StringMatching(`[abc][abc1-]{0,4}`).Draw(rt, "late")
		if h.state.Tenant(late) == nil {
			h.do(&clusterpb.PutTenant{Id: late, Automatic: true})
			if got, want := nameOf(h.state.RingByID(h.state.Tenant(late).GetRoute().GetRing())), claimed(h.state, late); got != want {
				rt.Fatalf("%s came to %q, the rules say %q", late, got, want)
			}
		}
		checkSound(t, h.state)
	})
	for _, kind := range []string{"PutRing", "DeleteRing", "MoveTenant", "PutRings"} {
		if applied[kind] == 0 {
			t.Errorf("no %s was ever taken", kind)
		}
	}
}

// BenchmarkClaims is what a ring's change costs by how many tenants and
// patterns there are, and how many tenants it moves.
func BenchmarkClaims(b *testing.B) {
	s := large(b, 3, 100_000)
	do := func(change proto.Message) {
		b.Helper()
		cmd := withTime(command(change), testTime)
		s.Place(cmd)
		var res Result
		if s, res = s.Apply(s.Revision()+1, cmd); res.Refusal != nil {
			b.Fatal(res.Refusal)
		}
	}
	many := make([]string, maxPatterns)
	for i := range many {
		many[i] = fmt.Sprintf("t%d*-x", i)
	}
	do(&clusterpb.PutRing{Name: "patterns", Tenants: many, ReplicationFactor: 2, Slots: 64})
	for _, c := range []struct {
		name   string
		tenant []string
	}{{"none moves", []string{"nobody-*"}}, {"one moves", []string{"tenant-1"}}, {"all move", []string{"tenant-*"}}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			start := s
			for b.Loop() {
				s = start
				do(&clusterpb.PutRing{Name: "hard", Tenants: c.tenant, ReplicationFactor: 2, Slots: 64})
			}
			s = start
		})
	}
}
