package store

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/infopb"
	"github.com/muster-metrics/muster/proto/storepb"
	"github.com/muster-metrics/muster/tsdb"
)

// Data is what this node holds. *tsdb.DB is one.
type Data interface {
	// Keys are the tenants it has a directory for.
	Keys() []tsdb.Key
	// ChunkQuerier reads one tenant; times are Unix milliseconds, inclusive.
	// The caller closes it; chunks and strings are valid until then.
	ChunkQuerier(key tsdb.Key, mint, maxt int64) (storage.ChunkQuerier, error)
	Status(key tsdb.Key) tsdb.Status
}

// Config is what the door must know.
type Config struct {
	// Node is this node's name: the value of the replica label.
	Node string
	// State is the control state as it is now; never nil.
	State func() *cluster.State
	// Ready says why the door must not be asked yet; nil or a nil error: it may.
	Ready func() error
	// TenantOf names the tenant that the caller's certificate is bound to.
	// Nil, or bound false: the caller sees every tenant.
	TenantOf func(ctx context.Context) (tenant string, bound bool)
	// Concurrency is how many Series calls run at once; others wait. Default 32.
	Concurrency int
}

const defaultConcurrency = 32

// errNotReady is what Thanos' own receiver answers until it may be asked.
var errNotReady = status.Error(codes.Unavailable, "Not ready")

// Server answers thanos.Store and thanos.info.Info.
type Server struct {
	storepb.UnimplementedStoreServer
	infopb.UnimplementedInfoServer

	cfg     Config
	data    Data
	log     *slog.Logger
	gate    chan struct{}
	metrics *metrics
}

// New makes the door's services over data. A nil logger and a nil registry work.
func New(cfg Config, data Data, log *slog.Logger, reg prometheus.Registerer) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = defaultConcurrency
	}
	s := &Server{cfg: cfg, data: data, log: log, gate: make(chan struct{}, cfg.Concurrency)}
	s.metrics = newMetrics(reg)
	return s
}

// Register puts both services on a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	storepb.RegisterStoreServer(r, s)
	infopb.RegisterInfoServer(r, s)
}

// view is one tenant's TSDB as this door shows it.
type view struct {
	key tsdb.Key
	// external are the labels that every series of it carries here.
	external labels.Labels
}

// views are the TSDBs that the caller may see. A tenant that the state does
// not know in this incarnation has been deleted: its data are on their way out.
func (s *Server) views(ctx context.Context) ([]view, error) {
	if s.cfg.Ready != nil {
		if err := s.cfg.Ready(); err != nil {
			return nil, errNotReady
		}
	}
	st := s.cfg.State()
	if st.Cluster() == nil || st.Settings() == nil {
		return nil, errNotReady
	}
	var only string
	bound := false
	if s.cfg.TenantOf != nil {
		only, bound = s.cfg.TenantOf(ctx)
	}
	settings := st.Settings()
	var out []view
	for _, key := range s.data.Keys() {
		if bound && key.Tenant != only {
			continue
		}
		if t := st.Tenant(key.Tenant); t == nil || t.Incarnation != key.Incarnation {
			continue
		}
		out = append(out, view{key, labels.FromStrings(
			settings.TenantLabel, key.Tenant,
			settings.ReplicaLabel, s.cfg.Node,
		)})
	}
	return out, nil
}

// enter waits for a place among the running Series calls.
func (s *Server) enter(ctx context.Context) (leave func(), err error) {
	s.metrics.pending.Inc()
	defer s.metrics.pending.Dec()
	select {
	case s.gate <- struct{}{}:
		return func() { <-s.gate }, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// failure is the gRPC error of a read that went wrong: the caller's own end of
// the call, or the TSDB's.
func failure(ctx context.Context, act string, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	return status.Errorf(codes.Internal, "%s: %v", act, err)
}
