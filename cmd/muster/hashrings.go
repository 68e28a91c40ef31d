package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"slices"
	"strings"

	"github.com/muster-metrics/muster/cluster"
)

// hashring is one entry of a Thanos hashrings.json, all its fields.
type hashring struct {
	Name           string            `json:"hashring"`
	Tenants        []string          `json:"tenants"`
	Matcher        string            `json:"tenant_matcher_type"`
	Endpoints      []hashEndpoint    `json:"endpoints"`
	Algorithm      string            `json:"algorithm"`
	ExternalLabels map[string]string `json:"external_labels"`
	Shuffle        *struct {
		ShardSize    int  `json:"shard_size"`
		CacheSize    int  `json:"cache_size"`
		IgnoresZones bool `json:"zone_awareness_disabled"`
		Overrides    []struct {
			ShardSize int      `json:"shard_size"`
			Tenants   []string `json:"tenants"`
			Matcher   string   `json:"tenant_matcher_type"`
		} `json:"overrides"`
	} `json:"shuffle_sharding_config"`
}

// hashEndpoint is a receiver: its address alone, or with what belongs to it.
type hashEndpoint struct {
	Address   string `json:"address"`
	CapnProto string `json:"capnproto_address"`
	Zone      string `json:"az"`
}

func (e *hashEndpoint) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '"' {
		return json.Unmarshal(raw, &e.Address)
	}
	type plain hashEndpoint // without this method
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode((*plain)(e))
}

// parseHashrings reads a hashrings.json; a field that nobody knows is an error,
// since it may mean something.
func parseHashrings(raw []byte) ([]hashring, error) {
	var rings []hashring
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&rings); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more follows after the list of hashrings")
	}
	if len(rings) == 0 {
		return nil, errors.New("there is no hashring in it")
	}
	return rings, nil
}

// knownNode is a member as an endpoint may name it.
type knownNode struct {
	Name         string `json:"name"`
	Address      string `json:"address"`
	StoreAddress string `json:"store_address"`
	Zone         string `json:"zone"`
	State        string `json:"state"`
}

// translation is a hashrings.json in rings of ours.
type translation struct {
	rings []ringObject
	notes []string // what is otherwise here, or has no counterpart
}

func (t *translation) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// translator is what a translation needs to know of the cluster.
type translator struct {
	nodes  []knownNode
	named  map[string]string // endpoint -> node, as the operator says
	factor int
}

// translate makes rings of hashrings. Thanos takes the first hashring in the
// file that matches a tenant, one without tenants matching all; here names win
// over patterns and the longest literal beginning among these: where that
// differs, it is said.
func (tr *translator) translate(rings []hashring) (*translation, error) {
	t := &translation{}
	var problems []error
	claimed := map[string]string{} // tenant or pattern -> ring
	catchAll := ""
	rings = slices.Clone(rings)
	for i := range rings {
		h := &rings[i]
		if h.Name == "" {
			h.Name = fmt.Sprintf("hashring-%d", i)
			t.note("the %s hashring has no name: it becomes %s", ordinal(i+1), h.Name)
		}
		name := h.Name
		if catchAll != "" {
			t.note("%s stands behind %s, which takes every tenant: Thanos never reaches it, here its tenants are its own", name, catchAll)
		}
		if len(h.Tenants) == 0 {
			if catchAll != "" {
				t.note("%s takes every tenant as %s does: left out", name, catchAll)
				continue
			}
			catchAll = name
			if name != cluster.DefaultRing {
				t.note("%s takes every tenant: that is ring %s here", name, cluster.DefaultRing)
				name = cluster.DefaultRing
			}
		}
		o := ringObject{Name: name, ReplicationFactor: tr.factor, WriteQuorum: "majority"}
		var errs [2]error
		o.Tenants, errs[0] = t.tenants(name, *h, claimed)
		o.Nodes, errs[1] = tr.place(t, name, h.Endpoints)
		if len(h.Tenants) > 0 && len(o.Tenants) == 0 && errs[0] == nil {
			t.note("%s has no tenant left: left out", name)
			continue
		}
		problems = append(problems, errs[:]...)
		t.lost(name, *h)
		t.rings = append(t.rings, o)
	}
	t.overlaps(rings, claimed)
	return t, errors.Join(problems...)
}

func ordinal(n int) string {
	switch {
	case n%100 >= 11 && n%100 <= 13:
	case n%10 == 1:
		return fmt.Sprintf("%dst", n)
	case n%10 == 2:
		return fmt.Sprintf("%dnd", n)
	case n%10 == 3:
		return fmt.Sprintf("%drd", n)
	}
	return fmt.Sprintf("%dth", n)
}

// tenants are those that the ring claims and no ring before it does.
func (t *translation) tenants(name string, h hashring, claimed map[string]string) ([]string, error) {
	glob := h.Matcher == "glob"
	if !glob && h.Matcher != "" && h.Matcher != "exact" {
		return nil, fmt.Errorf("%s: tenant_matcher_type %q: want exact or glob", name, h.Matcher)
	}
	var out []string
	for _, tenant := range h.Tenants {
		if glob {
			if _, err := path.Match(tenant, ""); err != nil {
				return nil, fmt.Errorf("%s: pattern %q: %w", name, tenant, err)
			}
		} else if !cluster.ValidTenantID(tenant) {
			return nil, fmt.Errorf("%s: tenant %q: muster takes letters, digits and ._:@=+- only; for a pattern the file wants \"tenant_matcher_type\": \"glob\"", name, tenant)
		}
		if before, taken := claimed[tenant]; taken {
			if before != name {
				t.note("%s: tenant %s is %s's already, which Thanos finds first: left out", name, tenant, before)
			}
			continue
		}
		claimed[tenant] = name
		out = append(out, tenant)
	}
	return out, nil
}

// place are the nodes of the endpoints.
func (tr *translator) place(t *translation, name string, endpoints []hashEndpoint) ([]string, error) {
	var nodes []string
	var problems []error
	for _, e := range endpoints {
		n, err := tr.node(e.Address)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
			continue
		}
		if slices.Contains(nodes, n.Name) {
			problems = append(problems, fmt.Errorf("%s: endpoint %s is node %s, as another one is", name, e.Address, n.Name))
			continue
		}
		nodes = append(nodes, n.Name)
		if e.Zone != "" && e.Zone != n.Zone {
			t.note("%s: endpoint %s has the az %s, node %s the zone %q: `muster cluster set %s --zone %s` changes it", name, e.Address, e.Zone, n.Name, n.Zone, n.Name, e.Zone)
		}
		if e.CapnProto != "" {
			t.note("%s: capnproto_address of %s: nodes speak over their member door", name, e.Address)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if len(nodes) < tr.factor {
		return nil, fmt.Errorf("%s has %d endpoints for replication factor %d", name, len(nodes), tr.factor)
	}
	return nodes, nil
}

// node is the one that an endpoint means: as the operator says, else the one with
// that store address or name, else the only one on that host.
func (tr *translator) node(endpoint string) (knownNode, error) {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		host = endpoint
	}
	want, told := tr.named[endpoint]
	var onHost []knownNode
	for _, n := range tr.nodes {
		if told && n.Name == want || !told && (n.StoreAddress == endpoint || n.Name == host) {
			return n, nil
		}
		if h, _, err := net.SplitHostPort(n.Address); err == nil && h == host {
			onHost = append(onHost, n)
		}
	}
	switch {
	case told:
		return knownNode{}, fmt.Errorf("endpoint %s: %s is no member", endpoint, want)
	case len(onHost) == 1:
		return onHost[0], nil
	default:
		return knownNode{}, fmt.Errorf("endpoint %s is no member's address: say which node it becomes, --node %s=NODE", endpoint, endpoint)
	}
}

// lost names what has no counterpart.
func (t *translation) lost(name string, h hashring) {
	if h.Algorithm != "" {
		t.note("%s: algorithm %s: slots are a committed table here", name, h.Algorithm)
	}
	if len(h.ExternalLabels) > 0 {
		t.note("%s: external_labels have no counterpart: blocks carry the tenant's and the replica's label", name)
	}
	if h.Shuffle != nil {
		t.note("%s: shuffle_sharding_config (shard_size %d) has no counterpart: a tenant that shall keep to few nodes gets a ring of its own", name, h.Shuffle.ShardSize)
	}
}

// overlaps names the tenants that Thanos gives to an earlier pattern and we to
// the name in a later ring, and patterns for which it may be so.
func (t *translation) overlaps(rings []hashring, claimed map[string]string) {
	for i, early := range rings {
		if early.Matcher != "glob" {
			continue
		}
		for _, late := range rings[i+1:] {
			for _, pattern := range early.Tenants {
				if claimed[pattern] == early.Name {
					t.overlap(early.Name, pattern, late, claimed)
				}
			}
		}
	}
}

func (t *translation) overlap(ring, pattern string, late hashring, claimed map[string]string) {
	for _, tenant := range late.Tenants {
		if claimed[tenant] != late.Name {
			continue // left out
		}
		if late.Matcher != "glob" {
			if ok, _ := path.Match(pattern, tenant); ok {
				t.note("tenant %s: Thanos gives it to %s, whose pattern %s stands first; here its name in %s wins", tenant, ring, pattern, late.Name)
			}
			continue
		}
		if a, b := literal(pattern), literal(tenant); strings.HasPrefix(b, a) && len(b) > len(a) {
			t.note("pattern %s of %s is closer than %s of %s, which Thanos finds first: tenants that both match are %s's here", tenant, late.Name, pattern, ring, late.Name)
		}
	}
}

// literal is the beginning of a pattern that means itself.
func literal(pattern string) string {
	if i := strings.IndexAny(pattern, `*?[\`); i >= 0 {
		return pattern[:i]
	}
	return pattern
}
