package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A tenant's rules are the same whether a person or the cluster wrote them down.
func TestRulesOfATenantFile(t *testing.T) {
	parse := func(text string) tenantSpec {
		t.Helper()
		all, err := parseTenants(strings.NewReader(text))
		require.NoError(t, err)
		require.Len(t, all, 1)
		return all[0]
	}
	file := parse("id: a\nrelabel:\n- {source_labels: [x], regex: 5, action: drop}\n- action: labeldrop\n  regex: pod\n")
	raw, err := json.Marshal(file.body())
	require.NoError(t, err)
	require.JSONEq(t, `{"state":"active","relabel":[{"source_labels":["x"],"regex":"5","action":"drop"},{"regex":"pod","action":"labeldrop"}]}`, string(raw))
	there := parse(`{"id":"a","state":"active","relabel":[{"action":"drop","regex":"5","source_labels":["x"]},{"action":"labeldrop","regex":"pod"}],"version":7}`)
	require.Empty(t, file.differences(there.fields))
	require.Equal(t, []string{"relabel 2 rules -> 0 rules"}, parse("{id: a, relabel: []}").differences(there.fields))
	require.Equal(t, []string{"relabel 2 rules -> default"}, parse("id: a").differences(there.fields))
	for bad, want := range map[string]string{
		"id: a\nrelabel: drop\n":             "line 2: relabel is no list",
		"id: a\nrelabel:\n- colour: red\n":   `line 3: unknown field "relabel.colour"`,
		"id: a\nrelabel:\n- modulus: many\n": "line 3: relabel.modulus is not what Prometheus takes there",
	} {
		_, err := parseTenants(strings.NewReader(bad))
		require.ErrorContains(t, err, want)
	}
}
