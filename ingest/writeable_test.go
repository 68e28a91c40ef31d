package ingest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/proto/storepb"
)

// doorCodec reads what reads itself, as the store door's does.
type doorCodec struct{}

func (doorCodec) Name() string { return "proto" }

func (doorCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, err := proto.Marshal(v.(proto.Message))
	return mem.BufferSlice{mem.SliceBuffer(b)}, err
}

func (doorCodec) Unmarshal(data mem.BufferSlice, v any) error {
	return v.(interface{ UnmarshalVT([]byte) error }).UnmarshalVT(data.Materialize())
}

// router is a Thanos router in front of a node; may is what it may write, nil: all.
func (n *node) router(may func(context.Context, string) error) storepb.WriteableStoreClient {
	n.t.Helper()
	if may == nil {
		may = func(context.Context, string) error { return nil }
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(doorCodec{}))
	n.ing.RegisterWriteable(s, may)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close(); s.Stop(); <-served })
	return storepb.NewWriteableStoreClient(conn)
}

// forwarded is a series of a message: its name and a time.
func forwarded(name string, at int64) *storepb.WrittenSeries {
	return &storepb.WrittenSeries{
		Labels:  []*storepb.WrittenSeries_Label{{Name: "__name__", Value: name}, {Name: "job", Value: "x"}},
		Samples: []*storepb.WrittenSeries_Sample{{Value: 1, Timestamp: at}},
	}
}

func tuple(tenant string, series ...*storepb.WrittenSeries) *storepb.TimeSeriesTenantTuple {
	return &storepb.TimeSeriesTenantTuple{Tenant: tenant, Timeseries: series}
}

func alone(tenant string, replica int64, series ...*storepb.WrittenSeries) *storepb.WriteRequest {
	return &storepb.WriteRequest{Tenant: tenant, Replica: replica, Timeseries: series}
}

func several(tuples ...*storepb.TimeSeriesTenantTuple) *storepb.WriteRequest {
	return &storepb.WriteRequest{TimeseriesTenantData: tuples}
}

func TestAThanosRouterWrites(t *testing.T) {
	n := split(t, map[string]Tenant{"a": {}, "b": {Relabel: []*relabel.Config{setting("by", "b")}}}, func(v *View) { v.SplitLabel = "" })
	r := n.router(nil)
	at := now()
	for _, m := range []*storepb.WriteRequest{
		{},
		alone("a", 0, forwarded("x", at)),
		alone("a", 1, forwarded("y", at)),
		alone("a", 2, forwarded("y", at)),
		several(tuple("a", forwarded("z", at)), tuple("b", forwarded("z", at)), tuple("none")),
	} {
		if _, err := r.RemoteWrite(t.Context(), m); err != nil {
			t.Errorf("%v: %v", m, err)
		}
	}
	n.has("a", `{__name__="x", job="x"}`, `{__name__="y", job="x"}`, `{__name__="z", job="x"}`)
	n.has("b", `{__name__="z", by="b", job="x"}`)
	if got := n.storage.count("a"); got != 3 {
		t.Errorf("%d samples of a: the router's second copy is stored again", got)
	}
	if n.storage.repeats != 2 {
		t.Errorf("%d repeats, want the router's two copies", n.storage.repeats)
	}
}

// TestARouterIsAnsweredInItsCodes: which errors its sender may send again, and
// which it may not.
func TestARouterIsAnsweredInItsCodes(t *testing.T) {
	n := split(t, map[string]Tenant{"a": {}, "full": {}, "sam": {Suspended: true}, "late": {Unready: "its rules are not understood"}}, func(v *View) {
		v.SplitLabel = ""
		v.Admit = func(_, id string) error {
			if id == "gone" {
				return fmt.Errorf("deleted: %w", ErrTenantRefused)
			}
			return nil
		}
	})
	n.storage.set(func(s *promStorage) {
		s.gate = func(tenant string) error {
			if tenant == "full" {
				return fmt.Errorf("disk full")
			}
			return nil
		}
		s.judge = func(ls labels.Labels) peerpb.Outcome {
			if ls.Get("__name__") == "other" {
				return peerpb.Outcome_CONFLICT
			}
			return peerpb.Outcome_STORED
		}
	})
	r := n.router(func(_ context.Context, tenant string) error {
		if tenant == "alien" {
			return fmt.Errorf("the certificate is for others")
		}
		return nil
	})
	at := now()
	nameless := &storepb.WrittenSeries{Labels: []*storepb.WrittenSeries_Label{{Name: "a", Value: "b"}}, Samples: []*storepb.WrittenSeries_Sample{{Timestamp: at}}}
	old := forwarded("old", at-5*time.Hour.Milliseconds())
	for name, c := range map[string]struct {
		m    *storepb.WriteRequest
		code codes.Code
		text string
	}{
		"too old":                    {alone("a", 1, old, forwarded("new", at)), codes.AlreadyExists, "1 of 2 samples refused for good, 1 stored"},
		"another value":              {alone("a", 1, forwarded("other", at)), codes.AlreadyExists, "another value is held"},
		"no name":                    {alone("a", 1, nameless), codes.InvalidArgument, "no metric name: 1"},
		"too old and no name":        {alone("a", 1, nameless, old), codes.InvalidArgument, ""},
		"no tenant":                  {alone("", 1, old), codes.InvalidArgument, "without a tenant"},
		"replica":                    {alone("a", -1, old), codes.InvalidArgument, "replica"},
		"deleted":                    {alone("gone", 1, old), codes.InvalidArgument, "deleted"},
		"suspended":                  {alone("sam", 1, old), codes.InvalidArgument, "suspended"},
		"not the certificate's":      {several(tuple("a", forwarded("kept", at)), tuple("alien", old)), codes.PermissionDenied, "for others"},
		"no quorum":                  {alone("full", 1, forwarded("x", at)), codes.Unavailable, "disk full"},
		"unready":                    {alone("late", 1, old), codes.Unavailable, "not understood"},
		"one deleted, one good":      {several(tuple("a", forwarded("b1", at)), tuple("gone", old)), codes.InvalidArgument, "deleted"},
		"one old, one good":          {several(tuple("a", forwarded("b2", at)), tuple("a", old)), codes.AlreadyExists, "1 stored"},
		"one deleted, one no quorum": {several(tuple("full", forwarded("b3", at)), tuple("gone", old)), codes.Unavailable, ""},
	} {
		_, err := r.RemoteWrite(t.Context(), c.m)
		if status.Code(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v %q", name, err, c.code, c.text)
		}
	}
	n.has("a", `{__name__="new", job="x"}`, `{__name__="b1", job="x"}`, `{__name__="b2", job="x"}`)
}

func TestANodeWithoutAClusterIsUnavailableToARouter(t *testing.T) {
	b := newBed(t, 1, nil)
	_, err := b.nodes[0].router(nil).RemoteWrite(t.Context(), alone("a", 0, forwarded("x", now())))
	if status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
}
