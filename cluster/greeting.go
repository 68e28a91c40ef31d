package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// maxHints bounds the addresses that people have named.
const maxHints = 8

// hints are addresses where somebody of the cluster may be, as people said.
type hints struct {
	mu   sync.Mutex
	list []string
}

// Add keeps an address; the oldest goes where there are too many.
func (h *hints) Add(address string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if address == "" || slices.Contains(h.list, address) {
		return
	}
	h.list = append(h.list, address)
	h.list = h.list[max(0, len(h.list)-maxHints):]
}

// All are copies.
func (h *hints) All() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list)
}

// Greet tells a node that shows a certificate of the cluster whether it takes
// part. Members tell each other besides where they all are, so that they find
// one another when all have moved.
func (a *admission) Greet(ctx context.Context, r *clusterpb.GreetRequest) (*clusterpb.GreetResponse, error) {
	n := a.node
	id, keyHash, ok := door.Caller(ctx)
	switch caller := r.GetCaller(); {
	case !ok:
		return nil, status.Error(codes.PermissionDenied, "a node's certificate is wanted")
	case caller.GetNode() != id.Name || caller.GetIncarnation() != id.Incarnation:
		return nil, status.Errorf(codes.PermissionDenied, "%s greets as %s", id.Name, quote(caller.GetNode()))
	case n.Standing() != nil:
		return nil, status.Error(codes.FailedPrecondition, n.Standing().Error())
	}
	st := n.State()
	answer := &clusterpb.GreetResponse{Me: n.announcement(), ClusterIncarnation: st.Cluster().GetIncarnation()}
	answer.Dismissal = st.dismissal(credential{
		name: id.Name, incarnation: id.Incarnation, keyHash: keyHash, store: r.GetStoreId(), cluster: r.GetClusterIncarnation(),
	})
	if answer.Dismissal != nil || n.authorize(id.Name, id.Incarnation, keyHash) != nil {
		return answer, nil //nolint:nilerr // who is not let in hears what it may hear
	}
	n.learn(append(slices.Clone(r.GetKnown()), r.GetCaller()))
	n.sightings.Saw(id.Name, time.Now())
	answer.Known = n.peers.Announcements()
	return answer, nil
}

// greet asks whoever is at the address whether this node still takes part, and
// where the others are.
func (n *Node) greet(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	g, err := n.cfg.Door.Greet(ctx, address)
	if err != nil {
		return err
	}
	defer g.Close()
	mine := n.State().Cluster().GetIncarnation()
	answer, err := clusterpb.NewJoinClient(g).Greet(ctx, &clusterpb.GreetRequest{
		Caller: n.announcement(), StoreId: n.cfg.StoreID[:], ClusterIncarnation: mine, Known: n.peers.Announcements(),
	})
	if err != nil {
		return fmt.Errorf("greet %s at %s: %w", g.Peer.Name, address, err)
	}
	// Somebody who was removed may say anything.
	if err := n.authorize(g.Peer.Name, g.Peer.Incarnation, g.KeyHash); err != nil || answer.GetClusterIncarnation() < mine {
		return fmt.Errorf("greet %s at %s: not believed: %w", g.Peer.Name, address, err)
	}
	if d := answer.GetDismissal(); d != nil {
		n.dismissed(d, g.Peer.Name)
		return nil
	}
	n.sightings.Saw(g.Peer.Name, time.Now())
	n.learn(append(answer.GetKnown(), answer.GetMe()))
	return nil
}

// learn takes over where the others are.
func (n *Node) learn(list []*clusterpb.Announcement) {
	if err := n.peers.Learn(n.cfg.Name, list); err != nil {
		n.log.Warn("list of peers not kept", "err", err)
	}
}

// announcement is where this node says that it is.
func (n *Node) announcement() *clusterpb.Announcement {
	stamp, err := n.peers.Announce(n.cfg.Name, n.cfg.Advertise(), time.Now())
	if err != nil {
		n.log.Warn("list of peers not kept", "err", err)
	}
	a := &clusterpb.Announcement{Node: n.cfg.Name, Address: n.cfg.Advertise(), Stamp: stamp}
	if c := n.credentials(); c != nil {
		a.Incarnation = c.Identity.Incarnation
	}
	return a
}
