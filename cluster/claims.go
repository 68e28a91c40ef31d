package cluster

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// claims says which ring a tenant belongs to: an exact name wins, then the
// pattern with the longest literal beginning, then the longest, then the first
// in byte order; the ring that claims nobody takes the rest.
type claims struct {
	exact map[string]*Ring
	globs []glob // best first
	rest  *Ring
}

type glob struct {
	pattern string
	literal int // bytes before the first character with a meaning
	ring    *Ring
}

// claimsOf reads the patterns of the rings that are not deleted.
func claimsOf(rings []*Ring) *claims {
	c := &claims{exact: map[string]*Ring{}}
	for _, r := range rings {
		if r.Deleted() {
			continue
		}
		if len(r.Spec.GetTenants()) == 0 {
			c.rest = r
		}
		for _, p := range r.Spec.GetTenants() {
			if n := literalLen(p); n < len(p) {
				c.globs = append(c.globs, glob{p, n, r})
			} else {
				c.exact[p] = r
			}
		}
	}
	slices.SortFunc(c.globs, func(a, b glob) int {
		return cmp.Or(-cmp.Compare(a.literal, b.literal), -cmp.Compare(len(a.pattern), len(b.pattern)),
			strings.Compare(a.pattern, b.pattern))
	})
	return c
}

// of is the ring that claims the tenant; nil where none does.
func (c *claims) of(tenant string) *Ring {
	if r := c.exact[tenant]; r != nil {
		return r
	}
	for i := range c.globs {
		if ok, err := path.Match(c.globs[i].pattern, tenant); ok && err == nil {
			return c.globs[i].ring
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
func (s *State) RouteOf(tenant string) *Ring { return s.claims.of(tenant) }
