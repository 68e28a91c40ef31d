package cluster

import (
	"fmt"
	"strings"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// The state keeps the newest events: so many at most, and so many bytes.
const (
	maxEvents     = 10_000
	maxEventBytes = 8 << 20
	// maxFieldChanges bounds how many fields one event tells.
	maxFieldChanges = 40
)

// maxActor bounds the name of who made a change, bytes.
const maxActor = 256

// Events are the changes after revision since that are still kept, the oldest
// first.
func (s *State) Events(since uint64) []*clusterpb.Event {
	var out []*clusterpb.Event
	if since == ^uint64(0) {
		return out
	}
	it := s.events.Root().Iterator()
	it.SeekLowerBound(numberKey(since + 1))
	for _, e, ok := it.Next(); ok; _, e, ok = it.Next() {
		out = append(out, e)
	}
	return out
}

// Event is the change that was made at that revision; nil where none was, or
// where it is not kept any more.
func (s *State) Event(revision uint64) *clusterpb.Event {
	e, _ := s.events.Get(numberKey(revision))
	return e
}

// record appends the event of the change that was made.
func (e *edit) record() {
	ev := &clusterpb.Event{
		Revision: e.rev, TimeMs: e.now,
		Actor: text(e.cmd.GetActor(), maxActor), Source: text(e.cmd.GetSource(), 256),
		Action: e.action, Object: e.object, Detail: text(e.detail, 1000),
		Changes: e.fieldChanges(),
	}
	e.next.events = insert(e, e.next.events, numberKey(e.rev), kindEvent, ev)
	e.next.eventBytes += ev.SizeVT()
	for e.next.events.Len() > maxEvents || e.next.eventBytes > maxEventBytes {
		key, oldest, _ := e.next.events.Root().Minimum()
		e.next.events = drop(e, e.next.events, key, kindEvent)
		e.next.eventBytes -= oldest.SizeVT()
	}
}

// fieldChanges are what has changed of the event's object and, under their
// names, of others along with it.
func (e *edit) fieldChanges() []*clusterpb.FieldChange {
	var out []*clusterpb.FieldChange
	for i, c := range e.changes {
		if i == maxFieldChanges {
			return append(out, &clusterpb.FieldChange{Field: fmt.Sprintf("and %d fields more", len(e.changes)-i)})
		}
		f := c.change
		if c.name != e.object || !strings.HasPrefix(e.action, c.what) {
			f.Field = c.what + " " + c.name + ": " + f.GetField()
		}
		f.Field, f.Before, f.After = text(f.GetField(), 128), text(f.GetBefore(), maxFact), text(f.GetAfter(), maxFact)
		out = append(out, f)
	}
	return out
}

// ChangeText is the field's change in a line: "retention 15d -> 30d".
func ChangeText(c *clusterpb.FieldChange) string {
	switch {
	case c.GetBefore() == "" && c.GetAfter() == "":
		return c.GetField()
	case c.GetBefore() == "":
		return c.GetField() + "=" + c.GetAfter()
	case c.GetAfter() == "":
		return c.GetField() + " was " + c.GetBefore()
	default:
		return c.GetField() + " " + c.GetBefore() + " -> " + c.GetAfter()
	}
}
