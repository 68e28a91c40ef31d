package store

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
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
	// Exemplars are those in [mint, maxt] of the series that one selector chooses.
	Exemplars(ctx context.Context, key tsdb.Key, mint, maxt int64, selectors ...[]*labels.Matcher) ([]exemplar.QueryResult, error)
	// Metadata is what is known of the tenant's metric families.
	Metadata(ctx context.Context, key tsdb.Key) ([]tsdb.Metadata, error)
}

// Kept is what this node keeps of the stores of nodes that have left: it is
// shown as they showed it.
type Kept interface {
	// Answering are the stores of which all is here, and that this node was named
	// the custodian of.
	Answering() []tsdb.Keeping
	// Keys are the tenants of which such a store has blocks.
	Keys(store tsdb.StoreID) []tsdb.Key
	ChunkQuerier(store tsdb.StoreID, key tsdb.Key, mint, maxt int64) (storage.ChunkQuerier, error)
	Status(store tsdb.StoreID, key tsdb.Key) tsdb.Status
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
	// Kept is nil where nothing is kept for others.
	Kept Kept
	// Concurrency is how many Series calls run at once; others wait. Default 32.
	Concurrency int
}

const defaultConcurrency = 32

// errNotReady is what Thanos' own receiver answers until it may be asked.
var errNotReady = status.Error(codes.Unavailable, "Not ready")

// Server answers thanos.Store, thanos.Exemplars, thanos.Metadata and
// thanos.info.Info.
type Server struct {
	storepb.UnimplementedStoreServer
	storepb.UnimplementedExemplarsServer
	storepb.UnimplementedMetadataServer
	infopb.UnimplementedInfoServer

	cfg     Config
	data    Data
	log     *slog.Logger
	gate    chan struct{}
	metrics *metrics
	parser  parser.Parser
}

// New makes the door's services over data. A nil logger and a nil registry work.
func New(cfg Config, data Data, log *slog.Logger, reg prometheus.Registerer) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = defaultConcurrency
	}
	s := &Server{cfg: cfg, data: data, log: log, gate: make(chan struct{}, cfg.Concurrency), parser: parser.NewParser(parser.Options{})}
	s.metrics = newMetrics(reg)
	return s
}

// Register puts its services on a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	storepb.RegisterStoreServer(r, s)
	storepb.RegisterExemplarsServer(r, s)
	storepb.RegisterMetadataServer(r, s)
	infopb.RegisterInfoServer(r, s)
}

// view is one tenant's TSDB as this door shows it.
type view struct {
	key tsdb.Key
	// external are the labels that every series of it carries here.
	external labels.Labels
	data     Data
	// kept is the store that it belongs to; nil: this node's own.
	kept *keptStore
}

// keptStore is one store that is kept for a node that has left.
type keptStore struct {
	Kept
	id tsdb.StoreID
}

func (v view) querier(mint, maxt int64) (storage.ChunkQuerier, error) {
	if v.kept != nil {
		return v.kept.ChunkQuerier(v.kept.id, v.key, mint, maxt)
	}
	return v.data.ChunkQuerier(v.key, mint, maxt)
}

func (v view) status() tsdb.Status {
	if v.kept != nil {
		return v.kept.Status(v.kept.id, v.key)
	}
	return v.data.Status(v.key)
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
	visible := func(key tsdb.Key) bool {
		t := st.Tenant(key.Tenant)
		return (!bound || key.Tenant == only) && t != nil && t.Incarnation == key.Incarnation
	}
	external := func(key tsdb.Key, node string) labels.Labels {
		return labels.FromStrings(st.Settings().TenantLabel, key.Tenant, st.Settings().ReplicaLabel, node)
	}
	var out []view
	for _, key := range s.data.Keys() {
		if visible(key) {
			out = append(out, view{key: key, external: external(key, s.cfg.Node), data: s.data})
		}
	}
	if s.cfg.Kept == nil {
		return out, nil
	}
	// Series that a node took with it would change their replica label otherwise.
	for _, keep := range s.cfg.Kept.Answering() {
		node := st.StoreByID(keep.Store[:]).GetNode()
		for _, key := range s.cfg.Kept.Keys(keep.Store) {
			if node != "" && visible(key) {
				out = append(out, view{key: key, external: external(key, node), kept: &keptStore{s.cfg.Kept, keep.Store}})
			}
		}
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
