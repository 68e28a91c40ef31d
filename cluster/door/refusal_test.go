package door

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

func TestRefusalsAreLoggedAtABoundedRate(t *testing.T) {
	log := &logbook{}
	r := newRefusals(slog.New(slog.NewTextHandler(log, nil)))
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	from := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 9), Port: 1234}
	lines := func() int { return strings.Count(log.String(), "\n") }

	for range 1000 {
		r.note(now, from, ProtocolRaft, errNoCertificate)
	}
	if lines() != 1 {
		t.Errorf("%d lines, want 1", lines())
	}
	r.note(now, from, ProtocolRaft, errNotServed)
	r.note(now, from, ProtocolGRPC, errNoCertificate)
	if lines() != 3 {
		t.Errorf("%d lines, want one more for another reason and another protocol", lines())
	}
	r.note(now.Add(refusalEvery), from, ProtocolRaft, errNoCertificate)
	if lines() != 4 || !strings.Contains(log.String(), "more_since_last=999") {
		t.Errorf("log: %s", log)
	}
	for i := range 10_000 {
		r.note(now.Add(refusalEvery), from, ProtocolRaft, fmt.Errorf("%d", i))
	}
	if len(r.seen) > maxRefusals+1 || lines() > 4+maxRefusals+1 {
		t.Errorf("%d refusals are kept, %d lines written", len(r.seen), lines())
	}
	r.note(now.Add(2*refusalEvery), from, ProtocolRaft, errors.New(strings.Repeat("é", 10_000)))
	if got := len(log.String()); got > 100_000 {
		t.Errorf("the log has %d bytes", got)
	}
}
