package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/infopb"
	"github.com/muster-metrics/muster/proto/storepb"
	"github.com/muster-metrics/muster/tsdb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bed is a node with a store door: a committed state, a real TSDB per tenant
// and a real gRPC connection.
type bed struct {
	t     testing.TB
	state *cluster.State
	db    *tsdb.DB
	keys  []tsdb.Settings
	conn  *grpc.ClientConn
	store storepb.StoreClient
	info  infopb.InfoClient
}

func newBed(t testing.TB, change ...func(*Config, *Data)) *bed {
	t.Helper()
	b := &bed{t: t, state: cluster.EmptyState()}
	b.apply(&clusterpb.Command{Change: &clusterpb.Command_Init{Init: &clusterpb.InitCluster{
		Name: "c", Id: strings.Repeat("0a", 16), ReplicationFactor: 1, Slots: 4,
		Member:  &clusterpb.Member{Name: "n1", Address: "127.0.0.1:1", KeyHash: make([]byte, 32)},
		StoreId: []byte("0123456789abcdef"),
	}}})
	b.db = tsdb.New(tsdb.Config{Dir: t.TempDir()})
	require.NoError(t, b.db.Open(t.Context()))
	t.Cleanup(func() { require.NoError(t, b.db.Close()) })

	cfg := Config{Node: "n1", State: b.now}
	var data Data = b.db
	for _, f := range change {
		f(&cfg, &data)
	}
	b.serve(New(cfg, data, nil, nil))
	return b
}

func (b *bed) now() *cluster.State { return b.state }

// serve opens a connection to the server, over a pipe.
func (b *bed) serve(s *Server, opts ...grpc.ServerOption) {
	l := bufconn.Listen(1 << 20)
	srv := NewServer(opts...)
	s.Register(srv)
	go func() { _ = srv.Serve(l) }()
	b.t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:///store",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	require.NoError(b.t, err)
	b.t.Cleanup(func() { conn.Close() })
	b.conn, b.store, b.info = conn, storepb.NewStoreClient(conn), infopb.NewInfoClient(conn)
}

func (b *bed) apply(cmd *clusterpb.Command) {
	b.t.Helper()
	next, res := b.state.Apply(b.state.Revision()+1, cmd)
	require.Nil(b.t, res.Refusal)
	b.state = next
}

// tenant creates a tenant with its TSDB.
func (b *bed) tenant(id string) tsdb.Key {
	b.t.Helper()
	b.apply(&clusterpb.Command{Change: &clusterpb.Command_PutTenant{PutTenant: &clusterpb.PutTenant{Id: id}}})
	key := tsdb.Key{Tenant: id, Incarnation: b.state.Tenant(id).Incarnation}
	b.keys = append(b.keys, tsdb.Settings{Key: key})
	b.db.SetTenants(b.keys, nil)
	return key
}

type sample struct {
	t int64
	v float64
}

// point is a series with samples, as a test writes it.
type point struct {
	labels  labels.Labels
	samples []sample
	// histograms, instead of samples, begin at 0 and are a second apart.
	histograms []*histogram.Histogram
	floats     []*histogram.FloatHistogram
}

func at(ls labels.Labels, ts ...int64) point {
	p := point{labels: ls}
	for _, t := range ts {
		p.samples = append(p.samples, sample{t, float64(t)})
	}
	return p
}

func (b *bed) write(key tsdb.Key, points ...point) {
	b.t.Helper()
	n := 0
	for _, p := range points {
		n += len(p.samples) + len(p.histograms) + len(p.floats)
	}
	out := make([]tsdb.Outcome, n)
	_, err := b.db.Append(b.t.Context(), key, &share{points: points, at: -1}, false, out)
	require.NoError(b.t, err)
	for i, o := range out {
		require.Equal(b.t, tsdb.Stored, o, "sample %d", i)
	}
}

// share is a tsdb.Share of points.
type share struct {
	points   []point
	at, next int
}

func (s *share) Reset()         { s.at, s.next = -1, 0 }
func (s *share) Next() bool     { s.at, s.next = s.at+1, 0; return s.at < len(s.points) }
func (s *share) Labels() []byte { return s.points[s.at].labels.Bytes(nil) }
func (s *share) Hash() uint64   { return xxhash.Sum64(s.Labels()) }

func (s *share) Sample() (int64, float64, bool) {
	all := s.points[s.at].samples
	if s.next == len(all) {
		return 0, 0, false
	}
	s.next++
	return all[s.next-1].t, all[s.next-1].v, true
}

func (s *share) Histogram() (int64, *histogram.Histogram, *histogram.FloatHistogram, bool) {
	p, t := s.points[s.at], int64(s.next)*1000
	s.next++
	switch k := s.next - 1; {
	case k < len(p.histograms):
		return t, p.histograms[k].Copy(), nil, true
	case k < len(p.floats):
		return t, nil, p.floats[k].Copy(), true
	default:
		return 0, nil, nil, false
	}
}

// tb is what *testing.T and *rapid.T have in common here.
type tb interface {
	require.TestingT
	Helper()
}

// got is what a Series call streamed.
type got struct {
	series   []*storepb.Series // as framed
	messages []int             // series per message
	warnings []string
}

func (b *bed) series(ctx context.Context, req *storepb.SeriesRequest, opts ...grpc.CallOption) (got, error) {
	b.t.Helper()
	stream, err := b.store.Series(ctx, req, opts...)
	require.NoError(b.t, err)
	var out got
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		switch r := resp.Result.(type) {
		case *storepb.SeriesResponse_Series:
			out.series, out.messages = append(out.series, r.Series), append(out.messages, 1)
		case *storepb.SeriesResponse_Batch:
			out.series, out.messages = append(out.series, r.Batch.Series...), append(out.messages, len(r.Batch.Series))
		case *storepb.SeriesResponse_Warning:
			out.warnings = append(out.warnings, r.Warning)
		}
	}
}

func (b *bed) mustSeries(req *storepb.SeriesRequest, opts ...grpc.CallOption) got {
	b.t.Helper()
	out, err := b.series(b.t.Context(), req, opts...)
	require.NoError(b.t, err)
	return out
}

// lines writes series like {a="1"} 10=10 20=20.
func (g got) lines(t tb) []string {
	t.Helper()
	var out []string
	for _, s := range g.series {
		line := labelsOf(s.Labels).String()
		for _, c := range s.Chunks {
			for _, p := range samplesOf(t, c) {
				line += fmt.Sprintf(" %d=%g", p.t, p.v)
			}
		}
		out = append(out, line)
	}
	return out
}

func labelsOf(in []*storepb.Label) labels.Labels {
	b := labels.NewScratchBuilder(len(in))
	for _, l := range in {
		b.Add(l.Name, l.Value)
	}
	return b.Labels()
}

// samplesOf decodes a chunk as a Querier does, and checks its hash.
func samplesOf(t tb, c *storepb.AggrChunk) []sample {
	t.Helper()
	require.Equal(t, xxhash.Sum64(c.Raw.Data), c.Raw.Hash, "hash of %s", hex.EncodeToString(c.Raw.Data))
	chk, err := chunkenc.FromData(chunkenc.Encoding(c.Raw.Type+1), c.Raw.Data)
	require.NoError(t, err)
	var out []sample
	it := chk.Iterator(nil)
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		switch kind {
		case chunkenc.ValFloat:
			ts, v := it.At()
			out = append(out, sample{ts, v})
		default:
			ts, h := it.AtFloatHistogram(nil)
			out = append(out, sample{ts, h.Count})
		}
	}
	require.NoError(t, it.Err())
	require.Equal(t, c.MinTime, out[0].t)
	require.Equal(t, c.MaxTime, out[len(out)-1].t)
	return out
}

func matcher(typ storepb.LabelMatcher_Type, name, value string) *storepb.LabelMatcher {
	return &storepb.LabelMatcher{Type: typ, Name: name, Value: value}
}

func eq(name, value string) *storepb.LabelMatcher {
	return matcher(storepb.LabelMatcher_EQ, name, value)
}

func named() []*storepb.LabelMatcher {
	return []*storepb.LabelMatcher{matcher(storepb.LabelMatcher_NEQ, "__name__", "")}
}

func everything(ms ...*storepb.LabelMatcher) *storepb.SeriesRequest {
	return &storepb.SeriesRequest{MinTime: math.MinInt64, MaxTime: math.MaxInt64, Matchers: slices.Concat(named(), ms)}
}
