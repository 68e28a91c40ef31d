package store

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/proto/storepb"
)

// maxBatch bounds the series of one message; a Querier asks for 64.
const maxBatch = 10_000

// request is a SeriesRequest in this room's words.
type request struct {
	mint, maxt int64
	matchers   []*labels.Matcher
	drop       []string
	shard      *shard
	skipChunks bool
	limit      int
	batch      int
}

func requestOf(req *storepb.SeriesRequest) (*request, error) {
	matchers, err := matchersOf(req.Matchers)
	if err != nil {
		return nil, err
	}
	sh, err := shardOf(req.ShardInfo)
	if err != nil {
		return nil, err
	}
	return &request{
		mint: req.MinTime, maxt: req.MaxTime,
		matchers: matchers, drop: req.WithoutReplicaLabels, shard: sh,
		skipChunks: req.SkipChunks,
		limit:      int(min(max(0, req.Limit), math.MaxInt32)),
		batch:      int(min(max(1, req.ResponseBatchSize), maxBatch)),
	}, nil
}

// hints keep the TSDB from re-encoding chunks at the ends of the range. The
// limit helps it only where every series it finds is sent.
func (r *request) hints() *storage.SelectHints {
	h := &storage.SelectHints{Start: r.mint, End: r.maxt, DisableTrimming: true}
	if r.shard == nil {
		h.Limit = r.limit
	}
	if r.skipChunks {
		h.Func = "series"
	}
	return h
}

// Series streams every series of this node that matches, sorted by the labels
// as they are sent.
func (s *Server) Series(in *storepb.SeriesRequest, stream grpc.ServerStreamingServer[storepb.SeriesResponse]) error {
	ctx := stream.Context()
	views, err := s.views(ctx)
	if err != nil {
		return err
	}
	req, err := requestOf(in)
	if err != nil {
		return err
	}
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()

	m := &merge{}
	defer func() {
		if err := m.close(); err != nil {
			s.log.Warn("close a read of the store door", "err", err)
		}
	}()
	warnings, err := s.open(ctx, m, views, req)
	if err != nil {
		return err
	}
	if len(warnings) > 0 && aborts(in.PartialResponseDisabled, in.PartialResponseStrategy) {
		return status.Error(codes.Aborted, warnings[0])
	}
	for _, w := range warnings {
		if err := stream.Send(&storepb.SeriesResponse{Result: &storepb.SeriesResponse_Warning{Warning: w}}); err != nil {
			return failure(ctx, "send a warning", err)
		}
	}
	return s.stream(ctx, m, req, stream)
}

// aborts says whether the caller wants an error rather than a part.
func aborts(disabled bool, strategy storepb.PartialResponseStrategy) bool {
	return disabled || strategy == storepb.PartialResponseStrategy_ABORT
}

// open puts a cursor of every tenant that matches into the merge. A tenant that
// cannot be read yet is a warning: the others have an answer.
func (s *Server) open(ctx context.Context, m *merge, views []view, req *request) (warnings []string, err error) {
	for _, v := range views {
		inner, ok := split(req.matchers, v.external)
		if !ok {
			continue
		}
		if len(inner) == 0 {
			return nil, status.Error(codes.InvalidArgument, "no matchers specified (excluding external labels)")
		}
		if req.mint > req.maxt || v.status().MinTime > req.maxt {
			continue
		}
		q, err := v.querier(req.mint, req.maxt)
		if err != nil {
			if ctx.Err() != nil {
				return nil, failure(ctx, "open", err)
			}
			warnings = append(warnings, fmt.Sprintf("tenant %s: %v", v.key.Tenant, err))
			continue
		}
		c, err := openCursor(ctx, v, q, req, inner)
		if err != nil {
			return nil, failure(ctx, "select from tenant "+v.key.Tenant, errors.Join(err, c.close()))
		}
		if err := m.add(ctx, c); err != nil {
			return nil, failure(ctx, "read tenant "+v.key.Tenant, err)
		}
	}
	return warnings, nil
}

func (s *Server) stream(ctx context.Context, m *merge, req *request, to sender) error {
	out := frames{to: to, batch: req.batch}
	sent := 0
	defer func() {
		s.metrics.series.Observe(float64(sent))
		s.metrics.chunks.Observe(float64(out.chunks))
	}()
	for req.limit == 0 || sent < req.limit {
		if err := ctx.Err(); err != nil {
			return status.FromContextError(err).Err()
		}
		next, ok, err := m.next(ctx)
		if err != nil {
			return failure(ctx, "read series", err)
		}
		if !ok {
			break
		}
		if err := out.add(next); err != nil {
			return failure(ctx, "send series", err)
		}
		sent++
	}
	if err := out.flush(); err != nil {
		return failure(ctx, "send series", err)
	}
	return nil
}
