package door

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/muster-metrics/muster/cluster/pki"
)

var (
	errNoCertificate = errors.New("it showed no certificate")
	errNotReady      = errors.New("the members are not known yet")
)

// judge says whom a verified chain speaks for, and refuses who is no node of this
// cluster.
func (d *Door) judge(credentials *pki.Credentials, chain []*x509.Certificate, usage x509.ExtKeyUsage) (Identity, error) {
	if len(chain) == 0 {
		return Identity{}, errNoCertificate
	}
	id, err := credentials.CAs.Verify(chain, usage, d.cfg.Now())
	switch {
	case err != nil:
		return Identity{}, err
	case id.Cluster != credentials.Identity.Cluster:
		return Identity{}, fmt.Errorf("its certificate is of cluster %s, this is %s", id.Cluster, credentials.Identity.Cluster)
	case id.Role != pki.RoleNode:
		return Identity{}, fmt.Errorf("its certificate has the role %s, want %s", id.Role, pki.RoleNode)
	}
	return id, nil
}

// allowed asks the committed state. A door that was given no members lets nobody
// in, but dials.
func (d *Door) allowed(id Identity, keyHash []byte, dialled bool) error {
	members := d.members.Load()
	if members == nil || *members == nil {
		if dialled {
			return nil
		}
		return errNotReady
	}
	return (*members)(id.Name, id.Incarnation, keyHash)
}

// stillAllowed is allowed for an open connection.
func (d *Door) stillAllowed(c *Conn) error {
	credentials := d.credentials.Load()
	switch {
	case credentials == nil:
		return ErrNoIdentity
	case c.protocol == ProtocolJoin:
		return nil
	case c.peer.Cluster != credentials.Identity.Cluster:
		return fmt.Errorf("its certificate is of cluster %s, this is %s", c.peer.Cluster, credentials.Identity.Cluster)
	}
	return d.allowed(c.peer, bytes.Clone(c.keyHash), c.dialled)
}
