package store

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// Metered counts a server's calls under the names that Thanos' dashboards and
// rules ask for; the options go to NewServer. A nil registry works.
func Metered(reg prometheus.Registerer) []grpc.ServerOption {
	m := &meter{
		started: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grpc_server_started_total",
			Help: "Calls that were begun.",
		}, []string{"grpc_type", "grpc_service", "grpc_method"}),
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grpc_server_handled_total",
			Help: "Calls that were answered, by code.",
		}, []string{"grpc_type", "grpc_service", "grpc_method", "grpc_code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "grpc_server_handling_seconds",
			Help:    "Time until a call was answered.",
			Buckets: []float64{.001, .01, .1, .3, .6, 1, 3, 6, 9, 20, 30, 60, 90, 120},
		}, []string{"grpc_type", "grpc_service", "grpc_method"}),
	}
	if reg != nil {
		reg.MustRegister(m.started, m.handled, m.seconds)
	}
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(m.unary), grpc.ChainStreamInterceptor(m.stream)}
}

type meter struct {
	started *prometheus.CounterVec
	handled *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

// begin counts a call, and gives what counts its end.
func (m *meter) begin(kind, path string) func(error) {
	service, method, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	m.started.WithLabelValues(kind, service, method).Inc()
	began := time.Now()
	return func(err error) {
		m.handled.WithLabelValues(kind, service, method, status.Code(err).String()).Inc()
		m.seconds.WithLabelValues(kind, service, method).Observe(time.Since(began).Seconds())
	}
}

func (m *meter) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	end := m.begin("unary", info.FullMethod)
	resp, err := h(ctx, req)
	end(err)
	return resp, err
}

func (m *meter) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) error {
	kind := "server_stream"
	if info.IsClientStream {
		kind = "bidi_stream"
	}
	end := m.begin(kind, info.FullMethod)
	err := h(srv, ss)
	end(err)
	return err
}
