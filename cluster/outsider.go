package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// defaultIssuedLife is how long a reader's or writer's certificate lasts where
// nobody said otherwise: nobody renews it by himself.
const defaultIssuedLife = 365 * 24 * time.Hour

// Issued is the record of a reader's or writer's certificate; nil where there is
// none: it was revoked, has run out, or this cluster never issued it.
func (s *State) Issued(serial string) *clusterpb.IssuedCertificate {
	list := s.cluster.GetIssued()
	if i, ok := findIssued(list, serial); ok {
		return list[i]
	}
	return nil
}

// Vouches says why somebody whose certificate the CA has signed may not come in
// after all; nil if he may. A node must be a member with this key; a reader or
// writer must be on record, and his tenant still the one that it was.
func (s *State) Vouches(id pki.Identity, serial string, keyHash []byte) error {
	if id.Role == pki.RoleNode {
		m := s.Member(id.Name)
		if m == nil || m.GetIncarnation() != id.Incarnation || !bytes.Equal(m.GetKeyHash(), keyHash) {
			return fmt.Errorf("node %s, incarnation %d, is no member", id.Name, id.Incarnation)
		}
		return nil
	}
	i := s.Issued(serial)
	switch {
	case i == nil:
		return fmt.Errorf("the certificate of %s %s, serial %s, was revoked or is not on record: `muster cert issue` makes another", id.Role, id.Name, serial)
	case i.GetRole() != id.Role || i.GetName() != id.Name || i.GetTenant() != id.Tenant || !bytes.Equal(i.GetKeyHash(), keyHash):
		return fmt.Errorf("the certificate of %s %s differs from its record %s", id.Role, id.Name, serial)
	case id.Tenant != "" && s.Tenant(id.Tenant).GetIncarnation() != i.GetTenantIncarnation():
		return fmt.Errorf("the tenant %s that the certificate of %s was bound to was deleted", id.Tenant, id.Name)
	}
	return nil
}

// IssueRequest asks for a certificate for somebody outside of the cluster.
type IssueRequest struct {
	// CSR is PKCS #10, DER; the key stays with who made it.
	CSR []byte
	// Role is reader or writer.
	Role, Name string
	// Tenant that it is bound to; "": all.
	Tenant string
	// Life of the certificate. Default 1 year.
	Life time.Duration
	// Actor and Source are for the events.
	Actor, Source string
}

// Command is the record that is committed before anything is signed.
func (r IssueRequest) Command(now time.Time) (*clusterpb.Command, error) {
	serial, err := pki.NewSerial()
	if err != nil {
		return nil, err
	}
	req, err := pki.ParseRequest(r.CSR)
	if err != nil {
		return nil, &RefusedError{invalid("csr", "%v", err)}
	}
	if r.Life == 0 {
		r.Life = defaultIssuedLife
	}
	return &clusterpb.Command{
		Actor: r.Actor, Source: r.Source, TimeMs: now.UnixMilli(),
		Change: &clusterpb.Command_IssueCertificate{IssueCertificate: &clusterpb.IssueCertificate{Certificate: &clusterpb.IssuedCertificate{
			Serial: pki.SerialText(serial), Role: r.Role, Name: r.Name, Tenant: r.Tenant,
			KeyHash: req.KeyHash(), ExpiresMs: now.Add(r.Life).UnixMilli(),
		}}},
	}, nil
}

// Issue is a new certificate.
type Issue struct {
	// Chain is the certificate and its CA's, Roots are the CAs to believe; PEM.
	Chain, Roots []byte
	Record       *clusterpb.IssuedCertificate
	Answer       *clusterpb.ProposeResponse
}

// IssueCertificate records a certificate and has it signed by a node that has
// the CA's key. A *RefusedError says why not.
func (n *Node) IssueCertificate(ctx context.Context, r IssueRequest) (*Issue, error) {
	cmd, err := r.Command(time.Now())
	if err != nil {
		return nil, err
	}
	serial := cmd.GetIssueCertificate().GetCertificate().GetSerial()
	answer, err := n.Propose(ctx, cmd)
	if err != nil {
		return nil, err
	}
	if answer.GetRefusal() != nil {
		return nil, &RefusedError{answer.GetRefusal()}
	}
	chain, err := n.askSigners(ctx, &clusterpb.RenewRequest{Csr: r.CSR, Serial: serial, Revision: answer.GetRevision()})
	if err != nil {
		return nil, fmt.Errorf("the certificate is on record as %s but could not be signed, issue another: %w", serial, err)
	}
	st := n.State()
	bundle, err := pki.ParseBundle(st.Cluster().GetCaCertificates())
	if err != nil {
		return nil, err
	}
	record := st.Issued(serial)
	if record == nil {
		return nil, fmt.Errorf("the certificate %s was revoked while it was made", serial)
	}
	return &Issue{Chain: chain, Roots: bundle.Roots(), Record: record, Answer: answer}, nil
}

// signIssued signs what is on record, and nothing else.
func (n *Node) signIssued(ctx context.Context, r *clusterpb.RenewRequest) ([]byte, error) {
	ca, err := n.pki.CA()
	if err != nil {
		return nil, fmt.Errorf("the CA's key: %w", err)
	}
	if err := n.fsm.WaitApplied(ctx, r.GetRevision()); err != nil {
		return nil, err
	}
	st := n.State()
	req, err := pki.ParseRequest(r.GetCsr())
	if err != nil {
		return nil, err
	}
	serial, err := pki.ParseSerial(r.GetSerial())
	if err != nil {
		return nil, err
	}
	i := st.Issued(r.GetSerial())
	if i == nil || !bytes.Equal(i.GetKeyHash(), req.KeyHash()) {
		return nil, errors.New("no certificate is on record for the request's key")
	}
	now := time.Now()
	return ca.Grant(req, pki.Grant{
		Identity: pki.Identity{Cluster: st.Cluster().GetId(), Role: i.GetRole(), Name: i.GetName(), Tenant: i.GetTenant()},
		Life:     time.UnixMilli(i.GetExpiresMs()).Sub(now), Serial: serial,
	}, now)
}
