package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

const (
	// renewRetry is how long a renewal that failed waits: the certificate has
	// days left then.
	renewRetry = 5 * time.Minute
	// renewPause is the least time between two renewals, whatever the
	// certificates say.
	renewPause = time.Second
)

var errOldCA = errors.New("nobody who has the new CA's key has answered yet")

// takePlace shows the certificate from now on and runs the loops around Raft.
func (n *Node) takePlace(e *engine, creds *pki.Credentials) {
	n.cfg.Door.SetIdentity(creds)
	n.noteCAKey()
	n.engine.Store(e)
	n.judgeSelf(n.State())
	n.startLoops(e)
	n.trust.Ring()
}

// keepCredentials replaces this node's certificate long before it runs out, and
// keeps the CAs that it believes, and the CA's key, as the state says.
func (n *Node) keepCredentials() {
	for {
		wait := time.Hour
		if creds := n.credentials(); creds != nil {
			n.followCA()
			wait = n.renewDue()
			n.offerCAKey()
		}
		select {
		case <-n.ctx.Done():
			return
		case <-n.trust:
		case <-time.After(min(wait, 10*n.cfg.Timing.Report)):
		}
	}
}

// renewDue renews the certificate when it is time, or when another CA is to have
// signed it. It says how long to wait for the next look.
func (n *Node) renewDue() time.Duration {
	creds := n.credentials()
	due := time.Until(creds.RenewAt()) <= 0
	moved := creds.CA() != creds.CAs.Fingerprint()
	if !due && !moved {
		return max(time.Until(creds.RenewAt()), 0)
	}
	if time.Since(n.renewed) < min(renewPause, n.cfg.Timing.Report) {
		return n.cfg.Timing.Report
	}
	n.renewed = time.Now()
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.Timing.Ask)
	defer cancel()
	err := n.renew(ctx, !due)
	switch {
	case err == nil:
		return 0
	case n.ctx.Err() != nil:
	case errors.Is(err, errOldCA):
		n.log.Debug("certificate of the new CA", "err", err)
	default:
		n.metrics.renewalsFailed.Inc()
		n.log.Warn("certificate not renewed", "expires", creds.Expires(), "err", err)
	}
	if moved {
		return 2 * n.cfg.Timing.Report
	}
	return min(renewRetry, n.cfg.Timing.Certificate/20)
}

// reportCredentials says how this node's certificate is.
func (n *Node) reportCredentials(r *clusterpb.Report) {
	creds := n.credentials()
	if creds == nil {
		return
	}
	ca := creds.CA()
	r.CertificateExpiresMs, r.CertificateRenewAtMs = creds.Expires().UnixMilli(), creds.RenewAt().UnixMilli()
	r.CertificateCa = ca[:]
	for _, cert := range creds.CAs.Certificates() {
		f := pki.FingerprintOf(cert)
		r.TrustedCas = append(r.TrustedCas, f[:])
	}
	if held := n.caKey.Load(); held != nil {
		r.CaKey = held[:]
	}
}

// Credentials are what this node shows and whom it believes; nil while it belongs
// to no cluster.
func (n *Node) Credentials() *pki.Credentials { return n.credentials() }

// RenewCertificate gets this node a new certificate for the key it has.
func (n *Node) RenewCertificate(ctx context.Context) error {
	if n.engine.Load() == nil {
		return n.outside()
	}
	return n.renew(ctx, false)
}

// renew gets and shows a new certificate; onlyNewest: nothing but one of the
// newest CA will do.
func (n *Node) renew(ctx context.Context, onlyNewest bool) error {
	n.renewing.Lock()
	defer n.renewing.Unlock()
	key, err := n.pki.Key()
	if err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	csr, err := pki.NewRequest(key, n.cfg.Name)
	if err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	creds := n.credentials()
	chain, err := n.certify(ctx, csr)
	if err != nil && time.Now().After(creds.Expires()) {
		chain, err = n.askLate(ctx, csr, creds)
	}
	if err == nil && onlyNewest && !signedBy(chain, creds.CAs.Fingerprint()) {
		err = errOldCA
	}
	if err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	next, err := n.pki.SaveCertificate(chain)
	if err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	n.cfg.Door.SetIdentity(next)
	n.metrics.renewals.Inc()
	n.reporting.Ring()
	n.log.Info("certificate renewed", "expires", next.Expires(), "renew_at", next.RenewAt(), "ca", next.CA().Short())
	return nil
}

// signedBy says whether a chain (PEM) is by the CA of that fingerprint.
func signedBy(chain []byte, ca pki.Fingerprint) bool {
	signer, err := pki.SignerOfChain(chain)
	return err == nil && signer == ca
}

// sign gives a certificate to whichever member has the request's key. It wraps
// pki.ErrAbsent where this node has not the CA's key.
func (n *Node) sign(csr []byte) ([]byte, error) {
	ca, err := n.pki.CA()
	if err != nil {
		return nil, fmt.Errorf("the CA's key: %w", err)
	}
	return n.signWith(ca, csr)
}

func (n *Node) signWith(ca *pki.CA, csr []byte) ([]byte, error) {
	req, err := pki.ParseRequest(csr)
	if err != nil {
		return nil, err
	}
	st := n.State()
	for _, m := range st.Members() {
		if !bytes.Equal(m.GetKeyHash(), req.KeyHash()) {
			continue
		}
		id := pki.Identity{Cluster: st.Cluster().GetId(), Role: pki.RoleNode, Name: m.GetName(), Incarnation: m.GetIncarnation()}
		hosts := []string{m.GetName()}
		if host, _, err := net.SplitHostPort(m.GetAddress()); err == nil {
			hosts = append(hosts, host)
		}
		return ca.Grant(req, pki.Grant{Identity: id, Life: n.cfg.Timing.Certificate, Hosts: hosts}, time.Now())
	}
	return nil, errors.New("the request's key is no member's")
}

// certify signs for a member's key, here or at a node that has the CA's key.
func (n *Node) certify(ctx context.Context, csr []byte) ([]byte, error) {
	return n.askSigners(ctx, &clusterpb.RenewRequest{Csr: csr})
}

// askSigners has a request signed by whoever has the newest CA's key; while
// nobody who answers has it, by one that still has the CA's before.
func (n *Node) askSigners(ctx context.Context, r *clusterpb.RenewRequest) ([]byte, error) {
	var newest pki.Fingerprint
	if bundle, err := pki.ParseBundle(n.State().Cluster().GetCaCertificates()); err == nil {
		newest = bundle.Fingerprint()
	}
	second, err := n.signHere(ctx, r)
	if err == nil && signedBy(second, newest) || err != nil && !errors.Is(err, pki.ErrAbsent) {
		return second, err
	}
	failed := []error{errors.New("no member with the CA's key has answered")}
	for _, name := range n.byRole() {
		if name == n.cfg.Name {
			continue
		}
		chain, err := n.signAt(ctx, name, r)
		switch {
		case err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
		case signedBy(chain, newest):
			return chain, nil
		default:
			second = chain
		}
	}
	if second != nil {
		return second, nil
	}
	return nil, errors.Join(failed...)
}

func (n *Node) signHere(ctx context.Context, r *clusterpb.RenewRequest) ([]byte, error) {
	if r.GetSerial() != "" {
		return n.signIssued(ctx, r)
	}
	return n.sign(r.GetCsr())
}

func (n *Node) signAt(ctx context.Context, name string, r *clusterpb.RenewRequest) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Wait)
	defer cancel()
	conn, err := n.cfg.Door.Dial(ctx, name)
	if err != nil {
		return nil, err
	}
	answer, err := clusterpb.NewControlClient(conn).Renew(ctx, r)
	return answer.GetCertificates(), err
}

// certifySelf signs this node's own key with a CA that it has, and keeps the
// certificate.
func (n *Node) certifySelf(ca *pki.CA) (*pki.Credentials, error) {
	key, err := n.pki.Key()
	if err != nil {
		return nil, err
	}
	csr, err := pki.NewRequest(key, n.cfg.Name)
	if err != nil {
		return nil, err
	}
	chain, err := n.signWith(ca, csr)
	if err != nil {
		return nil, err
	}
	return n.pki.SaveCertificate(chain)
}
