package cluster

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// claims says which ring a tenant belongs to: an exact name wins, then the
// pattern with the longest literal beginning, then the longest, then the first
// in byte order; the ring that claims nobody takes the rest. Rings stand in it
// by their ids, so that it outlives changes of their slots.
type claims struct {
	exact map[string]claim
	// globs by their literal beginnings, each list best first, so that a tenant
	// is compared with those only that begin as it does.
	globs   map[string][]claim
	lengths []int // of the literal beginnings, the longest first
	rest    claim
}

// claim is one name or pattern, and whose it is; ring 0 is none.
type claim struct {
	pattern string
	ring    uint64
}

// claimsOf reads the patterns of the rings that are not deleted.
func claimsOf(rings []*Ring) *claims {
	c := &claims{exact: map[string]claim{}, globs: map[string][]claim{}}
	for _, r := range rings {
		if r.Deleted() {
			continue
		}
		id := r.Spec.GetId()
		if len(r.Spec.GetTenants()) == 0 {
			c.rest = claim{ring: id}
		}
		for _, p := range r.Spec.GetTenants() {
			n := literalLen(p)
			if n == len(p) {
				c.exact[p] = claim{p, id}
				continue
			}
			c.globs[p[:n]] = append(c.globs[p[:n]], claim{p, id})
		}
	}
	for literal, list := range c.globs {
		slices.SortFunc(list, func(a, b claim) int {
			return cmp.Or(-cmp.Compare(len(a.pattern), len(b.pattern)), strings.Compare(a.pattern, b.pattern))
		})
		if !slices.Contains(c.lengths, len(literal)) {
			c.lengths = append(c.lengths, len(literal))
		}
	}
	slices.SortFunc(c.lengths, func(a, b int) int { return b - a })
	return c
}

// of is what claims the tenant: its name, a pattern, or "" of the ring that takes
// the rest; ring 0 where none does.
func (c *claims) of(tenant string) claim {
	if own, ok := c.exact[tenant]; ok {
		return own
	}
	for _, n := range c.lengths {
		if n > len(tenant) {
			continue
		}
		for _, g := range c.globs[tenant[:n]] {
			if ok, err := path.Match(g.pattern, tenant); ok && err == nil {
				return g
			}
		}
	}
	return c.rest
}

// literalLen is the length of the pattern's beginning that stands for itself.
func literalLen(pattern string) int {
	if i := strings.IndexAny(pattern, `*?[\`); i >= 0 {
		return i
	}
	return len(pattern)
}

// RouteOf is the ring that claims the tenant by the patterns, whether it
// exists or not; nil where no ring does.
func (s *State) RouteOf(tenant string) *Ring {
	r, _ := s.ClaimOf(tenant)
	return r
}

// ClaimOf is the ring that claims the tenant, and the name or the pattern by
// which it does: "" where it takes every tenant that no other ring claims.
func (s *State) ClaimOf(tenant string) (*Ring, string) {
	c := s.claims.of(tenant)
	if c.ring == 0 {
		return nil, ""
	}
	return s.RingByID(c.ring), c.pattern
}

// claimAlike says whether two versions of a ring, nil for none, claim the same.
func claimAlike(a, b *clusterpb.Ring) bool {
	gone := func(r *clusterpb.Ring) bool { return r == nil || r.GetDeleted() != 0 }
	return gone(a) == gone(b) && (gone(a) || slices.Equal(a.GetTenants(), b.GetTenants()))
}
