package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"
)

func TestFlagsMayStandAnywhere(t *testing.T) {
	for _, c := range [][2]string{
		{"", ""},
		{"cluster status", "cluster status"},
		{"cluster status -o json --data-dir d", "-o json --data-dir d cluster status"},
		{"--data-dir=d cluster -o=json status", "--data-dir=d -o=json cluster status"},
		{"-o json cluster --server https://h:1 status", "-o json --server https://h:1 cluster status"},
		{"ring create hard --nodes n1,n2", "ring create --nodes n1,n2 -- hard"},
		{"ring create --nodes n1,n2 hard", "ring create --nodes n1,n2 -- hard"},
		{"ring create --dry-run hard --nodes n1 -o json", "-o json ring create --dry-run --nodes n1 -- hard"},
		{"tenant token create team-a", "tenant token create -- team-a"},
		{"tenant show create", "tenant show -- create"},
		{"tenant show token", "tenant show -- token"},
		{"tenant show help", "tenant show -- help"},
		{"query -t a up --time 5", "query -t a --time 5 -- up"},
		{"query --all-tenants -- -up", "query --all-tenants -- -up"},
		{"query up -t a -- --output", "query -t a -- up --output"},
		{"tenant set a --active-series -1", "tenant set --active-series -1 -- a"},
		{"cluster remove n3 --force=false", "cluster remove --force=false -- n3"},
		{"settings set a=1 --if-version 3 b=2", "settings set --if-version 3 -- a=1 b=2"},
		{"cluster join h:1 --token-file f --join-token-file g", "--token-file f cluster join --join-token-file g -- h:1"},
		{"help", "--help"},
		{"--help", "--help"},
		{"help ring create", "ring create --help"},
		{"ring help create", "ring create --help"},
		{"ring create hard -h", "ring create --help"},
		{"ring --help", "ring --help"},
		{"cluster remove --force -o json --help n1", "cluster remove --help"},
	} {
		typed, want := c[0], c[1]
		got, err := arrange(newApp(stdio{io.Discard, io.Discard}), append([]string{"muster"}, strings.Fields(typed)...))
		require.NoError(t, err, typed)
		require.Equal(t, want, strings.Join(got[1:], " "), typed)
	}
}

// TestWordsThatAreNotUnderstood: a verb that does not work is absent, too.
func TestWordsThatAreNotUnderstood(t *testing.T) {
	for _, c := range [][2]string{
		{"bogus", `no verb "bogus"`},
		{"completion", "bash, zsh or fish"},
		{"completion ksh", "bash, zsh or fish"},
		{"ring plan r --weight n1", "NODE=WEIGHT"},
		{"tenant apply", "wants -f FILE"},
		{"tenant apply -f a b", "takes no argument"},
		{"cluster bogus", `muster cluster has no verb "bogus"`},
		{"tenant token bogus a", `muster tenant token has no verb "bogus"`},
		{"cluster status now", `"now": muster cluster status takes no argument`},
		{"server n1", `"n1": muster server takes no argument`},
		{"cluster status --nodes n1", "--nodes is not known here"},
		{"--nodes n1 ring create a", "--nodes is not known here"},
		{"query -t a -up", "stands after --"},
		{"cluster status -o", "-o wants a value"},
		{"cluster status -o yaml", "want text or json"},
		{"ring create", "wants one argument"},
		{"ring create a b", "wants one argument"},
		{"ring show a b", "one argument at most"},
		{"tenant token revoke a", "the token's id"},
		{"ring create a --replication-factor many", "many"},
		{"cluster set n1 --weight -1", "-1"},
		{"cluster join h:1", "--token"},
		{"cluster set n1", "--weight or --zone"},
		{"query up", "-t TENANT or --all-tenants"},
		{"query up -t a --all-tenants", "-t TENANT or --all-tenants"},
		{"query up -t a --end 5", "want --start"},
		{"query up -t a --time 5 --start 5", "want one of them"},
		{"settings set", "FIELD=VALUE"},
		{"cluster status --server h:1", "want https://"},
		{"cluster status --server https://h:1", "--token-file"},
		{"server --init --join h:1 --join-token-file f", "want one of them"},
		{"server --join h:1", "--join-token-file"},
		{"server --tsdb.block-duration 1s", "at least 10s"},
		{"server --log.level loud", "--log.level"},
		{"server --log.format xml", "--log.format"},
		{"server --max-request-bytes much", "--max-request-bytes"},
		{"server --grpc.tls perhaps", "--grpc.tls"},
		{"server --grpc.tls off --grpc.tls-cert c", "want one of them"},
		{"server --objstore.config a --objstore.config-file b", "want one of them"},
	} {
		typed, says := c[0], c[1]
		var out, msg bytes.Buffer
		code := run(context.Background(), append([]string{"muster"}, strings.Fields(typed)...), stdio{&out, &msg})
		require.Equal(t, exitUsage, code, "%s: %s%s", typed, &out, &msg)
		require.Contains(t, msg.String(), says, typed)
		require.Empty(t, out.String(), "%s: errors go to stderr", typed)
	}
}

// TestEveryVerbHasHelp: a newcomer asks each verb, and hears of its flags and
// of those that it shares with all.
func TestEveryVerbHasHelp(t *testing.T) {
	var ask func(words []string, commands []*cli.Command)
	ask = func(words []string, commands []*cli.Command) {
		for _, c := range commands {
			at := append(append([]string{}, words...), c.Name)
			var out, msg bytes.Buffer
			require.Zero(t, run(context.Background(), append(at, "--help"), stdio{&out, &msg}), "%v: %s", at, &msg)
			require.Contains(t, out.String(), c.Usage)
			require.Contains(t, out.String(), "EVERYWHERE")
			require.NotContains(t, out.String(), "Shows a list of commands")
			for _, f := range c.Flags {
				require.Contains(t, out.String(), "--"+f.Names()[0], at)
			}
			ask(at, c.Subcommands)
		}
	}
	ask([]string{"muster"}, newApp(stdio{io.Discard, io.Discard}).Commands)
}

func TestErrorsAreJSONWhereThatIsAskedFor(t *testing.T) {
	for _, typed := range []string{
		"bogus -o json", "-o json bogus", "cluster status --output=json bogus", "-o=json ring create", "cluster status -o json --data-dir /nowhere",
	} {
		var out, msg bytes.Buffer
		require.NotZero(t, run(context.Background(), append([]string{"muster"}, strings.Fields(typed)...), stdio{&out, &msg}), typed)
		var e map[string]string
		require.NoError(t, json.Unmarshal(msg.Bytes(), &e), "%s: %s", typed, &msg)
		require.NotEmpty(t, e["error"], typed)
		require.NotEmpty(t, e["next"], typed)
	}
}
