package cluster

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// How one CA follows another, without a moment in which a node is not believed.
//
//	1 the leader makes a key, keeps it in pki/ca.next.key, and commits the new
//	  CA's certificate beside the old one's, with what the old one signs of it
//	2 every node believes both (followCA), and says so in its heartbeats
//	3 the leader gives the new key to the voters (placeCAKey); who has it signs
//	  with it
//	4 every node gets a certificate of the new CA (renewDue)
//	5 an operator asks to finish it: tokens and readers' certificates of the old
//	  CA end with it
//	6 the leader drops the old CA once every member has a certificate of the new
//	  one (retireCA)
//
// Each step follows from the state and the heartbeats, so that any leader goes
// on. A leader that dies for good between 1 and 3 takes the new key with it:
// the rotation is begun once more, with yet another CA.

// maxCAs is how many CAs are believed at once, at most.
const maxCAs = 4

// followCA believes the CAs of the state. The one that has signed this node's
// certificate stays until there is another certificate.
func (n *Node) followCA() {
	n.renewing.Lock()
	defer n.renewing.Unlock()
	creds, st := n.credentials(), n.State()
	if creds == nil || st.Cluster() == nil {
		return
	}
	want, err := pki.ParseBundle(st.Cluster().GetCaCertificates())
	if err != nil {
		n.log.Error("the cluster's CA certificates cannot be read", "err", err)
		return
	}
	if signer := creds.CAs.SignerOf(creds.Certificate.Leaf); signer != nil && !want.Has(pki.FingerprintOf(signer)) {
		want = pki.NewBundle(signer).With(want)
	}
	if !bytes.Equal(want.PEM(), creds.CAs.PEM()) {
		if err := n.pki.SaveBundle(want); err != nil {
			n.log.Error("the cluster's CA certificates cannot be kept", "err", err)
			return
		}
		if creds, err = n.pki.Credentials(); err != nil {
			n.log.Error("this node's certificate", "err", err)
			return
		}
		n.cfg.Door.SetIdentity(creds)
		n.reporting.Ring()
		n.log.Info("believed CAs changed", "cas", len(want.Certificates()), "newest", want.Fingerprint().Short())
	}
	if err := n.pki.SettleCAKey(); err != nil {
		n.log.Error("the new CA's key cannot be kept", "err", err)
	}
	if held := n.caKey.Load(); held != nil && st.Removed(n.cfg.Name) != nil && st.Member(n.cfg.Name) == nil {
		if err := n.dropCAKey(); err != nil {
			n.log.Error("the CA's key cannot be dropped", "err", err)
		}
	}
	n.noteCAKeyIfMoved()
}

// noteCAKeyIfMoved tells of a key that has settled.
func (n *Node) noteCAKeyIfMoved() {
	ca, err := n.pki.CA()
	held := n.caKey.Load()
	if err == nil && (held == nil || *held != ca.Fingerprint()) {
		n.noteCAKey()
	}
}

// stampRotation makes the new CA, where a change asks for one, with the key that
// newKey gives: one that stays on this node until the change is committed.
func (n *Node) stampRotation(cmd *clusterpb.Command, newKey func() (*pki.Key, error)) *clusterpb.Refusal {
	r := cmd.GetRotateCa()
	if r == nil {
		return nil
	}
	n.renewing.Lock()
	defer n.renewing.Unlock()
	st := n.State()
	bundle, err := pki.ParseBundle(st.Cluster().GetCaCertificates())
	if err != nil {
		return unsafe("", "the cluster's CA certificates cannot be read: %v", err)
	}
	if len(bundle.Certificates()) >= maxCAs {
		return full("", "%d CAs are believed already: `muster cert rotate-ca --finish` drops the old ones", maxCAs)
	}
	r.Again = false
	if st.Cluster().GetCaRotation() != nil {
		if !n.caKeyIsLost(bundle.Fingerprint()) {
			return nil // the state refuses it, with the reason
		}
		r.Again = true
	}
	ca, err := n.pki.CA()
	if errors.Is(err, pki.ErrAbsent) {
		return unsafe("", "%s leads and has not the CA's key yet: ask again in a minute", n.cfg.Name)
	}
	if err != nil {
		return unsafe("", "the CA's key: %v", err)
	}
	rotated, err := n.makeNextCA(bundle, ca, newKey)
	if err != nil {
		return unsafe("", "make the new CA: %v", err)
	}
	r.CaCertificates = rotated.PEM()
	return nil
}

func (n *Node) makeNextCA(bundle *pki.Bundle, from *pki.CA, newKey func() (*pki.Key, error)) (*pki.Bundle, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	next, err := pki.NewCAWith(key, n.State().Cluster().GetId(), now)
	if err != nil {
		return nil, err
	}
	return bundle.Rotated(from, next, now)
}

// caKeyIsLost says whether nobody who is heard has the key of that CA; a leader
// that has only begun does not know.
func (n *Node) caKeyIsLost(ca pki.Fingerprint) bool {
	if held := n.caKey.Load(); held != nil && *held == ca {
		return false
	}
	now := time.Now()
	for _, m := range n.State().Members() {
		c, ok := n.health.Of(m)
		switch {
		case m.GetName() == n.cfg.Name:
		case ok && n.health.Live(m, now) && holdsCAKey(c.report, ca):
			return false
		case !ok && !n.health.Silent(m, now):
			return false
		}
	}
	return true
}

// retireCA drops the old CAs when somebody has asked for it and every member
// has a certificate of the newest.
func (n *Node) retireCA(ctx context.Context, e *engine) error {
	st := n.State()
	if !st.Cluster().GetCaRotation().GetRetiring() {
		return nil
	}
	bundle, err := pki.ParseBundle(st.Cluster().GetCaCertificates())
	if err != nil {
		return err
	}
	if len(awaitedFor(st, bundle.Fingerprint(), n.healthHere(e))) > 0 {
		return nil
	}
	return n.commit(ctx, e, &clusterpb.Command{Change: &clusterpb.Command_RetireCa{
		RetireCa: &clusterpb.RetireCA{Drop: true, CaCertificates: bundle.Newest().PEM()},
	}})
}

// AwaitedForCA are the members that are not known to have a certificate of the
// newest CA: while there is one, an old CA is not dropped.
func (n *Node) AwaitedForCA() []string {
	st := n.State()
	bundle, err := pki.ParseBundle(st.Cluster().GetCaCertificates())
	if err != nil {
		return nil
	}
	return awaitedFor(st, bundle.Fingerprint(), n.Health())
}

// awaitedFor takes a silent member for one that has it not.
func awaitedFor(st *State, newest pki.Fingerprint, heard []*clusterpb.Health) []string {
	var out []string
	for _, m := range st.Members() {
		has := slices.ContainsFunc(heard, func(h *clusterpb.Health) bool {
			r := h.GetReport()
			return r.GetNode() == m.GetName() && h.GetLastContactMs() >= 0 && bytes.Equal(r.GetCertificateCa(), newest[:])
		})
		if !has {
			out = append(out, m.GetName())
		}
	}
	return out
}
