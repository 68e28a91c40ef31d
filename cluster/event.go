package cluster

import "github.com/muster-metrics/muster/proto/clusterpb"

// maxEvents is how many events the state keeps: the newest.
const maxEvents = 10_000

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

// record appends the event of the change that was made.
func (e *edit) record() {
	ev := &clusterpb.Event{
		Revision: e.rev, TimeMs: e.now,
		Actor: text(e.cmd.GetActor(), 256), Source: text(e.cmd.GetSource(), 256),
		Action: e.action, Object: e.object, Detail: text(e.detail, 1000),
	}
	e.next.events = insert(e, e.next.events, numberKey(e.rev), kindEvent, ev)
	for e.next.events.Len() > maxEvents {
		key, _, _ := e.next.events.Root().Minimum()
		e.next.events = drop(e, e.next.events, key, kindEvent)
	}
}
