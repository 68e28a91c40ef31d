package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// TestRulesAndALabelThatSplits are what a team types: rules in a file, a label in the
// settings. They hold on each node, and go away as they came.
func TestRulesAndALabelThatSplits(t *testing.T) {
	sizes(t, []int{5}, func(t *testing.T, b *bed) {
		rules := filepath.Join(b.dir, "rules.yaml")
		require.NoError(t, os.WriteFile(rules, []byte(`
- source_labels: [__name__]
  regex: go_.*
  action: drop
- regex: pod
  action: labeldrop
- {target_label: cluster, replacement: eu}
`), 0o600))
		b.cli(0, "tenant", "create", "a", "--relabel", rules)
		b.cli(0, "tenant", "create", "b")
		b.cli(1, "settings", "set", "split_tenant_label=team")
		at := time.Now().UnixMilli()
		one := func(value float64, pairs ...string) sample { return sample{labels.FromStrings(pairs...), at, value} }
		for i := range b.nodes {
			node := fmt.Sprint(i)
			b.write(i, "front",
				one(1, "__name__", "m", "team", "a", "pod", "x", "node", node), one(2, "__name__", "m", "team", "b", "pod", "x", "node", node),
				one(3, "__name__", "go_gc", "team", "a", "node", node), one(4, "__name__", "m", "node", node),
				one(5, "__name__", "m", "team", "made-"+node, "node", node))
		}
		for i := range b.nodes {
			node := fmt.Sprint(i)
			b.eventually("what was written is there", func() error {
				for tenant, want := range map[string]string{
					"a": `m{cluster="eu", node="` + node + `"}`, "b": `m{node="` + node + `", pod="x"}`,
					"front": `m{node="` + node + `"}`, "made-" + node: `m{node="` + node + `"}`,
				} {
					got, err := b.ask(i, "-t", tenant, `{node="`+node+`"}`)
					if err != nil {
						return err
					}
					if _, ok := got[want]; !ok || len(got) != 1 {
						return fmt.Errorf("tenant %s has %v, want %s", tenant, got, want)
					}
				}
				return nil
			})
		}
		// A tenant that is suspended is refused, and the others are stored.
		b.cli(0, "tenant", "set", "b", "--state", "suspended")
		raw := snappy.Encode(nil, body(one(1, "__name__", "more", "team", "a"), one(1, "__name__", "more", "team", "b")))
		b.eventually("a part is refused", func() error {
			status, text := b.post(0, "front", raw)
			if status != http.StatusBadRequest || !strings.Contains(text, "1 of 2 samples refused for good, 1 stored") || !strings.Contains(text, `tenant "b"`) {
				return fmt.Errorf("%d %s", status, text)
			}
			return nil
		})
		// Without rules and the label everything is as before.
		require.NoError(t, os.WriteFile(rules, []byte("[]\n"), 0o600))
		b.cli(2, "tenant", "set", "a", "--relabel", rules)
		b.cli(2, "settings", "set", "split_tenant_label=")
		b.eventually("the change is seen", func() error {
			b.write(0, "a", one(7, "__name__", "go_gc", "team", "a"))
			got, err := b.ask(0, "-t", "a", `go_gc`)
			if got[`go_gc{team="a"}`] != 7 {
				return fmt.Errorf("%v %w", got, err)
			}
			return err
		})
	})
}

// TestACertificateNamesTheTenant goes over a real connection: the write door asks
// for a client certificate, and a field of it is the tenant.
func TestACertificateNamesTheTenant(t *testing.T) {
	t.Parallel()
	ca, dir := newOwnCA(t), t.TempDir()
	server := ownPair(t, ca, "n1")
	for name, text := range map[string][]byte{"crt": server[0], "key": server[1], "ca": ca.Bundle().Roots(), "web.yaml": []byte(
		"tls_server_config:\n  cert_file: crt\n  key_file: key\n  client_ca_file: ca\n  client_auth_type: RequireAndVerifyClientCert\n",
	)} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	b := newBed(t, 1, 1, func(c *nodeConfig) { c.WebConfig = filepath.Join(dir, "web.yaml") })
	b.cli(0, "settings", "set", "tenant_auth=certificate", "tenant_certificate_field=commonName", "split_tenant_label=team")
	post := func(name string, header string, samples ...sample) (int, error) {
		conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ca.Bundle().Pool(), ServerName: "n1"}
		if name != "" {
			text := ownPair(t, ca, name)
			pair, err := tls.X509KeyPair(text[0], text[1])
			require.NoError(t, err)
			conf.Certificates = []tls.Certificate{pair}
		}
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}}
		defer c.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+b.nodes[0].cfg.Write+"/api/v1/receive", bytes.NewReader(snappy.Encode(nil, body(samples...))))
		require.NoError(t, err)
		if header != "" {
			req.Header.Set("THANOS-TENANT", header)
		}
		resp, err := c.Do(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	at := time.Now().UnixMilli()
	up := func(pairs ...string) sample {
		return sample{labels.FromStrings(append([]string{"__name__", "up"}, pairs...)...), at, 1}
	}
	b.eventually("a certificate's tenant writes", func() error {
		code, err := post("team-a", "", up())
		if err == nil && code != http.StatusNoContent {
			err = fmt.Errorf("answered %d", code)
		}
		return err
	})
	code, err := post("team-a", "team-b", up())
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, code, "another tenant in the header")
	code, err = post("team-a", "", up("team", "team-b"))
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, code, "another tenant in the label")
	_, err = post("", "", up())
	require.Error(t, err, "no certificate")
	require.Equal(t, map[string]float64{"{}": 1}, b.query(0, "-t", "team-a", `count(up)`))
	require.Empty(t, b.query(0, "-t", "team-b", `up`))
}
