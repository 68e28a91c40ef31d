package main

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/proto/infopb"
	"github.com/muster-metrics/muster/proto/storepb"
)

// routed is a message as a Thanos router sends it: what it has of a tenant in the
// bytes of remote write, for the message's own field and its tuples alike.
func routed(t *testing.T, samples ...sample) []*storepb.WrittenSeries {
	t.Helper()
	var wr prompb.WriteRequest
	require.NoError(t, wr.Unmarshal(body(samples...)))
	var out []*storepb.WrittenSeries
	for _, ts := range wr.Timeseries {
		raw, err := ts.Marshal()
		require.NoError(t, err)
		var s storepb.WrittenSeries
		require.NoError(t, proto.Unmarshal(raw, &s))
		out = append(out, &s)
	}
	return out
}

// routerTo is a router in front of node i, whose store door asks for no certificate.
func (b *bed) routerTo(i int) storepb.WriteableStoreClient {
	b.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+b.nodes[i].cfg.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = conn.Close() })
	return storepb.NewWriteableStoreClient(conn)
}

// TestThanosRoutersForwardInBothForms has a router with three copies and a newer one
// with none in front of the nodes; what they bring is read back as it was, once.
func TestThanosRoutersForwardInBothForms(t *testing.T) {
	beds(t, func(t *testing.T, b *bed) {
		at := time.Now().UnixMilli()
		older, newer := scrapes("m", 30, 4, at), scrapes("m", 30, 4, at)
		send := func(i int, m *storepb.WriteRequest) {
			t.Helper()
			router := b.routerTo(i)
			b.eventually("the router forwards", func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				_, err := router.RemoteWrite(ctx, m)
				if err != nil {
					require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
				}
				return err
			})
		}
		for k := range older {
			for replica := range int64(3) {
				send(int(replica), &storepb.WriteRequest{Tenant: "older", Replica: replica + 1, Timeseries: routed(t, older[k]...)})
			}
			send(k%len(b.nodes), &storepb.WriteRequest{TimeseriesTenantData: []*storepb.TimeSeriesTenantTuple{
				{Tenant: "newer", Timeseries: routed(t, newer[k]...)}, {Tenant: "other", Timeseries: routed(t, batch("n", 3, at+int64(k))...)},
			}})
		}
		b.identical("older", older)
		b.identical("newer", newer)
		got := b.query(0, "-t", "other", `count(n)`)
		require.Equal(t, map[string]float64{"{}": 3}, got)

		// What a histogram or an exemplar needs is in the bytes, whatever our words for
		// them are: an unknown field of a series goes where remote write puts it.
		h := &prompb.Histogram{Count: &prompb.Histogram_CountInt{CountInt: 3}, Sum: 6, Schema: 1, ZeroThreshold: 0.001, ZeroCount: &prompb.Histogram_ZeroCountInt{ZeroCountInt: 3}, Timestamp: at}
		raw, err := h.Marshal()
		require.NoError(t, err)
		series := routed(t, sample{labels: batch("h", 1, at)[0].labels, t: at})[0]
		series.Samples = nil
		series.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), raw))
		send(0, &storepb.WriteRequest{Tenant: "histograms", Replica: 1, Timeseries: []*storepb.WrittenSeries{series}})
		require.Equal(t, map[string]float64{"{}": 6}, b.query(0, "-t", "histograms", `sum(histogram_sum(h))`))
	})
}

// TestOnlyAWriterForwards: what a certificate of the store door may do.
func TestOnlyAWriterForwards(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, 1, func(c *nodeConfig) { c.StoreTLS.Mode = "on" })
	b.cli(0, "settings", "set", "tenant_auth=token") // which a certificate stands in for
	b.cli(0, "tenant", "create", "a")
	b.cli(0, "tenant", "create", "b")
	any, serial := b.issue(0, "--role", "writer", "router")
	bound, _ := b.issue(0, "--role", "writer", "team-a", "--tenant", "a")
	reader, _ := b.issue(0, "--role", "reader", "querier")
	node := b.nodes[0].node.door.Credentials().Certificate
	at := time.Now().UnixMilli()
	forward := func(pair tls.Certificate, tenants ...string) error {
		m := &storepb.WriteRequest{}
		for _, tenant := range tenants {
			m.TimeseriesTenantData = append(m.TimeseriesTenantData, &storepb.TimeSeriesTenantTuple{Tenant: tenant, Timeseries: routed(t, batch("m", 2, at)...)})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := storepb.NewWriteableStoreClient(b.atStore(0, pair).conn).RemoteWrite(ctx, m)
		return err
	}
	require.NoError(t, forward(any, "a", "b"))
	require.NoError(t, forward(bound, "a"))
	for name, err := range map[string]error{
		"another tenant": forward(bound, "b"), "one of two": forward(bound, "a", "b"), "a reader": forward(reader, "a"), "a node": forward(node, "a"),
	} {
		require.Equal(t, codes.PermissionDenied, status.Code(err), "%s: %v", name, err)
	}
	require.Equal(t, codes.InvalidArgument, status.Code(forward(any, "a b")), "a tenant's name")
	_, err := b.atStore(0, any).info.Info(t.Context(), &infopb.InfoRequest{})
	require.Equal(t, codes.PermissionDenied, status.Code(err), "a writer reads: %v", err)
	require.Equal(t, map[string]float64{"{}": 2}, b.query(0, "-t", "a", `count(m)`))

	b.cli(0, "cert", "revoke", serial)
	require.Contains(t, []codes.Code{codes.Unavailable, codes.Unauthenticated}, status.Code(forward(any, "a")), "revoked")
	_, err = storepb.NewWriteableStoreClient(b.atStore(0).conn).RemoteWrite(t.Context(), &storepb.WriteRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err), "no certificate")
}

// TestWithoutCertificatesARouterWritesWhereTenantsHaveNoCredentials.
func TestWithoutCertificatesARouterWritesWhereTenantsHaveNoCredentials(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, 1, func(c *nodeConfig) { c.MaxDecodedBytes = 1 << 20 })
	at := time.Now().UnixMilli()
	m := &storepb.WriteRequest{Tenant: "a", Timeseries: routed(t, batch("m", 2, at)...)}
	_, err := b.routerTo(0).RemoteWrite(t.Context(), m)
	require.NoError(t, err)
	b.cli(0, "settings", "set", "tenant_auth=token")
	_, err = b.routerTo(0).RemoteWrite(t.Context(), m)
	require.Equal(t, codes.PermissionDenied, status.Code(err), "%v", err)
	b.cli(0, "settings", "set", "tenant_auth=header")
	b.cli(0, "tenant", "set", "a", "--state", "suspended")
	_, err = b.routerTo(0).RemoteWrite(t.Context(), m)
	require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
	// More than --max-decoded-bytes is not read.
	large := &storepb.WriteRequest{Tenant: string(make([]byte, b.nodes[0].cfg.MaxDecodedBytes))}
	_, err = b.routerTo(0).RemoteWrite(t.Context(), large)
	require.Equal(t, codes.ResourceExhausted, status.Code(err), "%v", err)
}
