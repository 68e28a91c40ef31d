package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/muster-metrics/muster/proto/infopb"
)

// TestDashboardsForThanosFindWhatTheyLookAt asks a node's /metrics for every name
// and label that the receive dashboards and alerts of Thanos' mixin select by.
func TestDashboardsForThanosFindWhatTheyLookAt(t *testing.T) {
	t.Parallel()
	bucket := t.TempDir()
	b := newBed(t, 3, 3, func(c *nodeConfig) {
		c.BlockDuration = 10 * time.Second
		c.Bucket = fmt.Appendf(nil, "{type: FILESYSTEM, config: {directory: %q}}", bucket)
	})
	b.cli(0, "ring", "create", "hard", "--tenants", "team-*,other", "--nodes", "n1,n2", "--replication-factor", "2")
	b.settle()
	b.write(0, "a", batch("m", 20, time.Now().UnixMilli())...)
	old := batch("m", 1, time.Now().Add(-100*time.Hour).UnixMilli())
	status, _ := b.post(0, "a", snappy.Encode(nil, body(old...)))
	require.Equal(t, 400, status)
	status, _ = b.post(0, "a", snappy.Encode(nil, body(old...)), "X-Scope-OrgID", "b")
	require.Equal(t, 400, status)
	conn, err := grpc.NewClient(b.nodes[0].cfg.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	_, err = infopb.NewInfoClient(conn).Info(context.Background(), &infopb.InfoRequest{})
	require.NoError(t, err)
	want := map[string]float64{ // -1: whatever it is
		`http_requests_total{code="204", handler="receive", method="post", tenant="a"}`:                                     -1,
		`http_requests_total{code="400", handler="receive", method="post", tenant="a"}`:                                     1,
		`http_requests_total{code="400", handler="receive", method="post", tenant=""}`:                                      1,
		`http_request_duration_seconds_bucket{code="204", handler="receive", le="10.0", method="post", tenant="a"}`:         -1,
		`http_request_duration_seconds_count{code="204", handler="receive", method="post", tenant="a"}`:                     -1,
		`http_request_size_bytes_sum{code="204", handler="receive", method="post", tenant="a"}`:                             -1,
		`http_inflight_requests{handler="receive", method="post", tenant="a"}`:                                              0,
		`thanos_receive_write_timeseries_sum{code="400", tenant="a"}`:                                                       1,
		`thanos_receive_write_samples_sum{code="204", tenant="a"}`:                                                          20,
		`thanos_receive_replications_total{result="success"}`:                                                               -1,
		`thanos_receive_forward_requests_total{result="success"}`:                                                           -1,
		`thanos_receive_replication_factor{}`:                                                                               3,
		`thanos_receive_hashring_nodes{name="default"}`:                                                                     3,
		`thanos_receive_hashring_nodes{name="hard"}`:                                                                        2,
		`thanos_receive_hashring_tenants{name="default"}`:                                                                   0,
		`thanos_receive_hashring_tenants{name="hard"}`:                                                                      2,
		`thanos_receive_config_last_reload_successful{}`:                                                                    1,
		`thanos_status{check="healthy", component="receive"}`:                                                               1,
		`thanos_status{check="ready", component="receive"}`:                                                                 1,
		`thanos_shipper_uploads_total{tenant="a"}`:                                                                          -1,
		`grpc_server_handled_total{grpc_code="OK", grpc_method="Info", grpc_service="thanos.info.Info", grpc_type="unary"}`: 1,
		`grpc_server_handling_seconds_count{grpc_method="Info", grpc_service="thanos.info.Info", grpc_type="unary"}`:        1,
		`process_cpu_seconds_total{}`:                                                                                       -1,
	}
	b.eventually("every metric is there", func() error {
		got := b.scrape(t, 0)
		for name, v := range want {
			have, ok := got[name]
			if !ok || (v >= 0 && have != v) {
				return fmt.Errorf("%s is %v (%v), want %v", name, have, ok, v)
			}
		}
		for name := range got {
			if strings.HasPrefix(name, "thanos_objstore_bucket_last_successful_upload_time{") {
				return nil
			}
		}
		return fmt.Errorf("no time of the last upload among %d metrics", len(got))
	})
}

// scrape reads the metrics of node i as Prometheus does.
func (b *bed) scrape(t *testing.T, i int) map[string]float64 {
	t.Helper()
	resp, err := http.Get("http://" + b.nodes[i].cfg.HTTP + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	p := textparse.NewPromParser(raw, labels.NewSymbolTable(), false)
	out := map[string]float64{}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		if entry != textparse.EntrySeries {
			continue
		}
		var ls labels.Labels
		p.Labels(&ls)
		_, _, v := p.Series()
		name := ls.Get(model.MetricNameLabel)
		out[name+ls.DropReserved(func(n string) bool { return n == model.MetricNameLabel }).String()] = v
	}
}
