package main

import (
	"context"
	"sync"

	"github.com/muster-metrics/muster/ingest"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/tsdb"
)

// storage lets ingest append to tsdb: the two do not know each other.
type storage struct{ db *tsdb.DB }

// outcomes are buffers for tsdb's answers, one per append under way.
var outcomes = sync.Pool{New: func() any { return new([]tsdb.Outcome) }}

func (s storage) Append(ctx context.Context, tenant string, incarnation uint64, share ingest.Share, repeat, held bool, out []peerpb.Outcome) (opening uint64, born int, err error) {
	buf := outcomes.Get().(*[]tsdb.Outcome)
	defer outcomes.Put(buf)
	if cap(*buf) < len(out) {
		*buf = make([]tsdb.Outcome, len(out))
	}
	got := (*buf)[:len(out)]
	opening, born, err = s.db.Write(ctx, tsdb.Key{Tenant: tenant, Incarnation: incarnation}, share, repeat, held, got)
	for i, o := range got {
		out[i] = peerpb.Outcome(o) // the numbers are the same; a test holds them together
	}
	return opening, born, err
}

func (s storage) Disown(ctx context.Context, tenant string, incarnation uint64, share ingest.Share) error {
	return s.db.Disown(ctx, tsdb.Key{Tenant: tenant, Incarnation: incarnation}, share)
}
