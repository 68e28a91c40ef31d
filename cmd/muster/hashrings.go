package main

import (
	"encoding/json"
	"errors"
	"fmt"
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
	return json.Unmarshal(raw, (*plain)(e))
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
	rings  []ringObject      // those that the cluster has
	factor int               // of rings that the cluster does not have
	// sole is the operator's word: the factor is also that of rings it has.
	sole bool
}

// factorOf is a ring's replication factor, of which the file does not speak.
func (tr *translator) factorOf(name string) int {
	i := slices.IndexFunc(tr.rings, func(r ringObject) bool { return r.Name == name })
	if tr.sole || i < 0 {
		return tr.factor
	}
	return tr.rings[i].ReplicationFactor
}

// catchAll is the cluster's ring that takes the tenants that no other claims.
func (tr *translator) catchAll() string {
	for _, r := range tr.rings {
		if len(r.Tenants) == 0 {
			return r.Name
		}
	}
	return cluster.DefaultRing
}

// translate makes rings of hashrings. Thanos takes the first hashring in the
// file that matches a tenant, one without tenants matching all; here names win
// over patterns and the longest literal beginning among these. What Thanos never
// reaches is left out, and a file of which tenants would go elsewhere here is
// refused.
func (tr *translator) translate(file []hashring) (*translation, error) {
	t := &translation{}
	names, err := tr.name(t, file)
	if err != nil {
		return nil, err
	}
	var problems []error
	var routes []hashroute // of all that are taken over
	soft := -1
	for i, h := range file {
		switch name := names[i]; {
		case soft >= 0:
			t.note("%s stands behind %s, which takes every tenant: Thanos never reaches it: left out", name, names[soft])
			continue
		case len(h.Tenants) == 0:
			soft = i
			if name != hashringName(h, i) {
				t.note("%s takes every tenant: that is ring %s here", hashringName(h, i), name)
			}
		}
		o := ringObject{Name: names[i], ReplicationFactor: tr.factorOf(names[i]), WriteQuorum: "majority"}
		var errs [2]error
		o.Tenants, errs[0] = t.tenants(names, i, h, &routes)
		if len(h.Tenants) > 0 && len(o.Tenants) == 0 && errs[0] == nil {
			t.note("%s has no tenant left: left out", o.Name)
			continue
		}
		o.Nodes, errs[1] = tr.place(t, o.Name, h.Endpoints)
		problems = append(problems, errs[:]...)
		t.lost(o.Name, h)
		t.rings = append(t.rings, o)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if soft < 0 {
		t.note("no hashring takes the other tenants: Thanos refuses them, here ring %s takes them; `muster settings set auto_create_tenants=false` refuses those that are not created", tr.catchAll())
	}
	tr.others(t)
	return t, t.agree(routes, names)
}

func hashringName(h hashring, i int) string {
	if h.Name == "" {
		return fmt.Sprintf("hashring-%d", i)
	}
	return h.Name
}

// name gives each hashring the name of its ring; the first that takes every
// tenant has that of the cluster's.
func (tr *translator) name(t *translation, file []hashring) ([]string, error) {
	names := make([]string, len(file))
	soft, catchAll := false, tr.catchAll()
	for i, h := range file {
		names[i] = hashringName(h, i)
		if h.Name == "" {
			t.note("the %s hashring has no name: it becomes %s", ordinal(i+1), names[i])
		}
		switch {
		case len(h.Tenants) == 0 && !soft:
			soft, names[i] = true, catchAll
		case len(h.Tenants) > 0 && names[i] == catchAll:
			return nil, fmt.Errorf("hashring %s names its tenants, and ring %s takes all others here: give it another name in the file", names[i], catchAll)
		}
		if before := slices.Index(names[:i], names[i]); before >= 0 {
			return nil, fmt.Errorf("the %s and the %s hashring are both called %s: give one another name in the file", ordinal(before+1), ordinal(i+1), names[i])
		}
	}
	return names, nil
}

// others names the rings of the cluster that the file does not have: they go on
// taking what they claim.
func (tr *translator) others(t *translation) {
	for _, r := range tr.rings {
		if len(r.Tenants) > 0 && !slices.ContainsFunc(t.rings, func(o ringObject) bool { return o.Name == r.Name }) {
			t.note("ring %s is not in the file and goes on to claim %s: `muster ring delete %s` ends that", r.Name, list(r.Tenants, ""), r.Name)
		}
	}
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

// tenants are those that Thanos finds in this hashring and in none before it.
func (t *translation) tenants(names []string, at int, h hashring, routes *[]hashroute) ([]string, error) {
	name, glob := names[at], h.Matcher == "glob"
	if !glob && h.Matcher != "" && h.Matcher != "exact" {
		return nil, fmt.Errorf("%s: tenant_matcher_type %q: want exact or glob", name, h.Matcher)
	}
	before := *routes
	var out []string
	for _, tenant := range h.Tenants {
		if glob {
			if _, err := path.Match(tenant, ""); err != nil {
				return nil, fmt.Errorf("%s: pattern %q: %w", name, tenant, err)
			}
		}
		if (!glob || literal(tenant) == tenant) && !cluster.ValidTenantID(tenant) {
			return nil, fmt.Errorf("%s: tenant %q: muster takes letters, digits and ._:@=+- only; for a pattern the file wants \"tenant_matcher_type\": \"glob\"", name, tenant)
		}
		if slices.Contains(out, tenant) {
			continue
		}
		route := hashroute{tenant, at}
		if first, never := unreached(before, route); never {
			t.note("%s: tenant %s is %s's already, which Thanos finds first: left out", name, tenant, names[first.ring])
			continue
		}
		*routes = append(*routes, route)
		out = append(out, tenant)
	}
	return out, nil
}

// unreached says whether hashrings that stand before take all that a route
// matches, and the first of them.
func unreached(before []hashroute, r hashroute) (hashroute, bool) {
	for _, b := range before {
		if b.pattern == r.pattern {
			return b, true
		}
		if ok, _ := path.Match(b.pattern, r.pattern); ok && r.isName() {
			return b, true
		}
	}
	// Names before a pattern can be many and take it none of its whole.
	globs := slices.DeleteFunc(slices.Clone(before), hashroute.isName)
	if r.isName() || len(globs) == 0 || reached(append(globs, r)) {
		return hashroute{}, false
	}
	return globs[0], true
}

// agree refuses a file of which some tenant would go to another ring here than
// Thanos' rules give it.
func (t *translation) agree(routes []hashroute, names []string) error {
	globs := slices.DeleteFunc(slices.Clone(routes), hashroute.isName)
	compared := slices.DeleteFunc(slices.Clone(routes), func(r hashroute) bool {
		return r.isName() && !slices.ContainsFunc(globs, func(g hashroute) bool { ok, _ := path.Match(g.pattern, r.pattern); return ok })
	})
	id, theirs, ours, found, tried := disputed(compared)
	if !tried {
		t.note("the file has too many patterns to compare Thanos' order with the rules here: look at `muster tenant ring ID` for a few of each")
	}
	if !found {
		return nil
	}
	return fmt.Errorf("a tenant such as %s would go elsewhere: Thanos finds pattern %s of %s first, here %s of %s is closer: an exact name wins, then the longest literal beginning, then the longest pattern. Say in the file what shall hold: name such tenants, or make the patterns apart",
		id, theirs.pattern, names[theirs.ring], ours.pattern, names[ours.ring])
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
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if rf := tr.factorOf(name); len(nodes) < rf {
		return nil, fmt.Errorf("%s has %d endpoints for replication factor %d: `--replication-factor N` says another", name, len(nodes), rf)
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
	if slices.ContainsFunc(h.Endpoints, func(e hashEndpoint) bool { return e.CapnProto != "" }) {
		t.note("%s: capnproto_address has no counterpart: nodes speak over their member door", name)
	}
	if h.Algorithm != "" {
		t.note("%s: algorithm %s: slots are a committed table here", name, h.Algorithm)
	}
	if len(h.ExternalLabels) > 0 {
		t.note("%s: external_labels have no counterpart: blocks carry the tenant's and the replica's label", name)
	}
	if h.Shuffle != nil {
		t.note("%s: shuffle_sharding_config (shard_size %d, %d overrides, cache_size, zone_awareness_disabled) has no counterpart: a tenant that shall keep to few nodes gets a ring of its own", name, h.Shuffle.ShardSize, len(h.Shuffle.Overrides))
	}
}

// literal is the beginning of a pattern that means itself.
func literal(pattern string) string {
	if i := strings.IndexAny(pattern, `*?[\`); i >= 0 {
		return pattern[:i]
	}
	return pattern
}
