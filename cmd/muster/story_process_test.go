package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// builtIn is the folder of what built has made, where it has made something.
var builtIn string

// built is the binary that stories with real processes run: one is enough.
var built = sync.OnceValues(func() (string, error) {
	if os.Getenv("MUSTER_BINARY") != "" {
		return fleet.Binary(context.Background(), "")
	}
	dir, err := os.MkdirTemp("", "muster-test")
	if err != nil {
		return "", err
	}
	builtIn = dir
	return fleet.Binary(context.Background(), dir)
})

// sideBySide is how many stories run at a time, whatever the number of processors:
// mostly they wait, for elections, for silence to be noticed, for blocks.
const sideBySide = 3

func TestMain(m *testing.M) {
	if runtime.GOMAXPROCS(0) < sideBySide { // -parallel overrides it
		_ = flag.Set("test.parallel", strconv.Itoa(sideBySide))
	}
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	// fleet starts processes from one thread that lives as long as this process.
	spawner := goleak.IgnoreAnyFunction("github.com/muster-metrics/muster/cmd/muster/fleet.Spawn")
	// Raft leaves a future unanswered where it is shut down at the wrong moment.
	unanswered := goleak.IgnoreAnyFunction("github.com/muster-metrics/muster/cluster.answerOf")
	if err := goleak.Find(spawner, unanswered); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "goroutines that nobody waits for:", err)
		code = 1
	}
	if builtIn != "" {
		_ = os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

func newFleet(t *testing.T, nodes int) *fleet.Fleet {
	t.Helper()
	bin, err := built()
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "fleet")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	f, err := fleet.Start(ctx, fleet.Config{
		Binary: bin, Dir: dir, Nodes: nodes, Factor: 3,
		Network: fmt.Sprintf("127.%d.%d", 20+rand.IntN(200), rand.IntN(250)),
	})
	require.NoError(t, err)
	t.Cleanup(f.Stop)
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, n := range f.Nodes {
			if b, err := os.ReadFile(n.LogFile()); err == nil {
				t.Logf("log of %s:\n%s", n.Name, b[max(0, len(b)-4000):])
			}
		}
	})
	return f
}

// sender writes one sample of each of its series per round, and repeats a round
// until it is acknowledged, as a Prometheus does.
type sender struct {
	node   *fleet.Node
	name   string
	client http.Client

	mu      sync.Mutex
	acked   int
	refused []string // answers that were not 2xx; a dead node gives none
}

const senderSeries = 200

func (s *sender) run(ctx context.Context, start int64) {
	for round := 0; ctx.Err() == nil; round++ {
		raw := snappy.Encode(nil, body(batch(s.name, senderSeries, start+int64(round)*100)...))
		for attempt := 0; ; attempt++ {
			status, text := s.post(raw, attempt)
			s.mu.Lock()
			if status/100 == 2 {
				s.acked++
			} else if status != 0 {
				s.refused = append(s.refused, fmt.Sprintf("round %d, until %s: %d %s", round, time.Now().UTC().Format("15:04:05.000"), status, text))
			}
			s.mu.Unlock()
			if status/100 == 2 {
				break
			}
			// An acknowledgement that got lost is repeated, so that what is stored
			// is what was acknowledged.
			<-time.After(100 * time.Millisecond)
		}
	}
}

func (s *sender) post(raw []byte, attempt int) (int, string) {
	return s.node.Post(context.Background(), &s.client, "load", raw, attempt)
}

func (s *sender) rounds() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked
}

// sendThroughEach has a sender for each node, until ctx ends; done waits for them.
func sendThroughEach(ctx context.Context, f *fleet.Fleet, start int64) (senders []*sender, done func()) {
	var wg sync.WaitGroup
	for i, n := range f.Nodes {
		s := &sender{node: n, name: fmt.Sprintf("load_%d", i)}
		senders = append(senders, s)
		wg.Go(func() { s.run(ctx, start) })
	}
	return senders, wg.Wait
}

// TestKilledNodeUnderLoad kills the leader with SIGKILL while every node is
// written to: the others refuse nothing, a sender of the killed node has no gap
// after its retries, and the node comes back by itself.
func TestKilledNodeUnderLoad(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{3, 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, nodes)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			start := time.Now().Add(-time.Hour).UnixMilli()
			senders, done := sendThroughEach(ctx, f, start)
			moreRounds(t, senders, 5)
			f.Nodes[0].Kill()
			moreRounds(t, senders[1:], 30)
			require.NoError(t, f.Nodes[0].Start(ctx))
			moreRounds(t, senders, 5)
			stop()
			done()
			for i, s := range senders[1:] {
				require.Empty(t, s.refused, "n%d is alive and refuses nothing", i+2)
			}
			require.NoError(t, f.Settle(t.Context()))
			for _, n := range f.Nodes {
				for _, s := range senders {
					got := countOf(t, n, s.name, start, s.rounds())
					require.Equal(t, s.rounds()*senderSeries, got, "acknowledged samples of %s on %s", s.name, n.Name)
				}
			}
		})
	}
}

// moreRounds waits until each sender has had n more rounds acknowledged.
func moreRounds(t *testing.T, senders []*sender, n int) {
	t.Helper()
	want := make([]int, len(senders))
	for i, s := range senders {
		want[i] = s.rounds() + n
	}
	require.Eventually(t, func() bool {
		for i, s := range senders {
			if s.rounds() < want[i] {
				return false
			}
		}
		return true
	}, patience, 20*time.Millisecond)
}

// countOf asks a node how many samples of a metric it finds.
func countOf(t *testing.T, n *fleet.Node, name string, start int64, rounds int) int {
	t.Helper()
	end := time.UnixMilli(start + int64(rounds)*100 + 2000)
	found, err := n.Sum(t.Context(), "load", fmt.Sprintf(`sum(count_over_time(%s[2h]))`, name), end)
	require.NoError(t, err)
	return int(found)
}

// TestPrometheusWritesToANodeThatIsKilled lets a real Prometheus write to one
// node, which is killed and started again, and compares what the cluster shows
// with what Prometheus has itself, sample by sample.
func TestPrometheusWritesToANodeThatIsKilled(t *testing.T) {
	t.Parallel()
	prom, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("SKIP: no prometheus on the PATH; make test unpacks Debian's")
	}
	f := newFleet(t, 3)
	api := startPrometheus(t, prom, f)
	up := func() map[string]string { return promQuery(t, api, "count(up)") }
	require.Eventually(t, func() bool { return up()["{}"] == "3" }, patience, 200*time.Millisecond)
	require.Eventually(t, func() bool { return clusterQuery(t, f.Nodes[2], "count(up)")["{}"] == "3" }, patience, 200*time.Millisecond)

	from := time.Now().Unix() // what was scraped before the sender began is not sent
	f.Nodes[1].Kill()
	require.Eventually(t, func() bool { return promTime(t, api, "timestamp(up)") > float64(from+3) }, patience, 200*time.Millisecond)
	require.NoError(t, f.Nodes[1].Start(t.Context()))

	// Up to a moment that Prometheus has behind it, both have the same samples.
	at := time.Now().Unix()
	require.Eventually(t, func() bool { return promTime(t, api, "timestamp(up)") > float64(at) }, patience, 200*time.Millisecond)
	expr := fmt.Sprintf("up[%ds] @ %d", at-from, at)
	raw, err := promAnswer(api, expr)
	require.NoError(t, err)
	own := samplesAfter(raw, from)
	require.Len(t, own, 3)
	for i := 0; ; i++ {
		raw, err := f.Nodes[0].CLI(t.Context(), "query", "-t", "default-tenant", "-o", "json", expr)
		got := samplesAfter(raw, from)
		if err == nil && fmt.Sprint(own) == fmt.Sprint(got) {
			return
		}
		require.Less(t, i, 100, "after %s prometheus has\n%v\nand the cluster\n%v (%v)", time.Unix(from, 0), own, got, err)
		<-time.After(500 * time.Millisecond)
	}
}

// samplesAfter are the samples of a range by series, without one at its very
// beginning: Prometheus 2 counts that in, and later ones do not.
func samplesAfter(raw []byte, from int64) map[string][]string {
	var a struct {
		Data struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Values [][2]any          `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if json.Unmarshal(raw, &a) != nil {
		return nil
	}
	samples := map[string][]string{}
	for _, r := range a.Data.Result {
		for _, v := range r.Values {
			if at, ok := v[0].(float64); ok && at > float64(from) {
				samples[series(r.Metric)] = append(samples[series(r.Metric)], fmt.Sprint(v[0], " ", v[1]))
			}
		}
	}
	return samples
}

// startPrometheus scrapes the three nodes every second and writes to the second.
func startPrometheus(t *testing.T, binary string, f *fleet.Fleet) (api string) {
	t.Helper()
	dir := t.TempDir()
	conf := "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n- job_name: muster\n  static_configs:\n  - targets:\n"
	for _, n := range f.Nodes {
		conf += "    - " + n.HTTP + "\n"
	}
	conf += "remote_write:\n- url: http://" + f.Nodes[1].Write + "/api/v1/receive\n  queue_config: {batch_send_deadline: 1s}\n"
	file := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(file, []byte(conf), 0o600))
	l, err := net.Listen("tcp", f.Nodes[0].Host+":0")
	require.NoError(t, err)
	address := l.Addr().String()
	l.Close()
	cmd := exec.Command(binary, "--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", address)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of prometheus:\n%s", log.String())
		}
	})
	return "http://" + address
}

// promQuery is a value by series as Prometheus has it; empty while it starts.
func promQuery(t *testing.T, api, expr string) map[string]string {
	t.Helper()
	raw, err := promAnswer(api, expr)
	if err != nil {
		return nil
	}
	return vectorOf(raw)
}

func promAnswer(api, expr string) ([]byte, error) {
	resp, err := http.Get(api + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func promTime(t *testing.T, api, expr string) float64 {
	t.Helper()
	least := 0.0
	for _, v := range promQuery(t, api, expr) {
		f, err := strconv.ParseFloat(v, 64)
		require.NoError(t, err)
		if least == 0 || f < least {
			least = f
		}
	}
	return least
}

func clusterQuery(t *testing.T, n *fleet.Node, expr string) map[string]string {
	t.Helper()
	out, err := n.CLI(t.Context(), "query", "-t", "default-tenant", "-o", "json", expr)
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	return vectorOf(out)
}

func vectorOf(raw []byte) map[string]string {
	var a struct {
		Data struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Value  [2]any            `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if json.Unmarshal(raw, &a) != nil {
		return nil
	}
	values := map[string]string{}
	for _, r := range a.Data.Result {
		values[series(r.Metric)] = fmt.Sprint(r.Value[1])
	}
	return values
}

func TestDemoEndsByItselfWithAVerdict(t *testing.T) {
	t.Parallel()
	bin, err := built()
	require.NoError(t, err)
	var out bytes.Buffer
	cmd := exec.Command(bin, "demo", "--duration", "30s")
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Run(), "%s", &out)
	require.Contains(t, out.String(), "every node counts 3 series of up")
	require.Contains(t, out.String(), "count(up) by (tenant_id)")
}
