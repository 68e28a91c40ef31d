package admin

import (
	"bytes"
	"net/http"
	"slices"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// caObject is a CA that the cluster believes.
type caObject struct {
	Fingerprint string   `json:"fingerprint"` // SHA-256 of its public key: what tokens carry
	Created     string   `json:"created"`
	Expires     string   `json:"expires"`
	Newest      bool     `json:"newest"`
	KeyOn       []string `json:"key_on"` // nodes that were heard and have its key
}

// memberCertificate is a member's, as it says itself; what nobody has heard is
// left out.
type memberCertificate struct {
	Node    string `json:"node"`
	Serial  string `json:"serial,omitempty"` // of this node only
	Expires string `json:"expires,omitempty"`
	RenewAt string `json:"renew_at,omitempty"`
	CA      string `json:"ca,omitempty"` // the beginning of the CA's fingerprint
}

// rotationObject is how far one CA has followed another.
type rotationObject struct {
	Since     string   `json:"since"`
	Finishing bool     `json:"finishing"`
	Awaited   []string `json:"awaited"` // members without a certificate of the newest CA
}

type certificatesObject struct {
	Node     string              `json:"node"`
	CAs      []caObject          `json:"cas"`
	Rotation *rotationObject     `json:"rotation,omitempty"`
	Members  []memberCertificate `json:"members"`
	Issued   []issuedObject      `json:"issued"`
}

// certificates lists the CAs, the members' certificates, and those of readers
// and writers. None of it is secret.
func (a *api) certificates(_ *http.Request, st *cluster.State) (object, error) {
	bundle, err := pki.ParseBundle(st.Cluster().GetCaCertificates())
	if err != nil {
		return object{}, err
	}
	reports := map[string]*clusterpb.Report{}
	for _, h := range a.node.Health() {
		reports[h.GetReport().GetNode()] = h.GetReport()
	}
	o := certificatesObject{Node: a.cfg.Name, Issued: []issuedObject{}, CAs: casOf(bundle, reports)}
	for _, m := range st.Members() {
		o.Members = append(o.Members, a.memberCertificate(m.GetName(), reports[m.GetName()]))
	}
	for _, i := range st.Cluster().GetIssued() {
		if i.GetExpiresMs() > time.Now().UnixMilli() {
			o.Issued = append(o.Issued, issuedOf(st, i))
		}
	}
	version := uint64(0)
	if under := st.Cluster().GetCaRotation(); under != nil {
		version = under.GetRevision()
		o.Rotation = &rotationObject{timeText(under.GetBegunMs()), under.GetRetiring(), append([]string{}, a.node.AwaitedForCA()...)}
	}
	return object{o, version}, nil
}

func casOf(bundle *pki.Bundle, reports map[string]*clusterpb.Report) []caObject {
	var out []caObject
	for _, cert := range bundle.Certificates() {
		f := pki.FingerprintOf(cert)
		ca := caObject{
			Fingerprint: f.String(), Created: timeText(cert.NotBefore.UnixMilli()), Expires: timeText(cert.NotAfter.UnixMilli()),
			Newest: f == bundle.Fingerprint(), KeyOn: []string{},
		}
		for _, name := range sortedNames(reports) {
			if bytes.Equal(reports[name].GetCaKey(), f[:]) {
				ca.KeyOn = append(ca.KeyOn, name)
			}
		}
		out = append(out, ca)
	}
	return out
}

// memberCertificate is what this node knows of its own, or has heard of another.
func (a *api) memberCertificate(name string, r *clusterpb.Report) memberCertificate {
	if creds := a.node.Credentials(); creds != nil && name == a.cfg.Name {
		return ownCertificate(creds)
	}
	m := memberCertificate{Node: name, Expires: timeText(r.GetCertificateExpiresMs()), RenewAt: timeText(r.GetCertificateRenewAtMs())}
	if ca := r.GetCertificateCa(); len(ca) == len(pki.Fingerprint{}) {
		m.CA = pki.Fingerprint(ca).Short()
	}
	return m
}

func sortedNames(reports map[string]*clusterpb.Report) []string {
	names := make([]string, 0, len(reports))
	for name := range reports {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
