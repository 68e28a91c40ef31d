package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/tsdb"
)

// TestLostQuorum: two of three machines are lost for long, and the third goes on
// with the control state, as the manual says. Nobody's samples are lost: when the
// two come back they are strangers until they join again, and then all is there.
func TestLostQuorum(t *testing.T) {
	t.Parallel()
	b := slottedBed(t, 3, 3, fewSlots)
	now := time.Now().UnixMilli()
	b.write(0, "a", batch("m", 100, now)...)
	b.story(t, "recover_needless", 2,
		"cluster recover",
		"cluster recover --as-sole-voter",
		"cluster recover --as-sole-voter --confirm prod",
		"cluster recover --as-sole-voter --confirm test",
	)
	b.stop(0)
	b.stop(1)
	b.eventually("n3 is alone", func() error {
		out, _, _ := b.try(2, "cluster", "recover", "--plan")
		if !strings.Contains(out, "next: muster cluster recover --as-sole-voter --confirm test") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	golden(t, "recover", withoutReasons(b.transcript(2, []string{"cluster", "recover", "--plan"}))+
		b.transcript(2, []string{"cluster", "recover", "--as-sole-voter", "--confirm", "test"}))

	// It leads. What it cannot hold by itself it does not take, and says why.
	b.cli(2, "tenant", "create", "later")
	status, text := b.post(2, "a", snappy.Encode(nil, body(batch("m", 100, now+1)...)), "Retry-Attempt", "1")
	require.Equal(t, 503, status, text)
	_, err := b.ask(2, "-t", "a", "count(m)")
	require.ErrorContains(t, err, "n1")

	for i := range 2 {
		b.start(i)
		_, msg, code := b.try(i, "cluster", "join", "--token", b.token(2), b.nodes[2].node.door.Addr().String())
		require.NotZero(t, code)
		require.Contains(t, msg, "--reset-control-state")
	}
	// A tenant that only the lost two knew of: nobody has deleted it.
	orphan := filepath.Join(b.nodes[0].cfg.DataDir, "tenants", tsdb.Key{Tenant: "later", Incarnation: 1 << 19}.String())
	require.NoError(t, os.Mkdir(orphan, 0o700))
	for i := range 2 {
		out := b.cli(i, "cluster", "join", "--reset-control-state", "--token", b.token(2), b.nodes[2].node.door.Addr().String())
		require.Equal(t, fmt.Sprintf("n%d is an active member of test.\n", i+1), out)
	}
	b.settle()
	b.write(1, "a", batch("m", 100, now+2)...)
	for i := range b.nodes {
		require.Equal(t, map[string]float64{"{}": 100}, b.query(i, "-t", "a", "--time", fmt.Sprint(float64(now)/1000), "count(m)"), "on n%d", i+1)
	}
	b.stop(0)
	b.start(0)
	b.settle()
	require.DirExists(t, orphan)
}

// token makes a join token on node i.
func (b *bed) token(i int) string {
	b.t.Helper()
	return strings.TrimSpace(b.cli(i, "token", "create", "--role", "node"))
}

// withoutReasons leaves out how an address does not answer.
func withoutReasons(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if at := strings.Index(line, " is unreachable: "); at > 0 {
			line = line[:at] + " is unreachable: ...\n"
		}
		out.WriteString(line)
	}
	return out.String()
}

// TestAllMachinesLost: what is left is a snapshot, and one old disk.
func TestAllMachinesLost(t *testing.T) {
	t.Parallel()
	b := slottedBed(t, 3, 3, fewSlots)
	now := time.Now().UnixMilli()
	b.write(0, "a", batch("m", 100, now)...)
	file := filepath.Join(b.dir, "b.snapshot")
	b.cli(1, "snapshot", "save", file)
	for i := range b.nodes {
		b.stop(i)
	}
	// n1 is a new machine, n2 has its old disk, n3 is new and has another name.
	require.NoError(t, os.Rename(b.nodes[0].cfg.DataDir, b.nodes[0].cfg.DataDir+".lost"))
	b.nodes[2].cfg.Name, b.nodes[2].cfg.DataDir = "n4", filepath.Join(b.dir, "n4")
	for i := range b.nodes {
		b.start(i)
	}
	text := b.transcript(0, []string{"cluster", "init", "--from-snapshot", file, "--name", "other"}) +
		b.transcript(1, []string{"cluster", "init", "--from-snapshot", file})
	out, msg, code := b.try(0, "cluster", "init", "--from-snapshot", file, "-o", "json")
	require.Zero(t, code, msg)
	var made initAnswer
	require.NoError(t, json.Unmarshal([]byte(out), &made))
	address := b.nodes[0].node.door.Addr().String()
	text += b.transcript(1, []string{"cluster", "join", "--token", made.JoinTokens[0], address}) +
		b.transcript(1, []string{"cluster", "join", "--reset-control-state", "--token", made.JoinTokens[0], address}) +
		b.transcript(2, []string{"cluster", "join", "--token", made.JoinTokens[1], address})
	golden(t, "refound", strings.NewReplacer(made.JoinTokens[0], "T1", made.JoinTokens[1], "T2", address, "n1.test:PORT").Replace(text))
	b.settle()
	st := b.nodes[0].node.cluster.State()
	require.Equal(t, uint64(2), st.Cluster().GetIncarnation())
	require.NotZero(t, st.Tenant("a").GetIncarnation())
	b.write(0, "a", batch("m", 100, now+1000)...)
	require.Equal(t, map[string]float64{"{}": 100}, b.query(2, "-t", "a", "--partial", "--time", fmt.Sprint(float64(now+1000)/1000), "count(m)"))
	// The one disk that is left still answers for what it holds.
	require.Equal(t, map[string]float64{"{}": 100}, b.query(0, "-t", "a", "--partial", "--time", fmt.Sprint(float64(now)/1000), "count(m)"))
	require.FileExists(t, bakOf(t, b.nodes[1].cfg.DataDir))
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	require.False(t, bytes.Contains(whole, []byte("PRIVATE")))
}

// bakOf is the log that was set aside.
func bakOf(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "raft.bak-*", "raft.db"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}
