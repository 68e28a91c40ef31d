package cluster

import (
	"bytes"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// How long a request id is remembered by the clock of the commands, and how
// many at most: enough for a hundred changes a second through all that time.
const (
	requestMemory = 10 * minute
	maxRequests   = 1 << 16
	requestIDLen  = 16
)

// request is the answer that a request id got; nil where it is not known. An
// answer whose time is over serves until the next change forgets it.
func (s *State) request(id []byte) *clusterpb.Request {
	if len(id) != requestIDLen {
		return nil
	}
	r, _ := s.requests.Get(id)
	return r
}

// resultOf is the answer to a request that is asked again. An id that was used
// for something else before is refused: whoever sends it would take the other
// one's answer for its own.
func resultOf(r *clusterpb.Request, again *clusterpb.Command) Result {
	if a, b := r.GetDigest(), again.GetRequestDigest(); a != 0 && b != 0 && a != b {
		return Result{Revision: r.GetRevision(), Refusal: invalid("Muster-Request-Id",
			"this request id was used for another change, at revision %d: each change has an id of its own", r.GetRevision())}
	}
	res := Result{Version: r.GetVersion(), Revision: r.GetRevision()}
	if kind := clusterpb.Refusal_Kind(r.GetRefusalKind()); kind != clusterpb.Refusal_NONE {
		res.Refusal = &clusterpb.Refusal{Kind: kind, Message: r.GetRefusal(), Field: r.GetRefusalField()}
	}
	return res
}

// remember keeps the answer to the command and forgets those whose time is
// over. An id that has not 16 bytes is not kept: such a request may be applied
// twice. Nor is the answer that a placement no longer fits: the leader makes
// another and asks again.
func (e *edit) remember(version uint64, refusal *clusterpb.Refusal) {
	for e.next.answered.Len() > 0 {
		key, oldest, _ := e.next.answered.Root().Minimum()
		if oldest.GetTimeMs() >= e.now-requestMemory && e.next.answered.Len() < maxRequests {
			break
		}
		e.next.requests = drop(e, e.next.requests, oldest.GetId(), kindRequest)
		e.next.answered, _, _ = e.next.answered.Delete(bytes.Clone(key))
	}
	id := e.cmd.GetRequestId()
	if len(id) != requestIDLen || isMisplaced(refusal) {
		return
	}
	r := &clusterpb.Request{
		Id: bytes.Clone(id), Revision: e.rev, TimeMs: e.now, Version: version,
		Refusal: refusal.GetMessage(), RefusalKind: uint32(refusal.GetKind()), RefusalField: refusal.GetField(),
		Digest: e.cmd.GetRequestDigest(),
	}
	e.next.requests = insert(e, e.next.requests, r.Id, kindRequest, r)
	e.next.answered, _, _ = e.next.answered.Insert(numberKey(e.rev), r)
}
