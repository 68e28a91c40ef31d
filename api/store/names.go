package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/proto/storepb"
)

// words gathers names or values: sorted, each once, at most limit of them.
type words struct {
	seen  map[string]struct{}
	limit int64
}

// add keeps copies: a TSDB's strings end with its querier.
func (w *words) add(all ...string) {
	if w.seen == nil {
		w.seen = map[string]struct{}{}
	}
	for _, s := range all {
		if _, ok := w.seen[s]; !ok {
			w.seen[strings.Clone(s)] = struct{}{}
		}
	}
}

func (w *words) list() []string {
	out := slices.Sorted(maps.Keys(w.seen))
	if w.limit > 0 && int64(len(out)) > w.limit {
		out = out[:w.limit]
	}
	return out
}

// each calls f with a querier of every tenant whose external labels match. A
// tenant that cannot be read yet is a warning.
func (s *Server) each(ctx context.Context, mint, maxt int64, in []*storepb.LabelMatcher,
	f func(v view, q storage.ChunkQuerier, inner []*labels.Matcher) error,
) (warnings []string, err error) {
	views, err := s.views(ctx)
	if err != nil {
		return nil, err
	}
	matchers, err := matchersOf(in)
	if err != nil {
		return nil, err
	}
	for _, v := range views {
		inner, ok := split(matchers, v.external)
		if !ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, status.FromContextError(err).Err()
		}
		q, err := v.querier(mint, maxt)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("tenant %s: %v", v.key.Tenant, err))
			continue
		}
		if err := errors.Join(f(v, q, inner), q.Close()); err != nil {
			return nil, failure(ctx, "read tenant "+v.key.Tenant, err)
		}
	}
	return warnings, nil
}

// whole is nil where the caller takes the warnings for an answer.
func whole(warnings []string, disabled bool, strategy storepb.PartialResponseStrategy) error {
	if len(warnings) > 0 && aborts(disabled, strategy) {
		return status.Error(codes.Aborted, warnings[0])
	}
	return nil
}

// LabelNames are the names of the labels of all series that match, as sent.
func (s *Server) LabelNames(ctx context.Context, req *storepb.LabelNamesRequest) (*storepb.LabelNamesResponse, error) {
	names := words{limit: req.Limit}
	warnings, err := s.each(ctx, req.Start, req.End, req.Matchers, func(v view, q storage.ChunkQuerier, inner []*labels.Matcher) error {
		found, _, err := q.LabelNames(ctx, &storage.LabelHints{}, inner...)
		if err != nil || len(found) == 0 {
			return err
		}
		v.external.Range(func(l labels.Label) { found = append(found, l.Name) })
		names.add(slices.DeleteFunc(found, func(name string) bool {
			return slices.Contains(req.WithoutReplicaLabels, name)
		})...)
		return nil
	})
	if err == nil {
		err = whole(warnings, req.PartialResponseDisabled, req.PartialResponseStrategy)
	}
	if err != nil {
		return nil, err
	}
	return &storepb.LabelNamesResponse{Names: names.list(), Warnings: warnings}, nil
}

// LabelValues are the values of a label over all series that match, as sent.
func (s *Server) LabelValues(ctx context.Context, req *storepb.LabelValuesRequest) (*storepb.LabelValuesResponse, error) {
	if req.Label == "" {
		return nil, status.Error(codes.InvalidArgument, "label name parameter cannot be empty")
	}
	if slices.Contains(req.WithoutReplicaLabels, req.Label) {
		return &storepb.LabelValuesResponse{}, nil
	}
	values := words{limit: req.Limit}
	warnings, err := s.each(ctx, req.Start, req.End, req.Matchers, func(v view, q storage.ChunkQuerier, inner []*labels.Matcher) error {
		if v.external.Has(req.Label) {
			found, err := matchesAny(ctx, q, req, inner)
			if found {
				values.add(v.external.Get(req.Label))
			}
			return err
		}
		found, _, err := q.LabelValues(ctx, req.Label, &storage.LabelHints{}, inner...)
		values.add(found...)
		return err
	})
	if err == nil {
		err = whole(warnings, req.PartialResponseDisabled, req.PartialResponseStrategy)
	}
	if err != nil {
		return nil, err
	}
	return &storepb.LabelValuesResponse{Values: values.list(), Warnings: warnings}, nil
}

// matchesAny says whether some series matches; without a matcher the tenant itself is
// enough.
func matchesAny(ctx context.Context, q storage.ChunkQuerier, req *storepb.LabelValuesRequest, inner []*labels.Matcher) (bool, error) {
	if len(inner) == 0 {
		return true, nil
	}
	set := q.Select(ctx, false, &storage.SelectHints{Start: req.Start, End: req.End, Limit: 1, Func: "series"}, inner...)
	return set.Next(), set.Err()
}
