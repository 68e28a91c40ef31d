package cluster

import (
	"fmt"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// resetMember lets a member in again that has given its control state up: as
// another incarnation, so that nothing of the old one is let in, and as another
// server, since its log and its vote are gone. Its store stays its own, with all
// samples, and so do its slots.
func (e *edit) resetMember(old *clusterpb.Member, c *clusterpb.AddMember) (uint64, *clusterpb.Refusal) {
	m := c.GetMember()
	if r := e.useToken(c.GetTokenId(), m.GetName(), m.GetKeyHash()); r != nil {
		return 0, r
	}
	next := copyOf(old)
	next.Incarnation, next.Server, next.Version = e.rev, e.rev, e.rev
	next.Address = m.GetAddress()
	takeAddress(&next.HttpAddress, m.GetHttpAddress())
	takeAddress(&next.WriteAddress, m.GetWriteAddress())
	takeAddress(&next.StoreAddress, m.GetStoreAddress())
	e.setMember(next)
	e.inherit(next)
	e.changed.Members = true
	e.note("member joined again", next.GetName(), fmt.Sprintf("its control state was given up, store %d is kept", next.GetStore()))
	return e.rev, nil
}

// isAwaited says whether a store is a former member's that may come back under
// this name.
func isAwaited(st *clusterpb.Store, node string) bool {
	return st.GetAwaited() != 0 && st.GetLost() == 0 && st.GetNode() == node
}
