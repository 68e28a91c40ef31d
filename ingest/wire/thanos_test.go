package wire

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/muster-metrics/muster/proto/storepb"
)

func written(name string) *storepb.WrittenSeries {
	return &storepb.WrittenSeries{
		Labels:  []*storepb.WrittenSeries_Label{{Name: "__name__", Value: name}},
		Samples: []*storepb.WrittenSeries_Sample{{Value: 1, Timestamp: 5}},
	}
}

// told is what the parts of a message hold.
func told(t *testing.T, message []byte) string {
	t.Helper()
	parts, replica, err := Thanos(message)
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprint(replica)
	for _, p := range parts {
		var b Batch
		if err := WalkV1(p.Body, Limits{MinTime: 1}, &b); err != nil {
			t.Fatal(err)
		}
		out += " " + p.Tenant + ":"
		for _, s := range b.Series {
			out += b.Text(s)
		}
	}
	return out
}

func TestBothFormsOfThanosMessageAreTakenApart(t *testing.T) {
	tuple := func(tenant string, names ...string) *storepb.TimeSeriesTenantTuple {
		p := &storepb.TimeSeriesTenantTuple{Tenant: tenant}
		for _, n := range names {
			p.Timeseries = append(p.Timeseries, written(n))
		}
		return p
	}
	both := &storepb.WriteRequest{
		Tenant: "c", Replica: 2, Timeseries: []*storepb.WrittenSeries{written("z")},
		TimeseriesTenantData: []*storepb.TimeSeriesTenantTuple{tuple("a", "x", "y"), tuple("empty"), tuple("b", "x")},
	}
	for name, c := range map[string]struct {
		in   *storepb.WriteRequest
		want string
	}{
		"nothing": {&storepb.WriteRequest{}, "0"},
		"0.42":    {&storepb.WriteRequest{Tenant: "a", Timeseries: []*storepb.WrittenSeries{written("x"), written("y")}}, `0 a:{__name__="x"}{__name__="y"}`},
		"later":   {&storepb.WriteRequest{Replica: 3, TimeseriesTenantData: []*storepb.TimeSeriesTenantTuple{tuple("a", "x")}}, `3 a:{__name__="x"}`},
		"both":    {both, `2 a:{__name__="x"}{__name__="y"} b:{__name__="x"} c:{__name__="z"}`},
	} {
		raw, err := c.in.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		if got := told(t, raw); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		for cut := range raw { // no prefix does worse than fail
			if _, _, err := Thanos(raw[:cut]); err != nil && !errors.Is(err, ErrFraming) {
				t.Errorf("%s cut at %d: %v", name, cut, err)
			}
		}
	}
}

func TestSeriesOfAMessageMayStandApart(t *testing.T) {
	series := func(name string) []byte {
		raw, err := written(name).MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), raw)
	}
	tenant := protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), "a")
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 9, protowire.VarintType), 7)
	message := bytes.Join([][]byte{unknown, series("x"), tenant, series("y"), series("z"), unknown}, nil)
	kept := bytes.Clone(message)
	if got, want := told(t, message), `0 a:{__name__="x"}{__name__="y"}{__name__="z"}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if !bytes.Equal(kept, message) {
		t.Error("the message was written to")
	}
	for name, bad := range map[string][]byte{
		"series as a number": protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7),
		"replica as bytes":   protowire.AppendString(protowire.AppendTag(nil, 3, protowire.BytesType), "a"),
		"tuple as a number":  protowire.AppendVarint(protowire.AppendTag(nil, 4, protowire.VarintType), 7),
		"tuple cut":          protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), []byte{0x0a, 9, 1}),
		"text":               []byte("hello"),
	} {
		if _, _, err := Thanos(bad); !errors.Is(err, ErrFraming) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzThanos(f *testing.F) {
	raw, err := (&storepb.WriteRequest{Tenant: "a", Replica: 1, Timeseries: []*storepb.WrittenSeries{written("x")}}).MarshalVT()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, message []byte) {
		parts, replica, err := Thanos(message)
		var want storepb.WriteRequest
		if want.UnmarshalVT(message) != nil || err != nil {
			return // the generated code looks into the series, too
		}
		if replica != want.GetReplica() {
			t.Fatalf("replica %d, want %d", replica, want.GetReplica())
		}
		all := map[string]int{}
		for _, p := range parts {
			var b storepb.TimeSeriesTenantTuple
			if err := b.UnmarshalVT(p.Body); err != nil {
				t.Fatal(err)
			}
			all[p.Tenant] += len(b.GetTimeseries())
		}
		for _, p := range append(want.GetTimeseriesTenantData(), &storepb.TimeSeriesTenantTuple{Tenant: want.GetTenant(), Timeseries: want.GetTimeseries()}) {
			all[p.GetTenant()] -= len(p.GetTimeseries())
		}
		for tenant, n := range all {
			if n != 0 {
				t.Fatalf("tenant %q: %d series more than there are", tenant, n)
			}
		}
	})
}
