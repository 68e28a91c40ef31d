package prom

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/tsdb"
)

// Data is what this node holds. *tsdb.DB is one.
type Data interface {
	// ChunkQuerier reads one tenant; times are Unix milliseconds, inclusive.
	// The caller closes it; chunks and strings are valid until then.
	ChunkQuerier(key tsdb.Key, mint, maxt int64) (storage.ChunkQuerier, error)
	Status(key tsdb.Key) tsdb.Status
	// Exemplars are those in [mint, maxt] of the series that one selector chooses.
	Exemplars(ctx context.Context, key tsdb.Key, mint, maxt int64, selectors ...[]*labels.Matcher) ([]exemplar.QueryResult, error)
	// Metadata is what is known of the tenant's metric families.
	Metadata(ctx context.Context, key tsdb.Key) ([]tsdb.Metadata, error)
}

// Reader reads this node's own store: for the other members, as the peerpb.Read
// service, and for the queries that come to this node. It sees only what is
// here; the member door lets nobody but members in.
type Reader struct {
	peerpb.UnimplementedReadServer

	store []byte
	state func() *cluster.State
	data  Data
	kept  Kept // nil: nothing is kept for others
	log   *slog.Logger
}

// NewReader makes the reader of the store with that id. state is the control
// state as it is now, never nil. A nil logger works.
func NewReader(store [16]byte, state func() *cluster.State, data Data, log *slog.Logger) *Reader {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Reader{store: store[:], state: state, data: data, log: log}
}

// Keep has the reader read, and answer for, what is kept of other stores. It is
// called before the first read.
func (r *Reader) Keep(kept Kept) { r.kept = kept }

// Register puts the service on the member door's gRPC server.
func (r *Reader) Register(to grpc.ServiceRegistrar) { peerpb.RegisterReadServer(to, r) }

const (
	batchBytes = 1 << 20 // of one response; large enough to cost little, small enough to stream
	seriesCost = 64      // bytes that a series is reckoned at, besides its labels and chunks
)

// Select streams the series that match, as they were stored.
func (r *Reader) Select(req *peerpb.SelectRequest, stream grpc.ServerStreamingServer[peerpb.SelectResponse]) error {
	return r.read(stream.Context(), req, stream.Send)
}

// read sends batches of series and, last, whose data they are. The bytes of a
// response are valid until send returns.
func (r *Reader) read(ctx context.Context, req *peerpb.SelectRequest, send func(*peerpb.SelectResponse) error) error {
	ms, err := matchersOf(req.Matchers)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	key := tsdb.Key{Tenant: req.Tenant, Incarnation: req.Incarnation}
	provenance, err := r.with(ctx, key, req.MinTime, req.MaxTime, func(q storage.ChunkQuerier) error {
		// The limit is no hint for the TSDB, which would take any series: every
		// member must send its first ones, so that their merge is the first ones.
		hints := &storage.SelectHints{Start: req.MinTime, End: req.MaxTime, DisableTrimming: true}
		if req.SkipChunks {
			hints.Func = "series"
		}
		b := batch{send: send, labelled: req.SkipChunks, limit: req.Limit}
		return b.all(ctx, q.Select(ctx, true, hints, ms...))
	})
	if err != nil {
		return err
	}
	return send(&peerpb.SelectResponse{Provenance: provenance})
}

// with opens the tenant for f, and says what its answer may lack. The status is
// that of the opening which f reads from.
func (r *Reader) with(ctx context.Context, key tsdb.Key, mint, maxt int64, f func(q storage.ChunkQuerier) error) (*peerpb.Provenance, error) {
	// Who answers for what is settled before anything is opened: a custody that
	// ends meanwhile may take blocks along.
	var keeps []tsdb.Keeping
	if r.kept != nil {
		keeps = r.kept.Answering()
	}
	q, err := r.open(ctx, key, mint, maxt)
	if err != nil {
		return nil, failure(ctx, "open tenant "+key.Tenant, err)
	}
	st := r.data.Status(key)
	q, err = r.withKept(q, keeps, key, mint, maxt)
	if err != nil {
		return nil, failure(ctx, "open tenant "+key.Tenant, err)
	}
	defer func() {
		if err := q.Close(); err != nil {
			r.log.Warn("close a read", "tenant", key.Tenant, "err", err)
		}
	}()
	stores := []*peerpb.StoreAnswer{answerOf(r.store, st, 0)}
	for _, keep := range keeps {
		stores = append(stores, answerOf(slices.Clone(keep.Store[:]), r.kept.Status(keep.Store, key), keep.Custody))
	}
	if err := f(q); err != nil {
		return nil, failure(ctx, "read tenant "+key.Tenant, err)
	}
	return &peerpb.Provenance{Stores: stores, Revision: r.state().Revision()}, nil
}

func answerOf(store []byte, st tsdb.Status, custody uint64) *peerpb.StoreAnswer {
	out := &peerpb.StoreAnswer{Store: store, Replayed: st.Replayed, Custody: custody}
	for _, g := range st.Gaps {
		out.Gaps = append(out.Gaps, &peerpb.Interval{MinTime: g.Mint, MaxTime: g.Maxt})
	}
	return out
}

// open opens the tenant. One that was created a moment ago may not have come to
// this node yet: the asker was faster, and is worth a short wait.
func (r *Reader) open(ctx context.Context, key tsdb.Key, mint, maxt int64) (storage.ChunkQuerier, error) {
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	tick := time.NewTicker(catchUpLook)
	defer tick.Stop()
	for {
		q, err := r.data.ChunkQuerier(key, mint, maxt)
		if err == nil || !errors.Is(err, tsdb.ErrUnknownTenant) {
			return q, err
		}
		st := r.state()
		if t := st.Tenant(key.Tenant); t.GetIncarnation() > key.Incarnation || t == nil && st.Revision() >= key.Incarnation {
			return nil, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// LabelNames are the names of the labels of the series that match.
func (r *Reader) LabelNames(ctx context.Context, req *peerpb.LabelsRequest) (*peerpb.LabelsResponse, error) {
	return r.labels(ctx, req, func(q storage.ChunkQuerier, ms []*labels.Matcher) ([]string, error) {
		names, _, err := q.LabelNames(ctx, nil, ms...)
		return names, err
	})
}

// LabelValues are the values of one label over the series that match.
func (r *Reader) LabelValues(ctx context.Context, req *peerpb.LabelsRequest) (*peerpb.LabelsResponse, error) {
	return r.labels(ctx, req, func(q storage.ChunkQuerier, ms []*labels.Matcher) ([]string, error) {
		values, _, err := q.LabelValues(ctx, req.Name, nil, ms...)
		return values, err
	})
}

func (r *Reader) labels(ctx context.Context, req *peerpb.LabelsRequest,
	ask func(q storage.ChunkQuerier, ms []*labels.Matcher) ([]string, error),
) (*peerpb.LabelsResponse, error) {
	ms, err := matchersOf(req.Matchers)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	key := tsdb.Key{Tenant: req.Tenant, Incarnation: req.Incarnation}
	out := &peerpb.LabelsResponse{}
	out.Provenance, err = r.with(ctx, key, req.MinTime, req.MaxTime, func(q storage.ChunkQuerier) error {
		found, err := ask(q, ms)
		slices.Sort(found)
		if n := int(req.Limit); n > 0 && len(found) > n {
			found = found[:n]
		}
		for _, s := range found {
			out.Values = append(out.Values, strings.Clone(s)) // the TSDB's strings end with the querier
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// failure is the gRPC error of a read that went wrong.
func failure(ctx context.Context, act string, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	return status.Errorf(codes.Internal, "%s: %v", act, err)
}
