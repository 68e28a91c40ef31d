package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/storepb"
	"github.com/muster-metrics/muster/tsdb"
)

func twoTenants(t testing.TB, change ...func(*Config, *Data)) *bed {
	b := newBed(t, change...)
	a, c := b.tenant("a"), b.tenant("b")
	b.write(a, at(labels.FromStrings("__name__", "up", "job", "x"), 10, 20),
		at(labels.FromStrings("__name__", "up"), 10),
		at(labels.FromStrings("__name__", "up", "zone", "z"), 30))
	b.write(c, at(labels.FromStrings("__name__", "up", "job", "x"), 15),
		at(labels.FromStrings("__name__", "down", "tenant_id", "forged"), 40))
	return b
}

func TestSeriesComeExtendedAndInOneOrder(t *testing.T) {
	b := twoTenants(t)
	require.Equal(t, []string{
		`{__name__="down", receive_replica="n1", tenant_id="b"} 40=40`,
		`{__name__="up", job="x", receive_replica="n1", tenant_id="a"} 10=10 20=20`,
		`{__name__="up", job="x", receive_replica="n1", tenant_id="b"} 15=15`,
		`{__name__="up", receive_replica="n1", tenant_id="a"} 10=10`,
		`{__name__="up", receive_replica="n1", tenant_id="a", zone="z"} 30=30`,
	}, b.mustSeries(everything()).lines(t))
}

func TestSeriesAnswersByMatcherTimeAndLimit(t *testing.T) {
	b := twoTenants(t)
	for name, tc := range map[string]struct {
		req  *storepb.SeriesRequest
		want []string
	}{
		"one tenant": {everything(eq("tenant_id", "b"), eq("job", "x")), []string{
			`{__name__="up", job="x", receive_replica="n1", tenant_id="b"} 15=15`,
		}},
		"another replica": {everything(eq("receive_replica", "n2")), nil},
		"the stored label of that name is not seen": {everything(eq("tenant_id", "forged")), nil},
		"time": {&storepb.SeriesRequest{MinTime: 30, MaxTime: 30, Matchers: []*storepb.LabelMatcher{eq("__name__", "up")}}, []string{
			`{__name__="up", receive_replica="n1", tenant_id="a", zone="z"} 30=30`,
		}},
		"time outside":  {&storepb.SeriesRequest{MinTime: 31, MaxTime: 35, Matchers: named()}, nil},
		"time reversed": {&storepb.SeriesRequest{MinTime: 30, MaxTime: 20, Matchers: named()}, nil},
		"limit": {&storepb.SeriesRequest{MinTime: 0, MaxTime: 100, Matchers: named(), Limit: 2}, []string{
			`{__name__="down", receive_replica="n1", tenant_id="b"} 40=40`,
			`{__name__="up", job="x", receive_replica="n1", tenant_id="a"} 10=10 20=20`,
		}},
		"labels only": {&storepb.SeriesRequest{MinTime: 0, MaxTime: 100, Matchers: []*storepb.LabelMatcher{eq("job", "x")}, SkipChunks: true}, []string{
			`{__name__="up", job="x", receive_replica="n1", tenant_id="a"}`,
			`{__name__="up", job="x", receive_replica="n1", tenant_id="b"}`,
		}},
		"without the replica": {&storepb.SeriesRequest{
			MinTime: 0, MaxTime: 100, Matchers: []*storepb.LabelMatcher{eq("__name__", "up"), eq("tenant_id", "a")},
			WithoutReplicaLabels: []string{"receive_replica", "job"},
		}, []string{
			`{__name__="up", tenant_id="a"} 10=10`,
			`{__name__="up", tenant_id="a"} 10=10 20=20`,
			`{__name__="up", tenant_id="a", zone="z"} 30=30`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, b.mustSeries(tc.req).lines(t))
		})
	}
}

func TestBadRequestsAreTheCallersFault(t *testing.T) {
	b := twoTenants(t)
	for name, req := range map[string]*storepb.SeriesRequest{
		"external labels only": {MaxTime: 100, Matchers: []*storepb.LabelMatcher{eq("tenant_id", "a")}},
		"no matcher":           {MaxTime: 100},
		"bad regexp":           everything(matcher(storepb.LabelMatcher_RE, "job", "(")),
		"unknown type":         everything(matcher(9, "job", "x")),
		"shard out of range":   {MaxTime: 100, Matchers: named(), ShardInfo: &storepb.ShardInfo{TotalShards: 2, ShardIndex: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.series(t.Context(), req)
			require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
		})
	}
	out, err := b.series(t.Context(), &storepb.SeriesRequest{MaxTime: 100, Matchers: []*storepb.LabelMatcher{eq("tenant_id", "nobody")}})
	require.NoError(t, err, "no tenant matches: an empty answer comes before the rule")
	require.Empty(t, out.series)
}

func TestNotReadyUntilThereIsACluster(t *testing.T) {
	var reason error
	b := newBed(t, func(c *Config, _ *Data) { c.Ready = func() error { return reason } })
	key := b.tenant("a")
	b.write(key, at(labels.FromStrings("__name__", "up"), 1))
	require.Len(t, b.mustSeries(everything()).series, 1)
	reason = errors.New("replaying")
	_, err := b.series(t.Context(), everything())
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.ErrorContains(t, err, "Not ready")
	_, err = b.info.Info(t.Context(), nil)
	require.ErrorContains(t, err, "Not ready")
}

func TestABoundCallerSeesOneTenant(t *testing.T) {
	b := twoTenants(t, func(c *Config, _ *Data) {
		c.TenantOf = func(context.Context) (string, bool) { return "b", true }
	})
	for _, line := range b.mustSeries(everything()).lines(t) {
		require.Contains(t, line, `tenant_id="b"`)
	}
	values, err := b.store.LabelValues(t.Context(), &storepb.LabelValuesRequest{Label: "tenant_id", End: 100})
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, values.Values)
	info, err := b.info.Info(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, info.LabelSets, 1)
}

func TestADeletedTenantIsNotShown(t *testing.T) {
	b := twoTenants(t)
	b.apply(&clusterpb.Command{Change: &clusterpb.Command_DeleteTenant{DeleteTenant: &clusterpb.DeleteTenant{Id: "b"}}})
	for _, line := range b.mustSeries(everything()).lines(t) {
		require.Contains(t, line, `tenant_id="a"`)
	}
}

func TestBatchesAndTheirSize(t *testing.T) {
	b := newBed(t)
	key := b.tenant("a")
	var points []point
	for i := range 10 {
		points = append(points, at(labels.FromStrings("__name__", "up", "i", fmt.Sprint(i)), 1))
	}
	b.write(key, points...)
	req := everything()
	for size, want := range map[int64][]int{0: {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 4: {4, 4, 2}, 64: {10}} {
		req.ResponseBatchSize = size
		require.Equal(t, want, b.mustSeries(req).messages, "batch size %d", size)
	}
}

func TestALongSeriesComesInFrames(t *testing.T) {
	b := newBed(t)
	key := b.tenant("a")
	rng := rand.New(rand.NewSource(1))
	long := point{labels: labels.FromStrings("__name__", "long")}
	for i := range 200_000 {
		long.samples = append(long.samples, sample{int64(i), rng.Float64()})
	}
	b.write(key, long, at(labels.FromStrings("__name__", "short"), 1))
	for _, batch := range []int64{0, 64} {
		req := everything()
		req.ResponseBatchSize = batch
		out := b.mustSeries(req)
		var all []sample
		frames := 0
		for _, s := range out.series {
			if labelsOf(s.Labels).Get("__name__") != "long" {
				continue
			}
			frames++
			size := 0
			for _, c := range s.Chunks {
				size += len(c.Raw.Data)
				all = append(all, samplesOf(t, c)...)
			}
			require.Less(t, size, frameBytes+2000)
		}
		require.Equal(t, long.samples, all)
		require.Greater(t, frames, 1)
		require.Equal(t, "short", labelsOf(out.series[len(out.series)-1].Labels).Get("__name__"))
	}
}

func TestATenantThatIsNotReadyIsAWarningOrAnError(t *testing.T) {
	b := twoTenants(t, func(_ *Config, d *Data) { *d = unready{*d} })
	req := everything()
	out := b.mustSeries(req)
	require.Len(t, out.series, 3)
	require.Len(t, out.warnings, 1)
	require.Contains(t, out.warnings[0], "tenant b")
	req.PartialResponseStrategy = storepb.PartialResponseStrategy_ABORT
	_, err := b.series(t.Context(), req)
	require.Equal(t, codes.Aborted, status.Code(err))

	names := &storepb.LabelNamesRequest{End: 100}
	got, err := b.store.LabelNames(t.Context(), names)
	require.NoError(t, err)
	require.Len(t, got.Warnings, 1)
	names.PartialResponseDisabled = true
	_, err = b.store.LabelNames(t.Context(), names)
	require.Equal(t, codes.Aborted, status.Code(err))
}

// unready is a store whose tenant b is still being replayed.
type unready struct{ Data }

func (u unready) ChunkQuerier(key tsdb.Key, mint, maxt int64) (storage.ChunkQuerier, error) {
	if key.Tenant == "b" {
		return nil, tsdb.ErrNotReady
	}
	return u.Data.ChunkQuerier(key, mint, maxt)
}

func TestAPanicIsAnAnswer(t *testing.T) {
	b := twoTenants(t, func(_ *Config, d *Data) { *d = panicking{*d} })
	_, err := b.series(t.Context(), everything())
	require.Equal(t, codes.Internal, status.Code(err))
	_, err = b.store.LabelNames(t.Context(), &storepb.LabelNamesRequest{End: 100})
	require.Equal(t, codes.Internal, status.Code(err))
	_, err = b.info.Info(t.Context(), nil)
	require.NoError(t, err, "the server lives")
}

type panicking struct{ Data }

func (panicking) ChunkQuerier(tsdb.Key, int64, int64) (storage.ChunkQuerier, error) { panic("boom") }

func TestHistogramsTravel(t *testing.T) {
	b := newBed(t)
	ints, floats := point{labels: labels.FromStrings("__name__", "int")}, point{labels: labels.FromStrings("__name__", "float")}
	for i := range int64(10) {
		ints.histograms = append(ints.histograms, tsdbutil.GenerateTestHistogram(i))
		floats.floats = append(floats.floats, tsdbutil.GenerateTestFloatHistogram(i))
	}
	b.write(b.tenant("h"), ints, floats)
	out := b.mustSeries(everything())
	require.Len(t, out.series, 2)
	for i, want := range []storepb.Chunk_Encoding{storepb.Chunk_FLOAT_HISTOGRAM, storepb.Chunk_HISTOGRAM} {
		require.Equal(t, want, out.series[i].Chunks[0].Raw.Type)
		require.Len(t, samplesOf(t, out.series[i].Chunks[0]), 10)
	}
}

func TestSnappyAndHealth(t *testing.T) {
	b := twoTenants(t)
	plain := b.mustSeries(everything())
	for range 3 { // pooled readers and writers must forget their last message
		require.Equal(t, plain.lines(t), b.mustSeries(everything(), grpc.UseCompressor("snappy")).lines(t))
	}
	resp, err := grpc_health_v1.NewHealthClient(b.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, resp.Status)
}

func TestACallerThatLeavesFreesItsPlace(t *testing.T) {
	b := newBed(t, func(c *Config, _ *Data) { c.Concurrency = 1 })
	key := b.tenant("a")
	wide := strings.Repeat("x", 1<<10)
	var points []point
	for i := range 4000 { // more than the pipe and gRPC's windows hold
		points = append(points, at(labels.FromStrings("__name__", "up", "i", fmt.Sprint(i), "wide", wide), 1))
	}
	b.write(key, points...)
	for range 3 {
		ctx, leave := context.WithCancel(t.Context())
		stream, err := b.store.Series(ctx, everything())
		require.NoError(t, err)
		_, err = stream.Recv()
		require.NoError(t, err)
		leave()
	}
	require.Len(t, b.mustSeries(everything(eq("i", "7"))).series, 1)
}

func TestNamesAndValues(t *testing.T) {
	b := twoTenants(t)
	names := func(req *storepb.LabelNamesRequest) []string {
		t.Helper()
		req.End = 100
		out, err := b.store.LabelNames(t.Context(), req)
		require.NoError(t, err)
		return out.Names
	}
	require.Equal(t, []string{"__name__", "job", "receive_replica", "tenant_id", "zone"}, names(&storepb.LabelNamesRequest{}))
	require.Equal(t, []string{"__name__", "job"}, names(&storepb.LabelNamesRequest{Limit: 2}))
	require.Equal(t, []string{"__name__", "job", "tenant_id", "zone"}, names(&storepb.LabelNamesRequest{WithoutReplicaLabels: []string{"receive_replica"}}))
	require.Equal(t, []string{"__name__", "receive_replica", "tenant_id"}, names(&storepb.LabelNamesRequest{Matchers: []*storepb.LabelMatcher{eq("__name__", "down")}}))
	require.Empty(t, names(&storepb.LabelNamesRequest{Matchers: []*storepb.LabelMatcher{eq("__name__", "nothing")}}))
	require.Empty(t, names(&storepb.LabelNamesRequest{Matchers: []*storepb.LabelMatcher{eq("tenant_id", "nobody")}}))

	values := func(req *storepb.LabelValuesRequest) []string {
		t.Helper()
		req.End = 100
		out, err := b.store.LabelValues(t.Context(), req)
		require.NoError(t, err)
		return out.Values
	}
	down := []*storepb.LabelMatcher{eq("__name__", "down")}
	require.Equal(t, []string{"down", "up"}, values(&storepb.LabelValuesRequest{Label: "__name__"}))
	require.Equal(t, []string{"down"}, values(&storepb.LabelValuesRequest{Label: "__name__", Limit: 1}))
	require.Equal(t, []string{"a", "b"}, values(&storepb.LabelValuesRequest{Label: "tenant_id"}))
	require.Equal(t, []string{"b"}, values(&storepb.LabelValuesRequest{Label: "tenant_id", Matchers: down}))
	require.Equal(t, []string{"up"}, values(&storepb.LabelValuesRequest{Label: "__name__", Matchers: []*storepb.LabelMatcher{eq("tenant_id", "a")}}))
	require.Empty(t, values(&storepb.LabelValuesRequest{Label: "receive_replica", WithoutReplicaLabels: []string{"receive_replica"}}))
	_, err := b.store.LabelValues(t.Context(), &storepb.LabelValuesRequest{})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestInfo(t *testing.T) {
	b := newBed(t)
	info, err := b.info.Info(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, "receive", info.ComponentType)
	require.Empty(t, info.LabelSets)
	require.Equal(t, int64(math.MinInt64), info.Store.MinTime)
	require.Equal(t, int64(math.MaxInt64), info.Store.MaxTime)

	a, c := b.tenant("a"), b.tenant("b")
	b.tenant("c")
	b.write(a, at(labels.FromStrings("__name__", "up"), 2000))
	b.write(c, at(labels.FromStrings("__name__", "up"), 1000))
	info, err = b.info.Info(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, int64(1000), info.Store.MinTime)
	require.True(t, info.Store.SupportsSharding)
	require.True(t, info.Store.SupportsWithoutReplicaLabels)
	var sets []string
	for _, s := range info.LabelSets {
		sets = append(sets, labelsOf(s.Labels).String())
	}
	require.Equal(t, []string{
		`{receive_replica="n1", tenant_id="a"}`, `{receive_replica="n1", tenant_id="b"}`, `{receive_replica="n1", tenant_id="c"}`,
	}, sets)
	require.Len(t, info.Store.TsdbInfos, 3)
	require.Equal(t, int64(2000), info.Store.TsdbInfos[0].MinTime)
	require.Equal(t, int64(math.MaxInt64), info.Store.TsdbInfos[2].MinTime, "an empty head has nothing yet")
}
