package door

import (
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	refusalEvery = 10 * time.Second // one line per peer, protocol and reason
	maxRefusals  = 64               // of these that are told apart; the others share a line
	maxReason    = 512              // bytes; a peer's certificate can put words into it
)

// refusals writes to the log who was refused and why. Somebody who knocks a
// thousand times a second gets a line every ten seconds, with the count.
type refusals struct {
	log  *slog.Logger
	mu   sync.Mutex
	seen map[refusalKey]*refusal
}

type refusalKey struct{ host, protocol, reason string }

type refusal struct {
	last    time.Time
	skipped int
}

func newRefusals(log *slog.Logger) *refusals {
	return &refusals{log: log, seen: map[refusalKey]*refusal{}}
}

func (r *refusals) note(now time.Time, from net.Addr, protocol string, reason error) {
	host, _, err := net.SplitHostPort(from.String())
	if err != nil {
		host = from.String()
	}
	text := reason.Error()
	text = strings.ToValidUTF8(text[:min(len(text), maxReason)], "?")
	skipped, ok := r.due(now, refusalKey{host, protocol, text})
	if !ok {
		return
	}
	args := []any{"from", from.String(), "protocol", protocol, "reason", text}
	if skipped > 0 {
		args = append(args, "more_since_last", skipped)
	}
	r.log.Warn("member door refused a connection", args...)
}

// due reports whether a line may be written now and how many were not since the
// last one.
func (r *refusals) due(now time.Time, key refusalKey) (skipped int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry := r.seen[key]
	if entry == nil && len(r.seen) >= maxRefusals {
		for k, e := range r.seen {
			if now.Sub(e.last) >= refusalEvery {
				delete(r.seen, k)
			}
		}
		if len(r.seen) >= maxRefusals {
			key = refusalKey{}
			entry = r.seen[key]
		}
	}
	if entry == nil {
		r.seen[key] = &refusal{last: now}
		return 0, true
	}
	if now.Sub(entry.last) < refusalEvery {
		entry.skipped++
		return 0, false
	}
	skipped, entry.last, entry.skipped = entry.skipped, now, 0
	return skipped, true
}
