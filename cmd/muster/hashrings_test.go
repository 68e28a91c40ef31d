package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func threeNodes() []knownNode {
	return []knownNode{
		{"n1", "10.0.0.1:19391", "10.0.0.1:10901", "a", "active"},
		{"n2", "10.0.0.2:19391", "10.0.0.2:10901", "b", "active"},
		{"n3", "10.0.0.3:19391", "10.0.0.3:10901", "c", "active"},
	}
}

// TestHashringsBecomeRings: everything that a file may say is taken over or named.
func TestHashringsBecomeRings(t *testing.T) {
	rings, err := parseHashrings([]byte(`[
		{"hashring": "hard", "tenants": ["a", "b"], "endpoints": ["10.0.0.1:10901", {"address": "n2:10901", "capnproto_address": "n2:19391", "az": "z"}]},
		{"hashring": "teams", "tenants": ["team-*", "*"], "tenant_matcher_type": "glob", "algorithm": "ketama", "endpoints": ["old-3:10901", "n1:10901"],
		 "shuffle_sharding_config": {"shard_size": 2, "cache_size": 10, "zone_awareness_disabled": true, "overrides": [{"shard_size": 1, "tenants": ["x"], "tenant_matcher_type": "exact"}]}},
		{"tenants": ["a", "team-red", "c"], "endpoints": ["n1", "n2"], "external_labels": {"x": "y"}},
		{"hashring": "own", "tenants": ["team-blue*"], "tenant_matcher_type": "glob", "endpoints": ["n1", "n2"]},
		{"hashring": "soft", "endpoints": ["n1", "n2", "n3"]},
		{"hashring": "late", "tenants": ["a"], "endpoints": ["n1", "n2"]},
		{"hashring": "softer", "endpoints": ["n1", "n2"]}
	]`))
	require.NoError(t, err)
	tr := &translator{nodes: threeNodes(), named: map[string]string{"old-3:10901": "n3"}, factor: 2}
	got, err := tr.translate(rings)
	require.NoError(t, err)
	var text strings.Builder
	for _, r := range got.rings {
		fmt.Fprintf(&text, "%s: RF %d, tenants %v, nodes %v\n", r.Name, r.ReplicationFactor, r.Tenants, r.Nodes)
	}
	text.WriteString(strings.Join(got.notes, "\n"))
	golden(t, "hashrings", text.String())
}

func TestHashringsThatMeanNothingAreRefused(t *testing.T) {
	tr := &translator{nodes: threeNodes(), named: map[string]string{"gone:1": "n9"}, factor: 2}
	for file, says := range map[string]string{
		`{}`:                                "line 1: want a list",
		`[]`:                                "no hashring",
		`[{"hashring":"a"}] more`:           "more follows",
		"[\n{\"name\":\"a\"}]":              "line 2: unknown field [0].name",
		`[{"endpoints":[{"at":1}]}]`:        "line 1: unknown field [0].endpoints[0].at",
		"[{\"endpoints\":\n[\n3]}]":         "line 3",
		`[{"hashring":"a",]`:                "line 1: ",
		`[{"hashring":"a","hashring":"b"}]`: "stands there twice",
		`[{"hashring":"a"`:                  "ends before",
		`[{"tenants":{"a":1}}]`:             "an object, where none belongs",
		`[{"shuffle_sharding_config":{"overrides":[{"shards":1}]}}]`:                                                          "[0].shuffle_sharding_config.overrides[0].shards",
		`[{"hashring":"default","tenants":["a"],"endpoints":["n1","n2"]}]`:                                                    "give it another name",
		`[{"hashring":"a","tenants":["x"],"endpoints":["n1","n2"]},{"hashring":"a","tenants":["y"],"endpoints":["n1","n2"]}]`: "the 1st and the 2nd hashring are both called a",

		`[{"hashring":"a","tenants":["*-prod"],"tenant_matcher_type":"glob","endpoints":["n1","n2"]},{"hashring":"b","tenants":["team-*"],"tenant_matcher_type":"glob","endpoints":["n1","n2"]}]`: "pattern *-prod of a first, here team-* of b is closer",

		`[{"hashring":"a","endpoints":["n1"]}]`:                                                     "1 endpoints for replication factor 2",
		`[{"hashring":"a","endpoints":["n1","10.0.0.1:1"]}]`:                                        "is node n1, as another one is",
		`[{"hashring":"a","endpoints":["n1","else:10901"]}]`:                                        "--node else:10901=NODE",
		`[{"hashring":"a","endpoints":["n1","gone:1"]}]`:                                            "n9 is no member",
		`[{"hashring":"a","tenants":["a/b"],"endpoints":["n1","n2"]}]`:                              `tenant "a/b"`,
		`[{"hashring":"a","tenants":["a*"],"endpoints":["n1","n2"]}]`:                               "tenant_matcher_type",
		`[{"hashring":"a","tenants":["["],"tenant_matcher_type":"glob","endpoints":["n1","n2"]}]`:   "syntax error in pattern",
		`[{"hashring":"a","tenants":["a"],"tenant_matcher_type":"regexp","endpoints":["n1","n2"]}]`: "want exact or glob",
	} {
		rings, err := parseHashrings([]byte(file))
		if err == nil {
			_, err = tr.translate(rings)
		}
		require.ErrorContains(t, err, says, file)
	}
}

// TestAThanosFileRoutesTheSameTenants: hard, soft and patterns, first looked at,
// then made, then made again, which is no change; and a tenant that the file
// gives to another hashring goes there in one step.
func TestAThanosFileRoutesTheSameTenants(t *testing.T) {
	t.Parallel()
	b := slottedBed(t, 3, 2, fewSlots)
	file := `[
		{"hashring": "hard", "tenants": ["big", "billing", "team-7"], "endpoints": ["n1:10901", {"address": "n2:10901", "az": "z1"}]},
		{"hashring": "teams", "tenants": ["team-*", "squad-[0-9]*"], "tenant_matcher_type": "glob", "endpoints": ["n2:10901", "n3:10901"], "algorithm": "ketama"},
		{"hashring": "prod", "tenants": ["team-1", "prod-??"], "tenant_matcher_type": "glob", "endpoints": ["n1:10901", "n3:10901"]},
		{"hashring": "soft", "endpoints": ["n1:10901", "n2:10901", "n3:10901"]}
	]`
	var rings []hashring
	put := func() string {
		at := filepath.Join(t.TempDir(), "hashrings.json")
		require.NoError(t, os.WriteFile(at, []byte(file), 0o600))
		var err error
		rings, err = parseHashrings([]byte(file))
		require.NoError(t, err)
		return at
	}
	random := rand.New(rand.NewPCG(7, 7))
	tenants := []string{"big", "billing", "bigger", "team-1", "team-7", "team-77", "prod-ab", "prod-abc", "squad-1", "squad-x", "other"}
	for len(tenants) < 400 {
		tenants = append(tenants, []string{"team-", "squad-", "prod-", "b", "x"}[random.IntN(5)]+strconv.FormatInt(random.Int64N(2000), 36))
	}
	same := func() {
		t.Helper()
		for i := range b.nodes {
			st := b.nodes[i].node.cluster.State()
			for _, tenant := range tenants {
				want := rings[thanosRing(rings, tenant)].Name
				if want == "soft" {
					want = "default"
				}
				require.Equal(t, want, st.RouteOf(tenant).Spec.GetName(), "tenant %s on n%d", tenant, i+1)
			}
		}
	}
	before := b.nodes[0].node.cluster.State().RouteOf("big")
	b.cli(0, "ring", "import", "-f", put(), "--replication-factor", "2", "--dry-run")
	require.Same(t, before, b.nodes[0].node.cluster.State().RouteOf("big"), "a dry run changes nothing")
	out := b.cli(0, "ring", "import", "-f", put(), "--replication-factor", "2", "-o", "json")
	require.Contains(t, out, "cluster set n2 --zone z1", "what has no counterpart is in the JSON, too")
	same()
	at := b.nodes[0].node.cluster.State().Ring("hard").Spec.GetVersion()
	require.NotContains(t, b.cli(1, "ring", "import", "-f", put()), "created")
	require.Equal(t, at, b.nodes[0].node.cluster.State().Ring("hard").Spec.GetVersion(), "again is no change")

	b.write(2, "billing", batch("m", 10, time.Now().UnixMilli())...)
	file = strings.NewReplacer(`"big", "billing", "team-7"`, `"big"`, `"team-1", "prod-??"`, `"team-1", "prod-??", "billing"`).Replace(file)
	b.cli(2, "ring", "import", "-f", put())
	same()
	require.Len(t, b.nodes[2].node.cluster.State().Tenant("billing").GetPastRoutes(), 1, "it passed through no third ring")
	b.settle()
	for i := range b.nodes {
		require.Equal(t, map[string]float64{"{}": 10}, b.query(i, "-t", "billing", "count(m)"))
	}
}

func TestRingImport(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3, 2)
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	file := write("hashrings.json", `[{"hashring":"hard","tenants":["tenant-a"],"endpoints":["n1:10901","n2:10901"]},{"hashring":"soft","endpoints":["n1:10901","n2:10901","n3:10901"]}]`)
	bad := write("bad.json", `[{"hashring":"harder","tenants":["x"],"endpoints":["n1","n2"]},{"hashring":"bad name","tenants":["y"],"endpoints":["n1","n2"]}]`)
	fewer := write("fewer.json", `[{"hashring":"hard","tenants":["tenant-a","tenant-b"],"endpoints":["n2","n3"]}]`)
	var text strings.Builder
	for _, args := range [][]string{
		{"-f", file, "--replication-factor", "2", "--dry-run"},
		{"-f", file, "--replication-factor", "2"},
		{"-f", file, "--replication-factor", "2"},
		{"-f", bad, "--replication-factor", "2"}, // and none of it is done
		{"-f", fewer, "--replication-factor", "2"},
		{"-f", fewer},
		{},
	} {
		line := strings.ReplaceAll(strings.Join(args, " "), dir+"/", "")
		out, msg, code := b.try(1, append([]string{"ring", "import"}, args...)...)
		fmt.Fprintf(&text, "$ muster ring import %s\n%s%sexit %d\n\n", line, out, strings.ReplaceAll(msg, dir+"/", ""), code)
	}
	fmt.Fprintf(&text, "$ muster ring list\n%s", b.cli(0, "ring", "list"))
	golden(t, "ring_import", text.String())
}

// thanosRing is the hashring that Thanos gives a tenant to, -1 for none: the first
// in the file that has no tenants, has its name, or has a pattern for it.
func thanosRing(file []hashring, tenant string) int {
	for i, h := range file {
		if len(h.Tenants) == 0 {
			return i
		}
		for _, pattern := range h.Tenants {
			glob, _ := filepath.Match(pattern, tenant)
			if h.Matcher == "glob" && glob || h.Matcher != "glob" && pattern == tenant {
				return i
			}
		}
	}
	return -1
}

// ourRing is the name of the ring that claims a tenant by the rules of docs/operating.md;
// rest where no other does.
func ourRing(rings []ringObject, tenant, rest string) string {
	out, wins := rest, hashroute{}
	for _, r := range rings {
		for _, p := range r.Tenants {
			route := hashroute{pattern: p}
			if ok, _ := path.Match(p, tenant); ok && (wins.pattern == "" || musterFirst(route, wins)) {
				out, wins = r.Name, route
			}
		}
	}
	return out
}

// TestAnImportedFileRoutesAsThanosDoes: of random files each tenant goes where
// Thanos gives it to, or the file is refused with a tenant that would not.
func TestAnImportedFileRoutesAsThanosDoes(t *testing.T) {
	t.Parallel()
	var words []string
	var spellAll func(w string)
	spellAll = func(w string) {
		if words = append(words, w); len(w) < 5 {
			for _, c := range "ab-" {
				spellAll(w + string(c))
			}
		}
	}
	spellAll("a")
	spellAll("b")
	patterns := []string{"a", "b", "ab", "ba-", "a*", "*b", "*", "a?", "?b*", "[a]b*", "[^a]*", "*-*", "a*b", "b*-", "ab*", "*-b"}
	taken := 0
	rapid.Check(t, func(rt *rapid.T) {
		var file []hashring
		for i := range rapid.IntRange(1, 4).Draw(rt, "rings") {
			h := hashring{Name: fmt.Sprintf("r%d", i), Endpoints: []hashEndpoint{{Address: "n1"}, {Address: "n2"}}}
			if rapid.IntRange(0, 4).Draw(rt, "soft") > 0 {
				h.Tenants = rapid.SliceOfN(rapid.SampledFrom(patterns), 1, 3).Draw(rt, "tenants")
				h.Matcher = "glob"
				if rapid.Bool().Draw(rt, "names") {
					h.Matcher, h.Tenants = "exact", []string{rapid.SampledFrom(patterns[:4]).Draw(rt, "name")}
				}
			}
			file = append(file, h)
		}
		tr := &translator{nodes: threeNodes(), factor: 2}
		got, err := tr.translate(file)
		if err != nil {
			_, id, ok := strings.Cut(err.Error(), "a tenant such as ")
			if !ok {
				rt.Fatal(err)
			}
			id, _, _ = strings.Cut(id, " ")
			// It really goes elsewhere without the refusal.
			if theirs := fmt.Sprintf("r%d", thanosRing(file, id)); theirs == ourRing(got.rings, id, "default") {
				rt.Fatalf("%s goes to %s by both rules, and the file is refused: %v", id, theirs, err)
			}
			return
		}
		taken++
		for _, w := range words {
			theirs := "default"
			if i := thanosRing(file, w); i >= 0 && len(file[i].Tenants) > 0 {
				theirs = file[i].Name
			}
			if ours := ourRing(got.rings, w, "default"); ours != theirs {
				rt.Fatalf("%s goes to %s, Thanos gives it to %s\n%+v\n%+v", w, ours, theirs, file, got)
			}
		}
	})
	if taken == 0 {
		t.Error("no file was taken")
	}
}
