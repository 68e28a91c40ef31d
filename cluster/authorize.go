package cluster

import (
	"bytes"
	"fmt"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// AddressOf is where a node's member door is: what the node itself said last,
// else what the state says, else where it was before this node started. A node
// that takes no part any more calls nobody.
func (n *Node) AddressOf(name string) (string, bool) {
	st := n.State()
	if n.Standing() != nil || st.Cluster() != nil && st.Member(name) == nil {
		return "", false
	}
	if known, ok := n.peers.Of(name); ok {
		return known.Address, true
	}
	m := st.Member(name)
	return m.GetAddress(), m != nil
}

// authorize is the door's question whether a node may come in.
func (n *Node) authorize(name string, incarnation uint64, keyHash []byte) error {
	st := n.State()
	if err := n.Standing(); err != nil {
		return err
	}
	if incarnation > st.Revision() {
		// This node lags: those who can tell it of the newcomer may be
		// newcomers themselves. The cluster's CA has vouched for it.
		return nil
	}
	m := st.Member(name)
	switch removed := st.Removed(name); {
	case m != nil && m.GetIncarnation() == incarnation && bytes.Equal(m.GetKeyHash(), keyHash):
		return nil
	case m != nil && m.GetIncarnation() == incarnation:
		return fmt.Errorf("node %s has another key since revision %d", name, m.GetVersion())
	case removed != nil && incarnation <= removed.GetIncarnation():
		return fmt.Errorf("node %s was removed%s", name, circumstances(&clusterpb.Dismissal{
			Revision: removed.GetRevision(), TimeMs: removed.GetTimeMs(), Actor: removed.GetActor(),
		}))
	case m != nil:
		return fmt.Errorf("node %s is incarnation %d, not %d", name, m.GetIncarnation(), incarnation)
	default:
		return fmt.Errorf("node %s is no member at revision %d", name, st.Revision())
	}
}
