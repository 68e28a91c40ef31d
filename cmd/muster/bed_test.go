package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/cluster"
)

// patience is how long a story waits for what must come; nothing is asserted
// about how fast it comes.
const patience = 90 * time.Second

// bed is a cluster of real nodes in this process. Each has an address of its
// own, so that it can be stopped and started on the same ports.
type bed struct {
	t     *testing.T
	dir   string
	net   string
	nodes []*running
}

type running struct {
	cfg  nodeConfig
	node *node
	end  context.CancelFunc
	done chan error
}

// beds are the two sizes that every story of writing and reading runs on: with
// as many nodes as replicas routing and merging do nothing. What a story left
// on the nodes is looked through at its end.
func beds(t *testing.T, story func(t *testing.T, b *bed), change ...func(*nodeConfig)) {
	sizes(t, []int{3, 5}, story, change...)
}

// sizes are other numbers of nodes, where a story needs one more or one less. They
// run side by side: a story waits more than it works.
func sizes(t *testing.T, nodes []int, story func(t *testing.T, b *bed), change ...func(*nodeConfig)) {
	for _, n := range nodes {
		t.Run(fmt.Sprintf("%d nodes", n), func(t *testing.T) {
			t.Parallel()
			b := slottedBed(t, n, 3, fewSlots, change...)
			story(t, b)
			b.audit()
		})
	}
}

var networks atomic.Int32

// fewSlots are enough for every slot of a story's ring to get some of its series, and
// spare the race detector most of what it does for a table of the usual size.
const fewSlots = 256

// newBed forms a cluster with the commands that a person would type.
func newBed(t *testing.T, nodes, factor int, change ...func(*nodeConfig)) *bed {
	t.Helper()
	return slottedBed(t, nodes, factor, cluster.DefaultSlots, change...)
}

func slottedBed(t *testing.T, nodes, factor, slots int, change ...func(*nodeConfig)) *bed {
	t.Helper()
	b := emptyBed(t, nodes, change...)
	for i := range nodes {
		b.start(i)
	}
	var made struct {
		JoinTokens []string `json:"join_tokens"`
	}
	out := b.cli(0, "cluster", "init", "--name", "test", "--tenant-auth", "header",
		"--replication-factor", strconv.Itoa(factor), "--slots", strconv.Itoa(slots), "--join-tokens", strconv.Itoa(max(1, nodes-1)), "-o", "json")
	require.NoError(t, json.Unmarshal([]byte(out), &made))
	for i := 1; i < nodes; i++ {
		b.join(i, made.JoinTokens[i-1], 0)
	}
	b.settle()
	return b
}

// join lets node i join through another, again where a busy machine took too long.
func (b *bed) join(i int, token string, through int) {
	b.t.Helper()
	b.eventually(b.nodes[i].cfg.Name+" has joined", func() error {
		if _, msg, code := b.try(i, "cluster", "join", "--token", token, b.nodes[through].node.door.Addr().String()); code != 0 {
			return fmt.Errorf("exit %d: %s", code, msg)
		}
		return nil
	})
}

func emptyBed(t *testing.T, nodes int, change ...func(*nodeConfig)) *bed {
	t.Helper()
	dir, err := os.MkdirTemp("", "bed") // a socket's path is short
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &bed{t: t, dir: dir, net: fmt.Sprintf("127.%d.%d", 20+rand.IntN(200), networks.Add(1)%250)}
	for range nodes {
		b.add(change...)
	}
	t.Cleanup(func() {
		for i := range b.nodes {
			b.stop(i)
		}
	})
	return b
}

// add configures one more node, which does not run yet.
func (b *bed) add(change ...func(*nodeConfig)) {
	i := len(b.nodes)
	cfg := nodeConfig{
		Name: fmt.Sprintf("n%d", i+1), DataDir: filepath.Join(b.dir, fmt.Sprintf("n%d", i+1)),
		Advertise: fmt.Sprintf("%s.%d", b.net, i+1), BlockDuration: 2 * time.Hour, QuorumTimeout: 5 * time.Second,
		MaxRequestBytes: 32 << 20, MaxDecodedBytes: 128 << 20, TenantHeader: "THANOS-TENANT",
		StoreTLS: storeTLS{Mode: "off"}, Version: "test", Log: testLog(b.t, i), SettleWait: 20 * time.Millisecond,
		Timing: cluster.Timing{
			Heartbeat: 500 * time.Millisecond, Election: 500 * time.Millisecond, Lease: 400 * time.Millisecond,
			Report: 200 * time.Millisecond, Round: 200 * time.Millisecond, Stable: 500 * time.Millisecond,
			Hold: 2 * time.Second, Batch: 200 * time.Millisecond,
		},
	}
	any := cfg.Advertise + ":0"
	cfg.Write, cfg.HTTP, cfg.GRPC, cfg.Peer = any, any, any, any
	for _, f := range change {
		f(&cfg)
	}
	b.nodes = append(b.nodes, &running{cfg: cfg})
}

// grow starts one more node and lets it join through the second.
func (b *bed) grow(change ...func(*nodeConfig)) {
	b.t.Helper()
	var made struct {
		Token string `json:"token"`
	}
	require.NoError(b.t, json.Unmarshal([]byte(b.cli(0, "token", "create", "--role", "node", "-o", "json")), &made))
	b.add(change...)
	last := len(b.nodes) - 1
	b.start(last)
	b.join(last, made.Token, 1)
}

// testLog shows a node's warnings where the test fails.
func testLog(t *testing.T, i int) *slog.Logger {
	level := slog.LevelWarn
	if os.Getenv("MUSTER_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: level})).With("node", fmt.Sprintf("n%d", i+1))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	defer func() { _ = recover() }() // a straggler may log after the test
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (b *bed) start(i int) {
	b.t.Helper()
	r := b.nodes[i]
	n, err := newNode(r.cfg)
	require.NoError(b.t, err)
	require.NoError(b.t, n.Open(context.Background()))
	a := n.addresses() // it keeps them when it starts again
	r.cfg.Write, r.cfg.HTTP, r.cfg.GRPC, r.cfg.Peer = a.Write, a.HTTP, a.GRPC, a.Peer
	ctx, end := context.WithCancel(context.Background())
	r.node, r.end, r.done = n, end, make(chan error, 1)
	go func() { r.done <- n.Run(ctx) }()
}

// stop ends a node in order; one that does not run is left alone.
func (b *bed) stop(i int) {
	r := b.nodes[i]
	if r.node == nil {
		return
	}
	r.end()
	err := <-r.done
	if cerr := r.node.Close(); err == nil {
		err = cerr
	}
	r.node = nil
	if err != nil {
		b.t.Errorf("n%d: %v", i+1, err)
	}
}

// cli runs a command against node i and wants it to succeed. It is typed again where
// there was no leader: on a busy machine they change.
func (b *bed) cli(i int, args ...string) string {
	b.t.Helper()
	out, msg, code := b.try(i, args...)
	for deadline := time.Now().Add(patience); code == exitNoLeader && time.Now().Before(deadline); {
		<-time.After(50 * time.Millisecond)
		out, msg, code = b.try(i, args...)
	}
	require.Zero(b.t, code, "muster %s: %s", strings.Join(args, " "), msg)
	return out
}

// try runs a command and returns what it printed and its exit code.
func (b *bed) try(i int, args ...string) (out, msg string, code int) {
	var o, e bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	code = run(ctx, slices.Concat([]string{"muster"}, args, []string{"--data-dir", b.nodes[i].cfg.DataDir}), stdio{&o, &e})
	return o.String(), e.String(), code
}

// settle waits until every running node sees a healthy cluster without a move or
// an epoch that is still to be closed, and is ready.
func (b *bed) settle() {
	b.t.Helper()
	b.eventually("the cluster settles", func() error {
		for i, r := range b.nodes {
			if r.node == nil {
				continue
			}
			if err := r.node.ready.err(); err != nil {
				return fmt.Errorf("n%d: %w", i+1, err)
			}
			out, msg, code := b.try(i, "cluster", "status", "-o", "json")
			if code != 0 {
				return fmt.Errorf("n%d: exit %d: %s%s", i+1, code, msg, out)
			}
			var st statusAnswer
			if err := json.Unmarshal([]byte(out), &st); err != nil {
				return err
			}
			if err := st.votes(); err != nil {
				return err
			}
			for _, ring := range st.Rings {
				if ring.Short+ring.Moving > 0 {
					return fmt.Errorf("ring %s: %d short, %d moving", ring.Name, ring.Short, ring.Moving)
				}
			}
			for _, ring := range r.node.cluster.State().Rings() {
				if open := len(ring.Table.Open()); open > 0 {
					return fmt.Errorf("n%d: ring %s: %d epochs are not closed", i+1, ring.Spec.GetName(), open)
				}
			}
		}
		return nil
	})
}

// votes is an error while too few nodes vote: before that the loss of one may
// leave the others without a leader, which is another story.
func (st statusAnswer) votes() error {
	voters := 0
	for _, n := range st.Nodes {
		if n.Role == "leader" || n.Role == "voter" {
			voters++
		}
	}
	if want := min(3, len(st.Nodes)); voters < want {
		return fmt.Errorf("%d voters, want %d", voters, want)
	}
	return nil
}

// eventually asks again until f is content.
func (b *bed) eventually(what string, f func() error) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("waited in vain until %s: %v", what, err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// sample of a series that a test writes.
type sample struct {
	labels labels.Labels
	t      int64
	v      float64
}

func body(samples ...sample) []byte {
	var wr prompb.WriteRequest
	for _, s := range samples {
		wr.Timeseries = append(wr.Timeseries, prompb.TimeSeries{
			Labels: prompb.FromLabels(s.labels, nil), Samples: []prompb.Sample{{Value: s.v, Timestamp: s.t}},
		})
	}
	raw, err := wr.Marshal()
	if err != nil {
		panic(err)
	}
	return raw
}

// post sends a body to the write door of node i.
func (b *bed) post(i int, tenant string, raw []byte, header ...string) (status int, text string) {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+b.nodes[i].cfg.Write+"/api/v1/receive", bytes.NewReader(raw))
	require.NoError(b.t, err)
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	if tenant != "" {
		req.Header.Set("THANOS-TENANT", tenant)
	}
	for k := 0; k+1 < len(header); k += 2 {
		req.Header.Set(header[k], header[k+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return resp.StatusCode, string(answer)
}

// write sends samples through node i, as often as the answer asks for it.
func (b *bed) write(i int, tenant string, samples ...sample) {
	b.t.Helper()
	raw := snappy.Encode(nil, body(samples...))
	b.eventually("a write through n"+strconv.Itoa(i+1), func() error {
		status, text := b.post(i, tenant, raw, "Retry-Attempt", "1")
		if status/100 == 2 {
			return nil
		}
		require.NotEqual(b.t, 4, status/100, "%d %s", status, text)
		return fmt.Errorf("%d %s", status, text)
	})
}

// query asks node i and wants a complete answer: value by series.
func (b *bed) query(i int, args ...string) map[string]float64 {
	b.t.Helper()
	got, err := b.ask(i, args...)
	require.NoError(b.t, err)
	return got
}

func (b *bed) ask(i int, args ...string) (map[string]float64, error) {
	out, msg, code := b.try(i, append([]string{"query", "-o", "json"}, args...)...)
	if code != 0 {
		return nil, fmt.Errorf("exit %d: %s", code, msg)
	}
	var a struct {
		Data struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Value  [2]any            `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		return nil, err
	}
	values := map[string]float64{}
	for _, r := range a.Data.Result {
		v, err := strconv.ParseFloat(fmt.Sprint(r.Value[1]), 64)
		if err != nil {
			return nil, err
		}
		values[series(r.Metric)] = v
	}
	return values, nil
}

// batch is n series with one sample each at the time t.
func batch(name string, n int, t int64) []sample {
	out := make([]sample, n)
	for k := range out {
		out[k] = sample{labels.FromStrings("__name__", name, "instance", fmt.Sprintf("host-%04d", k), "job", "test"), t, float64(k)}
	}
	return out
}
