package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/muster-metrics/muster/proto/storepb"
)

// movingFiles are those that docs/moving-from-thanos.md names.
var movingFiles = map[string]string{
	"hashrings.json": `[
		{"hashring": "hard", "tenants": ["team-x"], "endpoints": ["receive-0.receive:10901", "receive-1.receive:10901", {"address": "receive-2.receive:10901", "az": "c"}]},
		{"hashring": "soft", "endpoints": ["receive-0.receive:10901", "receive-1.receive:10901", "receive-2.receive:10901"]}
	]`,
	"tenants.yaml": "- id: team-x\n  retention: 3d\n",
}

// movingWords are what the document leaves to its reader.
var movingWords = map[string]string{"TENANT": "team-x", "ID": "team-x", "RING": "default", "NODE": "n3"}

// TestMovingFromThanosAsTheDocumentSays types the commands of the document in their
// order, on nodes that are configured as it says, and looks at what it promises.
func TestMovingFromThanosAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/moving-from-thanos.md")
	require.NoError(t, err)
	m := &movingIn{bed: emptyBed(t, 3), dir: t.TempDir()}
	m.file("bucket.yaml", fmt.Sprintf("{type: FILESYSTEM, config: {directory: %q}}", t.TempDir()))
	for name, text := range movingFiles {
		m.file(name, text)
	}
	typed := typedIn(string(text))
	require.Greater(t, len(typed), 4)
	for _, args := range typed {
		m.types(args)
	}
	require.True(t, m.formed && m.imported)
	m.write(0, "team-x", batch("up", 30, time.Now().UnixMilli())...)
	m.showsItsLabels()
}

// TestASenderMovesFromThanosWithoutAGap reloads Prometheus' own queues as the document
// says: a second entry, and later without the first. Each sample is with the old
// receiver or with the new ones. An address that is changed in one step leaves behind
// what was not sent, of which the document warns.
func TestASenderMovesFromThanosWithoutAGap(t *testing.T) {
	t.Parallel()
	old, b := slottedBed(t, 1, 1, fewSlots), slottedBed(t, 3, 3, fewSlots)
	first, second := old.nodes[0].cfg.Write, b.nodes[1].cfg.Write
	s := newPromSender(t, "team-x", 10*time.Second)
	s.reload(first)
	since := s.reached(old)
	s.reload(first, second)
	s.reached(b)
	for range 20 {
		s.scrape()
	}
	s.reload(second)
	s.reached(b)
	b.eventually("each sample is with one of them", func() error {
		before, after := old.times("team-x"), b.times("team-x")
		for _, at := range s.rounds {
			if at >= since && before[at] != senderBatch && after[at] != senderBatch {
				return fmt.Errorf("of %d only %d series are with the old, %d with the new", at, before[at], after[at])
			}
		}
		return nil
	})

	u := newPromSender(t, "team-y", 50*time.Millisecond)
	u.reload(first)
	u.reached(old)
	old.stop(0)
	lost := u.scrape()
	u.reload(second)
	u.reached(b)
	require.NotContains(t, b.times("team-y"), lost, "the document may promise more")
}

// movingIn is a cluster that is being made as the document says.
type movingIn struct {
	*bed
	dir              string
	formed, imported bool
}

func (m *movingIn) file(name, text string) {
	require.NoError(m.t, os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600))
}

// typedIn are the commands of indented lines, in words, without muster itself.
func typedIn(text string) (typed [][]string) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		command, indented := strings.CutPrefix(line, "    ")
		if prompt, rest, ok := strings.Cut(command, "$ "); ok && !strings.Contains(prompt, " ") {
			command = rest
		}
		if command, found := strings.CutPrefix(command, "muster "); indented && found {
			typed = append(typed, shellWords(command))
		}
	}
	return typed
}

// shellWords splits as a shell does that knows single quotes and comments only.
func shellWords(line string) (words []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		part, comment, _ := strings.Cut(part, " #")
		words = append(words, strings.Fields(part)...)
		if comment != "" {
			break
		}
	}
	return words
}

// types runs a command of the document.
func (m *movingIn) types(args []string) {
	m.t.Helper()
	for i, a := range args {
		if _, err := os.Stat(filepath.Join(m.dir, a)); err == nil || strings.HasPrefix(a, "/") {
			args[i] = filepath.Join(m.dir, a)  // nothing is written anywhere else
			if i > 0 && args[i-1] == "--out" { // a folder, which its reader has
				require.NoError(m.t, os.MkdirAll(args[i], 0o700))
			}
		} else if word, ok := movingWords[a]; ok {
			args[i] = word
		}
	}
	switch command := strings.Join(args, " "); {
	case strings.HasPrefix(command, "server "):
		m.serves(args)
	case strings.HasPrefix(command, "cluster init "):
		m.inits(args)
	case strings.HasPrefix(command, "ring import "):
		m.imports(args)
	default:
		m.eventually("muster "+command, func() error { // a status may have to hear everybody first
			if out, msg, code := m.try(1, args...); code != 0 {
				return fmt.Errorf("exit %d: %s%s", code, out, msg)
			}
			return nil
		})
	}
}

// serves starts three nodes with what the flags for one say; addresses and timing
// are the bed's.
func (m *movingIn) serves(args []string) {
	if m.nodes[0].node != nil {
		return
	}
	var flags nodeConfig
	app := &cli.App{Flags: globalFlags(), Commands: []*cli.Command{{
		Name: "server", Flags: serverFlags(),
		Action: func(c *cli.Context) (err error) {
			flags, err = serverConfig(c, stdio{io.Discard, io.Discard})
			return err
		},
	}}}
	require.NoError(m.t, app.Run(append([]string{"muster"}, args...)), "%v", args)
	require.Equal(m.t, "n1", flags.Name)
	for i, r := range m.nodes {
		r.cfg.Zone, r.cfg.Bucket, r.cfg.TenantHeader = string(rune(flags.Zone[0]+byte(i))), flags.Bucket, flags.TenantHeader
		m.start(i)
	}
}

func (m *movingIn) inits(args []string) {
	var made struct {
		JoinTokens []string `json:"join_tokens"`
	}
	require.NoError(m.t, json.Unmarshal([]byte(m.cli(0, append(args, "--join-tokens", "2", "-o", "json")...)), &made))
	for i, token := range made.JoinTokens {
		m.join(i+1, token, 0)
	}
	m.settle()
	m.formed = true
}

// imports wants a dry run to change nothing, the same without it to make the rings,
// and again to be no change.
func (m *movingIn) imports(args []string) {
	m.t.Helper()
	rings := func() int { return len(m.nodes[0].node.cluster.State().Rings()) }
	had := rings()
	m.cli(0, args...)
	for i, a := range args {
		if a == "--dry-run" {
			require.Equal(m.t, had, rings(), "a dry run changes nothing")
			m.cli(0, append(args[:i:i], args[i+1:]...)...)
		}
	}
	require.Equal(m.t, 2, rings())
	st := m.nodes[0].node.cluster.State()
	require.Equal(m.t, "hard", st.RouteOf("team-x").Spec.GetName())
	require.Equal(m.t, "default", st.RouteOf("anybody").Spec.GetName(), "the hashring without tenants takes the rest")
	require.Equal(m.t, 3, st.RouteOf("team-x").RF())
	at := st.Ring("hard").Spec.GetVersion()
	require.NotContains(m.t, m.cli(0, args...), "created")
	require.Equal(m.t, at, m.nodes[0].node.cluster.State().Ring("hard").Spec.GetVersion(), "the same file again is no change")
	m.imported = true
}

// showsItsLabels: a Querier sees each node's series under the labels that the document
// has it deduplicate by.
func (m *movingIn) showsItsLabels() {
	m.t.Helper()
	for i, n := range m.nodes {
		m.eventually("the store door of "+n.cfg.Name+" shows its series", func() error {
			got, err := m.series(i, "up")
			if err != nil || len(got) == 0 {
				return errors.Join(errors.New("no series"), err)
			}
			for _, ls := range got {
				require.Equal(m.t, "team-x", ls["tenant_id"])
				require.Equal(m.t, n.cfg.Name, ls["receive_replica"])
			}
			return nil
		})
	}
}

// series are the labels of a metric's series at a node's store door.
func (m *movingIn) series(i int, name string) (out []map[string]string, err error) {
	conn, err := grpc.NewClient(m.nodes[i].cfg.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	stream, err := storepb.NewStoreClient(conn).Series(ctx, &storepb.SeriesRequest{
		MaxTime: 1 << 60, Matchers: []*storepb.LabelMatcher{{Type: storepb.LabelMatcher_EQ, Name: "__name__", Value: name}},
	})
	for err == nil {
		var resp *storepb.SeriesResponse
		if resp, err = stream.Recv(); err == nil && resp.GetSeries() != nil {
			ls := map[string]string{}
			for _, l := range resp.GetSeries().GetLabels() {
				ls[l.GetName()] = l.GetValue()
			}
			out = append(out, ls)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return out, err
}
