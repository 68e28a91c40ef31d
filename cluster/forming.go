package cluster

import (
	"context"
	"fmt"

	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/cluster/pki"
)

// CheckInit says whether Init would go through, and as what; nothing is made
// that stays. The answer has no tokens.
func (n *Node) CheckInit(r InitRequest) (*InitResult, error) {
	n.forming.Lock()
	defer n.forming.Unlock()
	if err := n.mayForm(); err != nil {
		return nil, err
	}
	if r.FromSnapshot != nil {
		_, result, _, err := n.prepareRefound(r)
		if err != nil {
			return nil, err
		}
		return &InitResult{Name: result.Name, ID: result.ID, Node: result.Node}, nil
	}
	_, result, cmd, err := n.prepareInit(r)
	if err != nil {
		return nil, err
	}
	if _, res := EmptyState().Apply(1, cmd); res.Refusal != nil {
		return nil, &RefusedError{res.Refusal}
	}
	return &InitResult{Name: r.Name, Node: result.Node}, nil
}

// CheckJoin does what Join does before it sends the token: it reads the token,
// looks whether this node may join, and whether a member answers at the address
// that shows the CA which the token names. What the cluster would say to the
// token it cannot tell: its first use binds it.
func (n *Node) CheckJoin(ctx context.Context, r JoinRequest) error {
	token, err := pki.ParseClusterToken(r.Token)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	n.forming.Lock()
	if n.held() == nil || !r.ResetControlState {
		err = n.mayForm()
	}
	n.forming.Unlock()
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	conn, err := door.JoinClient(ctx, r.Address, token.CA)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	defer conn.Close()
	if err := connected(ctx, conn); err != nil {
		return fmt.Errorf("join: no member answers at %s that shows the CA of the token: %w", r.Address, err)
	}
	return nil
}
