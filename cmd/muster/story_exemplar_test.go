package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	promstorage "github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/muster-metrics/muster/proto/storepb"
)

// prometheus asks for a path of Prometheus' API: at the write door for a tenant, at the
// socket for all of them ("").
func (b *bed) prometheus(i int, tenant, path string, form url.Values) (data json.RawMessage, err error) {
	transport := &http.Transport{DisableKeepAlives: true}
	host := b.nodes[i].cfg.Write
	if tenant == "" {
		host = "muster"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(b.nodes[i].cfg.DataDir, socketName))
		}
	}
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, "http://"+host+"/api/v1/"+path+"?"+form.Encode(), nil)
	if err != nil {
		return nil, err
	}
	if tenant != "" {
		req.Header.Set("THANOS-TENANT", tenant)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var a struct {
		Data  json.RawMessage
		Error string
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return nil, fmt.Errorf("%s: %w", resp.Status, err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Muster-Complete") != "true" {
		return nil, fmt.Errorf("%s: %s", resp.Status, a.Error)
	}
	return a.Data, nil
}

// exemplarsAt are a tenant's as node i shows them: "series trace@time=value".
func (b *bed) exemplarsAt(i int, tenant, expr string) (all []string, err error) {
	data, err := b.prometheus(i, tenant, "query_exemplars", url.Values{"query": {expr}})
	if err != nil {
		return nil, err
	}
	var found []struct {
		SeriesLabels map[string]string
		Exemplars    []struct {
			Labels    map[string]string
			Value     string
			Timestamp float64
		}
	}
	if err := json.Unmarshal(data, &found); err != nil {
		return nil, err
	}
	for _, s := range found {
		for _, e := range s.Exemplars {
			all = append(all, fmt.Sprintf("%s %s@%.3f=%s", series(s.SeriesLabels), e.Labels["trace_id"], e.Timestamp, e.Value))
		}
	}
	return all, nil
}

// prometheusSendsExemplars has Prometheus send rounds of samples with an exemplar
// each, and gives what has to be read back.
func (b *bed) prometheusSendsExemplars(i int, tenant, message string, at int64) (want []string) {
	const rounds, n = 4, 30
	b.prometheusAppends(i, tenant, message, "exemplars", rounds, func(app promstorage.Appender, k int) int {
		for j, s := range batch("m", n, at+int64(k)*1000) {
			ref, err := app.Append(0, s.labels, s.t, s.v)
			require.NoError(b.t, err)
			e := exemplar.Exemplar{Labels: labels.FromStrings("trace_id", fmt.Sprintf("%s-%d-%d", tenant, j, k)), Ts: s.t, Value: float64(j) + 0.5, HasTs: true}
			_, err = app.AppendExemplar(ref, s.labels, e)
			require.NoError(b.t, err)
			want = append(want, fmt.Sprintf("%s %s@%.3f=%v", series(s.labels.Map()), e.Labels.Get("trace_id"), float64(s.t)/1000, e.Value))
		}
		return n
	})
	slices.Sort(want)
	return want
}

// sameExemplars waits until every running node shows them.
func (b *bed) sameExemplars(tenant string, want []string) {
	b.t.Helper()
	for i := range b.nodes {
		b.eventually(fmt.Sprintf("n%d shows the exemplars of %s", i+1, tenant), func() error {
			got, err := b.exemplarsAt(i, tenant, `rate(m[5m])`)
			if err != nil {
				return err
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				return fmt.Errorf("%d of %d: %.300q", len(got), len(want), got)
			}
			return nil
		})
	}
}

// TestExemplarsAndMetadataAreReadBack lets Prometheus' own code send exemplars in
// both forms, and asks for them at each door of each node.
func TestExemplarsAndMetadataAreReadBack(t *testing.T) {
	beds(t, func(t *testing.T, b *bed) {
		at := time.Now().Add(time.Minute).UnixMilli()
		want := map[string][]string{
			"one": b.prometheusSendsExemplars(0, "one", "prometheus.WriteRequest", at),
			"two": b.prometheusSendsExemplars(1, "two", "io.prometheus.write.v2.Request", at),
		}
		b.describes(0, "one", prompb.MetricMetadata{Type: prompb.MetricMetadata_GAUGE, MetricFamilyName: "m", Help: "What it is.", Unit: "seconds"})
		b.describes(1, "two", prompb.MetricMetadata{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "n_total", Help: "Of two."})
		for round := range 2 {
			for tenant, all := range want {
				b.sameExemplars(tenant, all)
			}
			for i := range b.nodes {
				b.knows(i, "one", `{"m":[{"type":"gauge","help":"What it is.","unit":"seconds"}]}`)
				b.knows(i, "two", `{"n_total":[{"type":"counter","help":"Of two.","unit":""}]}`)
				b.knows(i, "", `{"m":[{"type":"gauge","help":"What it is.","unit":"seconds"}],"n_total":[{"type":"counter","help":"Of two.","unit":""}]}`)
			}
			got, err := b.exemplarsAt(0, "", `m{tenant_id="two"}`)
			require.NoError(t, err)
			require.Len(t, got, len(want["two"]))
			require.Contains(t, got[0], `tenant_id="two"`)
			b.sameAtStoreDoors(len(want["one"])+len(want["two"]), round == 0)
			// All of it outlives restarts, one node after the other.
			for i := range b.nodes {
				if round == 0 {
					b.stop(i)
					b.start(i)
					b.settle()
				}
			}
		}
	})
}

// describes says what a metric family is, through node i.
func (b *bed) describes(i int, tenant string, m prompb.MetricMetadata) {
	b.t.Helper()
	raw, err := (&prompb.WriteRequest{Metadata: []prompb.MetricMetadata{m}}).Marshal()
	require.NoError(b.t, err)
	b.eventually("metadata is taken", func() error {
		if status, text := b.post(i, tenant, snappy.Encode(nil, raw)); status != http.StatusNoContent {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
}

func (b *bed) knows(i int, tenant, want string) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("n%d knows the families of %q", i+1, tenant), func() error {
		got, err := b.prometheus(i, tenant, "metadata", nil)
		if err == nil && string(got) != want {
			err = fmt.Errorf("%s", got)
		}
		return err
	})
}

// sameAtStoreDoors asks each node what a Thanos Querier would, and wants three
// copies of each exemplar: all with external labels.
func (b *bed) sameAtStoreDoors(exemplars int, first bool) {
	b.t.Helper()
	copies, families := map[string]int{}, map[string]int{}
	for i := range b.nodes {
		conn, err := grpc.NewClient("passthrough:///"+b.nodes[i].cfg.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(b.t, err)
		stream, err := storepb.NewExemplarsClient(conn).Exemplars(b.t.Context(), &storepb.ExemplarsRequest{Query: "m", End: 1 << 60})
		require.NoError(b.t, err)
		for {
			resp, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(b.t, err)
			external := map[string]string{}
			for _, l := range resp.GetData().GetSeriesLabels().GetLabels() {
				external[l.Name] = l.Value
			}
			require.Equal(b.t, fmt.Sprintf("n%d", i+1), external["receive_replica"])
			for _, e := range resp.GetData().GetExemplars() {
				copies[external["tenant_id"]+" "+external["instance"]+" "+e.GetLabels().GetLabels()[0].GetValue()]++
			}
		}
		known, err := storepb.NewMetadataClient(conn).MetricMetadata(b.t.Context(), &storepb.MetricMetadataRequest{Limit: -1})
		require.NoError(b.t, err)
		resp, err := known.Recv()
		require.NoError(b.t, err)
		for name := range resp.GetMetadata().GetMetadata() {
			families[name]++
		}
		require.NoError(b.t, conn.Close())
	}
	require.Len(b.t, copies, exemplars)
	for name, n := range copies {
		require.GreaterOrEqual(b.t, n, 2, "%s is held by a quorum", name)
		require.LessOrEqual(b.t, n, 3, name)
	}
	for _, name := range []string{"m", "n_total"} {
		require.GreaterOrEqual(b.t, families[name], 2, "%s is known by a quorum (first look: %v)", name, first)
	}
}
