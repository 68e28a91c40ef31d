package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// The CA's key lies on the voters alone, in pki/ca.key, and goes from one to the
// other over the member door. Who has it, each node says in its heartbeats; the
// leader brings it where it is missing and takes it from where it should not be.

// keepCAKey keeps the CA's key after a look that it is this cluster's, and the
// newest one.
func (n *Node) keepCAKey(text []byte) error {
	key, err := pki.ParseKey(text)
	if err != nil {
		return fmt.Errorf("the CA's key: %w", err)
	}
	bundle, err := n.pki.Bundle()
	if err != nil {
		return err
	}
	if _, err := pki.NewCAFrom(bundle.Newest(), key); err != nil {
		return err
	}
	if err := n.pki.SaveCAKey(key); err != nil {
		return err
	}
	n.noteCAKey()
	return nil
}

func (n *Node) dropCAKey() error {
	err := n.pki.DropCAKey()
	n.noteCAKey()
	return err
}

// noteCAKey remembers which CA's key this node has, for its heartbeats.
func (n *Node) noteCAKey() {
	var held *pki.Fingerprint
	if ca, err := n.pki.CA(); err == nil {
		f := ca.Fingerprint()
		held = &f
	}
	n.caKey.Store(held)
	n.reporting.Ring()
}

// holdsCAKey says whether a report's node has the key of that CA.
func holdsCAKey(r *clusterpb.Report, ca pki.Fingerprint) bool {
	return string(r.GetCaKey()) == string(ca[:])
}

// newestCA is the CA with its key, where this node has that of the newest one.
func (n *Node) newestCA() (*pki.CA, error) {
	ca, err := n.pki.CA()
	if err != nil {
		return nil, err
	}
	bundle, err := pki.ParseBundle(n.State().Cluster().GetCaCertificates())
	if err != nil {
		return nil, err
	}
	if bundle.Fingerprint() != ca.Fingerprint() {
		return nil, fmt.Errorf("the key of the newest CA: %w", pki.ErrAbsent)
	}
	return ca, nil
}

// placeCAKey is the leader's work: each voter that is heard has the key of the
// newest CA, and nobody else has any.
func (n *Node) placeCAKey(ctx context.Context, e *engine) error {
	ca, err := n.newestCA()
	if errors.Is(err, pki.ErrAbsent) {
		return nil // who has it offers it: offerCAKey
	}
	if err != nil {
		return fmt.Errorf("read the CA's key: %w", err)
	}
	st, now := n.State(), time.Now()
	voters := map[string]bool{}
	for _, s := range e.raft.GetConfiguration().Configuration().Servers {
		voters[nodeOf(s.ID)] = s.Suffrage == raft.Voter
	}
	var failed []error
	for _, m := range st.Members() {
		c, ok := n.health.Of(m)
		// A node that says nothing of its certificate says nothing of the key.
		if !ok || !n.health.Live(m, now) || m.GetName() == n.cfg.Name || c.report.GetCertificateExpiresMs() == 0 {
			continue
		}
		switch voter := voters[m.GetName()]; {
		case voter && !holdsCAKey(c.report, ca.Fingerprint()):
			failed = append(failed, n.handOver(ctx, m.GetName(), ca.Key()))
		case !voter && len(c.report.GetCaKey()) > 0:
			failed = append(failed, n.handOver(ctx, m.GetName(), nil))
		}
	}
	return errors.Join(failed...)
}

// offerCAKey gives the newest CA's key to a leader that lacks it: it was elected
// before it was given one.
func (n *Node) offerCAKey() {
	leader, ok := n.Leader()
	if !ok || leader == n.cfg.Name || n.caKey.Load() == nil {
		return
	}
	ca, err := n.newestCA()
	if err != nil {
		return
	}
	for _, h := range n.view.Members(time.Now()) {
		r := h.GetReport()
		if r.GetNode() != leader || r.GetCertificateExpiresMs() == 0 || holdsCAKey(r, ca.Fingerprint()) {
			continue
		}
		if err := n.handOver(n.ctx, leader, ca.Key()); err != nil && n.ctx.Err() == nil {
			n.log.Warn("the leader has no CA key", "err", err)
		}
	}
}

// handOver gives a node the CA's key; nil takes it back.
func (n *Node) handOver(ctx context.Context, node string, key *pki.Key) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Wait)
	defer cancel()
	var text []byte
	if key != nil {
		var err error
		if text, err = key.PEM(); err != nil {
			return fmt.Errorf("hand the CA's key over: %w", err)
		}
	}
	conn, err := n.cfg.Door.Dial(ctx, node)
	if err == nil {
		_, err = clusterpb.NewControlClient(conn).HandOver(ctx, &clusterpb.HandOverRequest{CaKey: text})
	}
	if err != nil {
		return fmt.Errorf("hand the CA's key over to %s: %w", node, err)
	}
	return nil
}
