package tsdb

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// What Prometheus' TSDB says only in its log (v0.316.0), and we must act on.
// TestRepairedLogDeclaresGap and TestFullDiskFailsAppends read these lines from
// the TSDB itself: a change of its wording turns them red.
const (
	saysRepairWAL   = "Encountered WAL read error, attempting repair"
	saysRepairWBL   = "Encountered WBL read error, attempting repair"
	saysLostWrite   = "Failed to log out of order samples into the WAL"
	leastEngineNews = slog.LevelWarn // its Info lines come by the dozen for every tenant
)

// engineNews is what was overheard.
type engineNews struct {
	repaired atomic.Bool // a log was cut back at opening
	unlogged atomic.Bool // a commit returned nil, and its out-of-order samples are in memory only
}

// listener passes an engine's warnings on to the log, and overhears the lines
// above.
type listener struct {
	next slog.Handler
	news *engineNews
}

func (l listener) Enabled(_ context.Context, level slog.Level) bool { return level >= leastEngineNews }

func (l listener) Handle(ctx context.Context, r slog.Record) error {
	switch r.Message {
	case saysRepairWAL, saysRepairWBL:
		l.news.repaired.Store(true)
	case saysLostWrite:
		l.news.unlogged.Store(true)
	}
	if !l.next.Enabled(ctx, r.Level) {
		return nil
	}
	return l.next.Handle(ctx, r)
}

func (l listener) WithAttrs(as []slog.Attr) slog.Handler {
	return listener{next: l.next.WithAttrs(as), news: l.news}
}

func (l listener) WithGroup(name string) slog.Handler {
	return listener{next: l.next.WithGroup(name), news: l.news}
}
