package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// lateEvery is how often a member may ask for a certificate in the place of one
// that has run out.
const lateEvery = 5 * time.Second

// latecomers bounds how often a member asks. It holds members only.
type latecomers struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (l *latecomers) may(name string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		l.last = map[string]time.Time{}
	}
	if now.Sub(l.last[name]) < lateEvery {
		return false
	}
	for other, t := range l.last {
		if now.Sub(t) >= lateEvery {
			delete(l.last, other)
		}
	}
	l.last[name] = now
	return true
}

// RenewLate gives a member a new certificate whose old one has run out: the door
// lets it in nowhere else. It is known by its key, which the state has, and by
// the certificate that this cluster once gave to it.
func (a *admission) RenewLate(ctx context.Context, r *clusterpb.RenewLateRequest) (*clusterpb.RenewLateResponse, error) {
	n := a.node
	chain, err := n.renewLate(ctx, r, time.Now())
	if err != nil {
		if late := n.strangers.Wait(ctx); late != nil {
			return nil, status.FromContextError(late).Err()
		}
		n.log.Info("late renewal refused", "reason", err)
		return &clusterpb.RenewLateResponse{Refusal: refuse(clusterpb.Refusal_DENIED, "certificate", "%v", err)}, nil
	}
	return &clusterpb.RenewLateResponse{Certificates: chain, CaCertificates: n.State().Cluster().GetCaCertificates()}, nil
}

func (n *Node) renewLate(ctx context.Context, r *clusterpb.RenewLateRequest, now time.Time) ([]byte, error) {
	creds := n.credentials()
	if creds == nil {
		return nil, ErrNoCluster
	}
	req, err := pki.ParseRequest(r.GetCsr())
	if err != nil {
		return nil, err
	}
	id, err := judgeLate(creds, r.GetCertificate(), req, now, n.cfg.Timing.Late)
	if err != nil {
		return nil, err
	}
	if err := n.State().Vouches(id, "", req.KeyHash()); err != nil {
		return nil, err
	}
	if !n.late.may(id.Name, now) {
		return nil, fmt.Errorf("node %s has asked a moment ago: once in %v is enough", id.Name, lateEvery)
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Ask)
	defer cancel()
	chain, err := n.certify(ctx, r.GetCsr())
	if err == nil {
		n.log.Info("certificate renewed late", "node", id.Name)
	}
	return chain, err
}

// judgeLate says whose certificate it was: one of this cluster, for the same
// key, at most so long ago.
func judgeLate(creds *pki.Credentials, chain []byte, req *pki.Request, now time.Time, most time.Duration) (pki.Identity, error) {
	leaf, id, err := creds.CAs.VerifyAtItsEnd(chain, x509.ExtKeyUsageClientAuth)
	switch {
	case err != nil:
		return id, err
	case id.Cluster != creds.Identity.Cluster:
		return id, fmt.Errorf("the certificate is of cluster %s, this is %s", id.Cluster, creds.Identity.Cluster)
	case id.Role != pki.RoleNode:
		return id, fmt.Errorf("the certificate has the role %s, want %s", id.Role, pki.RoleNode)
	case string(pki.KeyHash(leaf)) != string(req.KeyHash()):
		return id, errors.New("the request is by another key than the certificate's")
	case now.Sub(leaf.NotAfter) > most:
		return id, fmt.Errorf("the certificate of %s has run out at %s, more than %d days ago: make a token with `muster token create --role node` and run `muster cluster join` on that node again",
			id.Name, leaf.NotAfter.UTC().Format(time.RFC3339), int(most.Hours()/24))
	}
	return id, nil
}

// askLate asks the members, one after the other, for a new certificate in the
// place of one that has run out.
func (n *Node) askLate(ctx context.Context, csr []byte, creds *pki.Credentials) ([]byte, error) {
	failed := []error{fmt.Errorf("this node's certificate has run out at %s", creds.Expires().UTC().Format(time.RFC3339))}
	for _, name := range n.byRole() {
		address, ok := n.AddressOf(name)
		if !ok || name == n.cfg.Name {
			continue
		}
		answer, err := askLateAt(ctx, address, creds, csr)
		if err == nil {
			err = n.believeAfter(answer, creds)
		}
		if err == nil {
			return answer.GetCertificates(), nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", name, err))
	}
	return nil, errors.Join(failed...)
}

func askLateAt(ctx context.Context, address string, creds *pki.Credentials, csr []byte) (*clusterpb.RenewLateResponse, error) {
	conn, err := door.JoinClient(ctx, address, creds.CA())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answer, err := clusterpb.NewJoinClient(conn).RenewLate(ctx, &clusterpb.RenewLateRequest{Csr: csr, Certificate: creds.Chain()})
	if err == nil && answer.GetRefusal() != nil {
		err = &RefusedError{answer.GetRefusal()}
	}
	return answer, err
}

// believeAfter keeps the CAs that came with a late renewal: the member who sent
// them has shown a chain to the CA that this node has always believed.
func (n *Node) believeAfter(answer *clusterpb.RenewLateResponse, creds *pki.Credentials) error {
	bundle, err := pki.ParseBundle(answer.GetCaCertificates())
	if err != nil {
		return err
	}
	if !bundle.Has(creds.CA()) {
		return errors.New("it answered with other CAs than its own")
	}
	return n.pki.SaveBundle(bundle)
}
