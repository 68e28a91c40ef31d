package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/scrape"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/agent"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/tsdb"
)

// oddValues are those that a sum or a text would not bring back as they were. A
// negative zero is not among them: Prometheus' own encoder leaves it out as a zero.
var oddValues = []uint64{
	value.StaleNaN, value.NormalNaN, math.Float64bits(math.Inf(1)), math.Float64bits(math.Inf(-1)),
	1, math.Float64bits(math.MaxFloat64), 0, math.Float64bits(-1),
}

// scrapes is n series with a value at each of several times; each has some odd
// one among them, and a series in four ends with a stale marker.
func scrapes(name string, n, times int, at int64) [][]sample {
	rounds := make([][]sample, times)
	for k := range rounds {
		for i, s := range batch(name, n, at+int64(k)*1000) {
			if i%3 == 0 {
				s.labels = labels.NewBuilder(s.labels).Set("größe", "süß "+s.labels.Get("instance")).Labels()
			}
			s.v = float64(i) + float64(k)/7
			if i%times == k {
				s.v = math.Float64frombits(oddValues[i/times%len(oddValues)])
			}
			if i%4 == 0 && k == times-1 {
				s.v = math.Float64frombits(value.StaleNaN)
			}
			rounds[k] = append(rounds[k], s)
		}
	}
	return rounds
}

// kept is a sample that was stored: time and bits.
type kept struct {
	t    int64
	bits uint64
}

// stored is what node i has of a tenant, as its TSDB keeps it: stale markers too,
// which no query shows.
func (b *bed) stored(i int, tenant string) map[string][]kept {
	b.t.Helper()
	all := map[string][]kept{}
	var tn *clusterpb.Tenant
	if tn = b.nodes[i].node.cluster.State().Tenant(tenant); tn == nil {
		return all
	}
	q, err := b.nodes[i].node.tsdb.ChunkQuerier(tsdb.Key{Tenant: tenant, Incarnation: tn.GetIncarnation()}, 0, 1<<60)
	if errors.Is(err, tsdb.ErrUnknownTenant) {
		return all
	}
	require.NoError(b.t, err)
	defer q.Close()
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	for set.Next() {
		name := set.At().Labels().String()
		for chunks := set.At().Iterator(nil); chunks.Next(); {
			it := chunks.At().Chunk.Iterator(nil)
			for it.Next() == chunkenc.ValFloat {
				t, v := it.At()
				all[name] = append(all[name], kept{t, math.Float64bits(v)})
			}
			require.NoError(b.t, it.Err())
		}
	}
	require.NoError(b.t, set.Err())
	return all
}

// identical waits until three nodes hold each series, bit by bit.
func (b *bed) identical(tenant string, rounds [][]sample) {
	b.t.Helper()
	want := map[string][]kept{}
	for _, round := range rounds {
		for _, s := range round {
			want[s.labels.String()] = append(want[s.labels.String()], kept{s.t, math.Float64bits(s.v)})
		}
	}
	b.eventually("three nodes hold what "+tenant+" sent", func() error {
		holders := map[string]int{}
		for i := range b.nodes {
			for name, got := range b.stored(i, tenant) {
				if fmt.Sprint(got) != fmt.Sprint(want[name]) {
					return fmt.Errorf("n%d has %v of %s, want %v", i+1, got, name, want[name])
				}
				holders[name]++
			}
		}
		for name := range want {
			if holders[name] != 3 {
				return fmt.Errorf("%d nodes hold %s", holders[name], name)
			}
		}
		return nil
	})
	shown := map[string]float64{} // by name: the samples that a query sees
	for _, round := range rounds {
		for _, s := range round {
			if math.Float64bits(s.v) != value.StaleNaN {
				shown[s.labels.Get("__name__")]++
			}
		}
	}
	at := fmt.Sprint(rounds[len(rounds)-1][0].t/1000 + 10)
	for i := range b.nodes {
		for name, n := range shown {
			got := b.query(i, "-t", tenant, "--time", at, fmt.Sprintf(`sum(count_over_time(%s[1h]))`, name))
			require.Equal(b.t, map[string]float64{"{}": n}, got, "%s on n%d", name, i+1)
		}
	}
}

// idleScrapes is a sender's scrape manager that has not begun.
type idleScrapes struct{}

func (idleScrapes) Get() (*scrape.Manager, error) { return nil, errors.New("nothing is scraped") }

// prometheusSends has a Prometheus agent's own log, queues and client send the
// samples to node i in one of the protocol's forms.
func (b *bed) prometheusSends(i int, tenant, message string, rounds [][]sample) {
	b.t.Helper()
	b.prometheusAppends(i, tenant, message, "samples", len(rounds), func(app promstorage.Appender, k int) int {
		for _, s := range rounds[k] {
			_, err := app.Append(0, s.labels, s.t, s.v)
			require.NoError(b.t, err)
		}
		return len(rounds[k])
	})
}

// prometheusAppends has it send what add appends in each of n rounds, and waits
// until it has sent as many of that kind as add says.
func (b *bed) prometheusAppends(i int, tenant, message, kind string, n int, add func(app promstorage.Appender, round int) int) {
	b.t.Helper()
	conf, err := config.Load(fmt.Sprintf(`
remote_write:
- url: http://%s/api/v1/receive
  send_native_histograms: true
  send_exemplars: true
  protobuf_message: %s
  headers: {THANOS-TENANT: %s}
  metadata_config: {send: false}
  queue_config: {batch_send_deadline: 100ms, max_samples_per_send: 70, min_backoff: 50ms, max_backoff: 500ms}
`, b.nodes[i].cfg.Write, message, tenant), testLog(b.t, i))
	require.NoError(b.t, err)
	dir, reg := b.t.TempDir(), prometheus.NewRegistry()
	sender := remote.NewStorage(testLog(b.t, i), reg, func() (int64, error) { return 0, nil }, dir, 20*time.Second, idleScrapes{}, false)
	db, err := agent.Open(testLog(b.t, i), reg, sender, dir, agent.DefaultOptions())
	require.NoError(b.t, err)
	db.SetWriteNotified(sender)
	require.NoError(b.t, sender.ApplyConfig(conf))
	sent := 0
	for round := range n {
		app := db.Appender(b.t.Context())
		sent += add(app, round)
		require.NoError(b.t, app.Commit())
	}
	b.eventually("Prometheus has sent it", func() error {
		sender.Notify() // its reader may have begun after the samples were written
		if got := counted(b, reg, "prometheus_remote_storage_"+kind+"_total"); got < float64(sent) {
			return fmt.Errorf("sent %v of %d", got, sent)
		}
		if n := counted(b, reg, "prometheus_remote_storage_"+kind+"_pending"); n > 0 {
			return fmt.Errorf("%v are pending", n)
		}
		return nil
	})
	require.Zero(b.t, counted(b, reg, "prometheus_remote_storage_"+kind+"_failed_total"), "samples that the sender gave up")
	require.NoError(b.t, errors.Join(db.Close(), sender.Close()))
}

// counted is the sum of a metric over its labels; with a value, over those that have
// it as some label's.
func counted(b *bed, reg *prometheus.Registry, name string, value ...string) float64 {
	families, err := reg.Gather()
	require.NoError(b.t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				has := len(value) == 0
				for _, l := range m.GetLabel() {
					has = has || slices.Contains(value, l.GetValue())
				}
				if has {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	return sum
}

// TestWhatSendersSendIsReadBack lets Prometheus' own code send, in both forms,
// and bodies as vmagent, Vector and Fluent Bit encode them.
func TestWhatSendersSendIsReadBack(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		// Prometheus sends what is newer than its start.
		at := time.Now().Add(time.Minute).UnixMilli()
		first, second := scrapes("m", 100, 6, at), scrapes("m", 100, 6, at)
		b.prometheusSends(0, "one", "prometheus.WriteRequest", first)
		b.prometheusSends(1, "two", "io.prometheus.write.v2.Request", second)
		b.identical("one", first)
		b.identical("two", second)
		for tenant, c := range map[string]struct {
			encode func([]byte) []byte
			header []string
		}{
			"vmagent":    {zstdOf(t), []string{"Content-Encoding", "zstd", "X-VictoriaMetrics-Remote-Write-Version", "1"}},
			"vector":     {gzipOf(t), []string{"Content-Encoding", "gzip"}},
			"fluent-bit": {func(raw []byte) []byte { return raw }, []string{"Content-Encoding", "identity"}},
		} {
			rounds := scrapes("m", 40, 4, at)
			for k, round := range rounds {
				raw := c.encode(body(round...))
				b.eventually(tenant+" writes", func() error {
					status, text := b.post(k%len(b.nodes), tenant, raw, c.header...)
					if status == 204 {
						return nil
					}
					require.NotEqual(t, 4, status/100, "%s: %d %s", tenant, status, text)
					return fmt.Errorf("%d %s", status, text)
				})
			}
			b.identical(tenant, rounds)
		}
	})
}

func zstdOf(t *testing.T) func([]byte) []byte {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	require.NoError(t, err)
	return func(raw []byte) []byte { return w.EncodeAll(raw, nil) }
}

func gzipOf(t *testing.T) func([]byte) []byte {
	return func(raw []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, err := w.Write(raw)
		require.NoError(t, errors.Join(err, w.Close()))
		return out.Bytes()
	}
}
