package cluster

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

const (
	// maxIssued bounds the certificates for readers and writers that have not
	// run out.
	maxIssued = 1000
	// maxIssuedLife is how long one of them may last, milliseconds.
	maxIssuedLife = 10 * 365 * day
)

var serialForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

// rotateCA lets the cluster believe the CA that the leader has made.
func (e *edit) rotateCA(c *clusterpb.RotateCA) (uint64, *clusterpb.Refusal) {
	under := e.next.cluster.GetCaRotation()
	if r := e.expect("CA rotation", e.next.cluster.GetName(), under.GetRevision()); r != nil {
		return 0, r
	}
	if under != nil && !c.GetAgain() {
		return 0, refuse(clusterpb.Refusal_EXISTS, "", "the CA is being replaced since %s: `muster cert show` tells who is awaited, `muster cert rotate-ca --finish` ends it",
			clockText(under.GetBegunMs()))
	}
	if r := checkCAs(c.GetCaCertificates()); r != nil {
		return 0, r
	}
	e.setCluster(func(cl *clusterpb.Cluster) {
		cl.CaCertificates = bytes.Clone(c.GetCaCertificates())
		cl.CaRotation = &clusterpb.CARotation{Revision: e.rev, BegunMs: e.now}
	})
	e.note("CA rotation begun", e.next.cluster.GetName(), "")
	return e.rev, nil
}

// retireCA notes that the old CAs shall go, or drops them, and with them what
// they have signed for readers and writers.
func (e *edit) retireCA(c *clusterpb.RetireCA) (uint64, *clusterpb.Refusal) {
	under := e.next.cluster.GetCaRotation()
	if r := e.expect("CA rotation", e.next.cluster.GetName(), under.GetRevision()); r != nil {
		return 0, r
	}
	switch {
	case under == nil:
		return 0, notFound("the CA is not being replaced: `muster cert rotate-ca` begins that")
	case !c.GetDrop() && under.GetRetiring():
		return under.GetRevision(), nil
	case !c.GetDrop():
		e.setCluster(func(cl *clusterpb.Cluster) { cl.CaRotation.Retiring = true })
		e.note("CA rotation to be finished", e.next.cluster.GetName(), "")
		return under.GetRevision(), nil
	case !under.GetRetiring():
		return 0, unsafe("", "nobody has asked that the old CA be dropped")
	}
	if r := checkCAs(c.GetCaCertificates()); r != nil {
		return 0, r
	}
	kept := e.unexpired()
	had := len(kept)
	kept = slices.DeleteFunc(kept, func(i *clusterpb.IssuedCertificate) bool { return i.GetCreatedMs() < under.GetBegunMs() })
	e.setCluster(func(cl *clusterpb.Cluster) {
		cl.CaCertificates, cl.CaRotation, cl.Issued = bytes.Clone(c.GetCaCertificates()), nil, kept
	})
	e.changed.Tokens = true
	e.note("CA rotation finished", e.next.cluster.GetName(),
		fmt.Sprintf("the old CA is believed no more; %d certificates of readers and writers ended with it", had-len(kept)))
	return 0, nil
}

// checkCAs looks at the size alone: what is in there is the leader's to know,
// and another version's parser could judge otherwise.
func checkCAs(text []byte) *clusterpb.Refusal {
	if n := len(text); n == 0 || n > maxCertificates {
		return invalid("ca_certificates", "the CA's certificates have %d bytes: want 1 to %d", n, maxCertificates)
	}
	return nil
}

// issueCertificate records a certificate, which is signed afterwards.
func (e *edit) issueCertificate(c *clusterpb.IssueCertificate) (uint64, *clusterpb.Refusal) {
	i := c.GetCertificate()
	if r := firstOf(e.expect("certificate", i.GetSerial(), 0), e.checkIssued(i)); r != nil {
		return 0, r
	}
	kept := e.unexpired()
	at, taken := findIssued(kept, i.GetSerial())
	switch {
	case taken:
		return 0, refuse(clusterpb.Refusal_EXISTS, "serial", "there is a certificate %s already", i.GetSerial())
	case len(kept) >= maxIssued:
		return 0, full("name", "there are %d certificates of readers and writers: revoke some first", maxIssued)
	}
	next := &clusterpb.IssuedCertificate{
		Serial: i.GetSerial(), Role: i.GetRole(), Name: i.GetName(), Tenant: i.GetTenant(), KeyHash: bytes.Clone(i.GetKeyHash()),
		TenantIncarnation: e.next.Tenant(i.GetTenant()).GetIncarnation(),
		CreatedMs:         e.now, ExpiresMs: i.GetExpiresMs(), CreatedBy: e.by(),
	}
	e.setCluster(func(cl *clusterpb.Cluster) { cl.Issued = slices.Insert(kept, at, next) })
	e.changed.Tokens = true
	e.note("certificate issued", next.GetName(), issuedText(next))
	return e.rev, nil
}

func (e *edit) checkIssued(i *clusterpb.IssuedCertificate) *clusterpb.Refusal {
	switch {
	case !serialForm.MatchString(i.GetSerial()):
		return invalid("serial", "serial number %s: want 32 hex digits", quote(i.GetSerial()))
	case i.GetRole() != pki.RoleReader && i.GetRole() != pki.RoleWriter:
		return invalid("role", "role %s: want reader or writer; nodes get theirs by joining", quote(i.GetRole()))
	case i.GetExpiresMs() <= e.now || i.GetExpiresMs() > e.now+maxIssuedLife:
		return invalid("ttl", "the certificate would end at %s: want a time within ten years", clockText(i.GetExpiresMs()))
	}
	if r := firstOf(checkName("name", "name", i.GetName()), checkBytes("key_hash", i.GetKeyHash(), keyHashLen)); r != nil || i.GetTenant() == "" {
		return r
	}
	if r := checkTenantID("tenant", i.GetTenant()); r != nil {
		return r
	}
	if e.next.Tenant(i.GetTenant()) == nil {
		return notFound("there is no tenant %s: create it first, since the certificate is bound to it and not to a later one of its name", i.GetTenant())
	}
	return nil
}

func (e *edit) revokeCertificate(c *clusterpb.RevokeCertificate) (uint64, *clusterpb.Refusal) {
	i := e.next.Issued(c.GetSerial())
	if i == nil {
		return 0, notFound("there is no certificate %s of a reader or writer", quote(c.GetSerial()))
	}
	kept := slices.DeleteFunc(e.unexpired(), func(o *clusterpb.IssuedCertificate) bool { return o.GetSerial() == i.GetSerial() })
	e.setCluster(func(cl *clusterpb.Cluster) { cl.Issued = kept })
	e.changed.Tokens = true
	e.note("certificate revoked", i.GetName(), issuedText(i))
	return 0, nil
}

// expireIssued forgets certificates that have run out.
func (e *edit) expireIssued() int {
	kept := e.unexpired()
	gone := len(e.next.cluster.GetIssued()) - len(kept)
	if gone > 0 {
		e.setCluster(func(cl *clusterpb.Cluster) { cl.Issued = kept })
		e.changed.Tokens = true
	}
	return gone
}

// unexpired is a list of its own.
func (e *edit) unexpired() []*clusterpb.IssuedCertificate {
	var kept []*clusterpb.IssuedCertificate
	for _, i := range e.next.cluster.GetIssued() {
		if i.GetExpiresMs() > e.now {
			kept = append(kept, i)
		}
	}
	return kept
}

func findIssued(list []*clusterpb.IssuedCertificate, serial string) (int, bool) {
	return slices.BinarySearchFunc(list, serial, func(i *clusterpb.IssuedCertificate, s string) int { return strings.Compare(i.GetSerial(), s) })
}

func issuedText(i *clusterpb.IssuedCertificate) string {
	whose := "all tenants"
	if i.GetTenant() != "" {
		whose = "tenant " + i.GetTenant()
	}
	return fmt.Sprintf("%s of %s, serial %s, until %s", i.GetRole(), whose, i.GetSerial(), clockText(i.GetExpiresMs()))
}

// clockText is a time of the state for people.
func clockText(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
