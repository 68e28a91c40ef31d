package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWhatCommandsOnObjectsPrint are sessions of an operator, errors included.
func TestWhatCommandsOnObjectsPrint(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, 1)
	write := func(name, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600))
	}
	b.story(t, "tenant", 0,
		"tenant list",
		"tenant create team-a --retention 30d --active-series 1000",
		"tenant list",
		"tenant show team-a",
		"tenant create team-a",
		"tenant create team-b --dry-run",
		"tenant show team-b",
		"tenant create a/b",
		"tenant set team-a --retention long",
		"tenant set team-a --state suspended --if-version 1",
		"tenant set team-a --state suspended",
		"tenant set team-b --state suspended",
		"tenant token create team-a --dry-run",
		"tenant delete team-a --if-version 1",
		"tenant delete team-a",
		"tenant delete team-a",
	)

	write("tenants.yaml", "- id: team-a\n  retention: 30d\n  limits: {active_series: 1000}\n- id: team-b\n  state: suspended\n---\nid: default-tenant\n")
	write("again.json", `{"tenants": [{"id": "team-a", "retention": "720h", "limits": {"active_series": 500}}, {"id": "team-c"}]}`)
	write("field.yaml", "- id: team-a\n  retentoin: 30d\n")
	write("twice.yaml", "- id: team-a\n- id: team-a\n")
	write("value.yaml", "id: team-a\nretention: -1\n")
	write("empty.yaml", "")
	write("state.yaml", "- id: team-d\n- id: team-e\n  state: gone\n")
	b.story(t, "tenant_apply", 0,
		"tenant apply -f "+b.dir+"/tenants.yaml --dry-run",
		"tenant apply -f "+b.dir+"/tenants.yaml",
		"tenant apply -f "+b.dir+"/tenants.yaml",
		"tenant apply -f "+b.dir+"/again.json --prune --dry-run -o json",
		"tenant apply -f "+b.dir+"/again.json --prune",
		"tenant list",
		"tenant apply -f "+b.dir+"/field.yaml",
		"tenant apply -f "+b.dir+"/twice.yaml",
		"tenant apply -f "+b.dir+"/value.yaml",
		"tenant apply -f "+b.dir+"/empty.yaml --prune",
		"tenant apply -f "+b.dir+"/state.yaml",
		"tenant show team-d",
		"tenant apply -f "+b.dir+"/nosuch.yaml",
	)

	b.story(t, "ring", 0,
		"ring list",
		"ring create hard --tenants team-a,x-* --replication-factor 1 --slots 8 --nodes n1 --dry-run",
		"ring create hard --tenants team-a,x-* --replication-factor 1 --slots 8 --nodes n1",
		"ring show hard",
		"ring list",
		"ring create hard --tenants x",
		"ring create more --tenants '[a'",
		"ring create more --tenants x --nodes n9",
		"ring create more --tenants x --nodes n1",
		"ring create more --slots 12 --tenants x",
		"ring set hard --write-quorum all --if-version 1",
		"ring set hard --write-quorum all",
		"ring set nosuch --write-quorum all",
		"ring plan hard --add n2 --weight n2=200",
		"ring plan hard --remove n1",
		"ring plan hard --add n2 -o json",
		"ring plan hard --add n2,n3,n4 --zone n2=b,n3=c,n4=b --weight n4=50 --replication-factor 3",
		"ring plan hard",
		"ring plan hard --zone n9=b",
		"ring plan hard --zone b",
		"ring plan hard --replication-factor 9",
		"ring rebalance hard --dry-run",
		"ring rebalance hard --if-version 1",
		"ring rebalance hard",
		"ring rebalance nosuch",
		"ring rebalance hard --cancel",
		"ring rebalance nosuch --cancel",
		"ring rebalance hard --cancel --no-wait",
		"ring rebalance hard --timeout soon",
		"ring delete hard --if-version 1",
		"ring delete hard",
		"ring delete hard",
		"ring delete default",
	)

	b.story(t, "settings", 0,
		"settings show",
		"settings set max_tenants=500 tenant_defaults.retention=30d --dry-run",
		"settings set max_tenants=500 tenant_defaults.retention=30d",
		"settings set max_tenants=500 --if-version 1",
		"settings set tenant_label=other",
		"settings set colour=red",
		"settings set colour",
		"settings set tenant_defaults.retention=-1",
	)

	b.story(t, "cluster", 0,
		"cluster members",
		"cluster set n1 --zone b --dry-run",
		"cluster set n1 --zone b --weight 150",
		"cluster set n1 --weight 0",
		"cluster set n1 --weight 120 --if-version 1",
		"cluster set n9 --weight 1",
		"cluster status",
		"cluster init",
		"cluster join --token x n1:19391",
		"cluster remove n1",
		"cluster events --since yesterday",
		"cluster events --since 0s",
	)
	var events strings.Builder
	for line := range strings.Lines(b.transcript(0, []string{"cluster", "events"})) {
		if !strings.Contains(line, "  leader  ") { // what the leader does by itself comes when it may
			events.WriteString(line)
		}
	}
	golden(t, "events", events.String())
}

// TestWhatCommandsPrintWithoutAServer is what a newcomer meets first.
func TestWhatCommandsPrintWithoutAServer(t *testing.T) {
	b := emptyBed(t, 1)
	b.story(t, "noserver", 0, "cluster status", "tenant list -o json", "bogus", "cluster bogus", "cluster status --bogus", "completion ksh", "version")
}

// TestShellsComplete runs the script where the shell is there.
func TestShellsComplete(t *testing.T) {
	b := emptyBed(t, 1)
	bash := b.cli(0, "completion", "bash")
	for _, c := range [][2]string{
		{"muster clu", "cluster"},
		{"muster cluster st", "status"},
		{"muster -o json cluster st", "status"},
		{"muster ring create --write", "--write-quorum"},
		{"muster tenant token rev", "revoke"},
		{"muster completion f", "fish"},
	} {
		words := strings.Fields(c[0])
		ask := fmt.Sprintf("%s\nCOMP_WORDS=(%s); COMP_CWORD=%d; _muster; echo \"${COMPREPLY[@]}\"", bash, c[0], len(words)-1)
		out, err := exec.Command("bash", "-c", ask).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, c[1], strings.TrimSpace(string(out)), c[0])
	}
	require.Contains(t, b.cli(0, "completion", "zsh"), bash)
	fish := b.cli(0, "completion", "fish")
	for _, v := range verbsOf("", newApp(stdio{io.Discard, io.Discard}).Commands, nil) {
		if len(v.words) > 0 {
			require.Contains(t, fish, fmt.Sprintf("__muster_at \"%s\"", v.path))
		}
	}
	if _, err := exec.LookPath("fish"); err == nil {
		out, err := exec.Command("fish", "-c", fish).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}
