package store

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/proto/storepb"
)

func TestCallsAreCountedUnderThanosNames(t *testing.T) {
	reg := prometheus.NewRegistry()
	b := twoTenants(t)
	b.serve(New(Config{Node: "n1", State: b.now}, b.db, nil, reg), Metered(reg)...)
	b.mustSeries(everything())
	_, err := b.store.LabelValues(t.Context(), &storepb.LabelValuesRequest{})
	require.Error(t, err)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP grpc_server_handled_total Calls that were answered, by code.
# TYPE grpc_server_handled_total counter
grpc_server_handled_total{grpc_code="InvalidArgument",grpc_method="LabelValues",grpc_service="thanos.Store",grpc_type="unary"} 1
grpc_server_handled_total{grpc_code="OK",grpc_method="Series",grpc_service="thanos.Store",grpc_type="server_stream"} 1
`), "grpc_server_handled_total"))
	n, err := testutil.GatherAndCount(reg, "thanos_store_server_series_requested", "thanos_store_server_chunks_requested",
		"thanos_store_server_pending_series_requests", "grpc_server_started_total", "grpc_server_handling_seconds")
	require.NoError(t, err)
	require.Equal(t, 7, n)
}
