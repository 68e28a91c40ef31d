package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/muster-metrics/muster/cluster/pki"
)

// renewRetry is how long a renewal that failed waits: the certificate has days
// left then.
const renewRetry = 5 * time.Minute

// takePlace shows the certificate from now on and runs the loops around Raft.
func (n *Node) takePlace(e *engine, creds *pki.Credentials) {
	n.cfg.Door.SetIdentity(creds)
	n.engine.Store(e)
	n.startLoops(e)
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
		var hosts []string
		if host, _, err := net.SplitHostPort(m.GetAddress()); err == nil {
			hosts = append(hosts, host)
		}
		return ca.Sign(req, id, time.Now(), hosts...)
	}
	return nil, errors.New("the request's key is no member's")
}

// keepCAKey keeps the CA's key after a look that it is this cluster's.
func (n *Node) keepCAKey(text []byte) error {
	key, err := pki.ParseKey(text)
	if err != nil {
		return fmt.Errorf("the CA's key: %w", err)
	}
	bundle, err := n.pki.Bundle()
	if err != nil {
		return err
	}
	if _, err := pki.NewCAFrom(bundle, key); err != nil {
		return err
	}
	return n.pki.SaveCAKey(key)
}

// renew replaces this node's certificate long before it runs out.
func (n *Node) renew() {
	for {
		wait := renewRetry
		if creds := n.credentials(); creds != nil {
			wait = min(max(time.Until(creds.RenewAt()), 0), time.Hour)
			if wait == 0 {
				wait = n.renewNow()
			}
		}
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// renewNow says how long to wait afterwards.
func (n *Node) renewNow() time.Duration {
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.Timing.Ask)
	defer cancel()
	err := n.RenewCertificate(ctx)
	if err == nil {
		return time.Minute
	}
	if n.ctx.Err() == nil {
		n.log.Warn("certificate not renewed", "err", err)
	}
	return renewRetry
}

// RenewCertificate gets this node a new certificate for the key it has.
func (n *Node) RenewCertificate(ctx context.Context) error {
	if n.engine.Load() == nil {
		return n.outside()
	}
	key, err := n.pki.Key()
	if err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	csr, err := pki.NewRequest(key, n.cfg.Name)
	if err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	chain, err := n.certify(ctx, csr)
	if err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	creds, err := n.pki.SaveCertificate(chain)
	if err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	n.cfg.Door.SetIdentity(creds)
	n.log.Info("certificate renewed", "expires", creds.Expires())
	return nil
}
