package store

import (
	"context"
	"errors"
	"io"
	"math"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/proto/infopb"
	"github.com/muster-metrics/muster/proto/storepb"
	"github.com/muster-metrics/muster/tsdb"
)

// exemplarShare is the exemplars of one series for tsdb.AppendExemplars.
type exemplarShare struct {
	labels labels.Labels
	all    []exemplar.Exemplar
	begun  bool
}

func (s *exemplarShare) Labels() []byte { return s.labels.Bytes(nil) }
func (s *exemplarShare) Hash() uint64   { return xxhash.Sum64(s.Labels()) }
func (s *exemplarShare) Next() bool     { first := !s.begun; s.begun = true; return first }
func (s *exemplarShare) Exemplar() ([]byte, int64, float64, bool) {
	if len(s.all) == 0 {
		return nil, 0, 0, false
	}
	e := s.all[0]
	s.all = s.all[1:]
	return e.Labels.Bytes(nil), e.Ts, e.Value, true
}

func (b *bed) mark(key tsdb.Key, ls labels.Labels, all ...exemplar.Exemplar) {
	b.t.Helper()
	out := make([]tsdb.Outcome, len(all))
	require.NoError(b.t, b.db.AppendExemplars(b.t.Context(), key, &exemplarShare{labels: ls, all: all}, out))
	for _, o := range out {
		require.Equal(b.t, tsdb.Stored, o)
	}
}

// exemplars asks the door, and gives the answer as text.
func (b *bed) exemplars(query string, start, end int64) (found []string, err error) {
	stream, err := storepb.NewExemplarsClient(b.conn).Exemplars(b.t.Context(), &storepb.ExemplarsRequest{Query: query, Start: start, End: end})
	require.NoError(b.t, err)
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		d := resp.GetData()
		require.NotNil(b.t, d, "%v", resp)
		text := labelText(d.SeriesLabels)
		for _, e := range d.Exemplars {
			text += " " + labelText(e.Labels)
			require.Equal(b.t, float64(e.Ts), e.Value)
		}
		found = append(found, text)
	}
}

func labelText(s *storepb.LabelSet) string {
	b := labels.NewScratchBuilder(4)
	for _, l := range s.GetLabels() {
		b.Add(l.Name, l.Value)
	}
	return b.Labels().String()
}

// twoMarked are two tenants with a series of the same name and an exemplar of each.
func twoMarked(t *testing.T, change ...func(*Config, *Data)) *bed {
	b := newBed(t, change...)
	for _, id := range []string{"a", "b"} {
		key := b.tenant(id)
		ls := labels.FromStrings("__name__", "m", "x", "1")
		b.write(key, at(ls, 1000))
		b.mark(key, ls, exemplar.Exemplar{Labels: labels.FromStrings("trace_id", "of-"+id), Ts: 1000, Value: 1000})
		require.NoError(t, b.db.AppendMetadata(t.Context(), key, []tsdb.Metadata{
			{Family: "m", Type: "counter", Help: "What " + id + " counts."}, {Family: "common", Type: "gauge"},
		}))
	}
	return b
}

func TestExemplarsCarryExternalLabels(t *testing.T) {
	b := twoMarked(t)
	const (
		a = `{__name__="m", receive_replica="n1", tenant_id="a", x="1"} {trace_id="of-a"}`
		c = `{__name__="m", receive_replica="n1", tenant_id="b", x="1"} {trace_id="of-b"}`
	)
	for query, want := range map[string][]string{
		`rate(m[5m])`:                    {a, c},
		`m{tenant_id="a"}`:               {a},
		`m{tenant_id="b"} + m{x="none"}`: {c},
		`m{receive_replica="n2"}`:        nil,
		`{tenant_id="a"}`:                nil, // nothing is left to choose by
		`m{x="2"}`:                       nil,
		`1 + 1`:                          nil,
	} {
		got, err := b.exemplars(query, math.MinInt64, math.MaxInt64)
		require.NoError(t, err)
		require.Equal(t, want, got, query)
	}
	got, err := b.exemplars("m", 1001, 2000)
	require.NoError(t, err)
	require.Empty(t, got)
	_, err = b.exemplars("m{", 0, 1)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func (b *bed) metadata(req *storepb.MetricMetadataRequest) map[string]int {
	stream, err := storepb.NewMetadataClient(b.conn).MetricMetadata(b.t.Context(), req)
	require.NoError(b.t, err)
	found := map[string]int{}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return found
		}
		require.NoError(b.t, err)
		for name, e := range resp.GetMetadata().GetMetadata() {
			found[name] += len(e.Metas)
		}
	}
}

func TestMetadataOfAllTenantsOfTheDoor(t *testing.T) {
	b := twoMarked(t)
	require.Equal(t, map[string]int{"m": 2, "common": 1}, b.metadata(&storepb.MetricMetadataRequest{Limit: -1}))
	require.Equal(t, map[string]int{"m": 2}, b.metadata(&storepb.MetricMetadataRequest{Metric: "m"}))
	require.Len(t, b.metadata(&storepb.MetricMetadataRequest{Limit: 1}), 1)
	require.Empty(t, b.metadata(&storepb.MetricMetadataRequest{Metric: "none"}))
}

func TestAReaderBoundToATenantSeesItsExemplarsAndMetadataOnly(t *testing.T) {
	b := twoMarked(t, func(c *Config, _ *Data) {
		c.TenantOf = func(context.Context) (string, bool) { return "b", true }
	})
	got, err := b.exemplars("m", math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Contains(t, got[0], "of-b")
	require.Equal(t, map[string]int{"m": 1, "common": 1}, b.metadata(&storepb.MetricMetadataRequest{}))
}

func TestInfoAnnouncesExemplarsAndMetadata(t *testing.T) {
	b := twoMarked(t)
	info, err := b.info.Info(t.Context(), &infopb.InfoRequest{})
	require.NoError(t, err)
	require.NotNil(t, info.Exemplars)
	require.Equal(t, int64(math.MaxInt64), info.Exemplars.MaxTime)
	require.NotNil(t, info.MetricMetadata)
}
