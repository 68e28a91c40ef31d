package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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
		`{}`:                                    "cannot unmarshal",
		`[]`:                                    "no hashring",
		`[{"hashring":"a"}] more`:               "more follows",
		`[{"name":"a"}]`:                        "unknown field",
		`[{"endpoints":[{"at":1}]}]`:            "unknown field",
		`[{"hashring":"a","endpoints":["n1"]}]`: "1 endpoints for replication factor 2",
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

func TestRingImport(t *testing.T) {
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
