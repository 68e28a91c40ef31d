package admin

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// issuedObject is a certificate of a reader or writer.
type issuedObject struct {
	Serial  string `json:"serial"`
	Role    string `json:"role"`
	Name    string `json:"name"`
	Tenant  string `json:"tenant,omitempty"` // "": all tenants
	Created string `json:"created"`
	By      string `json:"created_by,omitempty"`
	Expires string `json:"expires"`
	// Dead says why it lets nobody in, though it has not run out.
	Dead string `json:"dead,omitempty"`
}

func issuedOf(st *cluster.State, i *clusterpb.IssuedCertificate) issuedObject {
	o := issuedObject{
		Serial: i.GetSerial(), Role: i.GetRole(), Name: i.GetName(), Tenant: i.GetTenant(),
		Created: timeText(i.GetCreatedMs()), By: i.GetCreatedBy(), Expires: timeText(i.GetExpiresMs()),
	}
	if i.GetTenant() != "" && st.Tenant(i.GetTenant()).GetIncarnation() != i.GetTenantIncarnation() {
		o.Dead = "its tenant was deleted"
	}
	return o
}

// issueCertificate makes a certificate for a key that the asker keeps.
func (a *api) issueCertificate(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	req, err := issueOf(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	dry, err := isDryRun(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.ChangeTimeout)
	defer cancel()
	if dry {
		a.rehearseIssue(ctx, w, r, req)
		return
	}
	made, err := a.node.IssueCertificate(ctx, req)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	w.Header().Set("Muster-Revision", strconv.FormatUint(made.Answer.GetRevision(), 10))
	send(w, http.StatusOK, struct {
		issuedObject
		Certificate string `json:"certificate"`
		CA          string `json:"ca"`
		outcome
	}{issuedOf(a.node.State(), made.Record), string(made.Chain), string(made.Roots), outcomeOf(made.Answer)})
}

func outcomeOf(answer *clusterpb.ProposeResponse) outcome {
	return outcome{
		Revision: answer.GetRevision(),
		Applied:  append([]string{}, answer.GetApplied()...), Pending: append([]string{}, answer.GetPending()...),
	}
}

func issueOf(r *http.Request) (cluster.IssueRequest, error) {
	var o struct {
		CSR    string `json:"csr"` // PKCS #10, DER, in base64
		Role   string `json:"role"`
		Name   string `json:"name"`
		Tenant string `json:"tenant"`
		TTL    *span  `json:"ttl"`
	}
	if err := decode(r, &o); err != nil {
		return cluster.IssueRequest{}, err
	}
	csr, err := base64.StdEncoding.DecodeString(o.CSR)
	if err != nil || len(csr) == 0 {
		return cluster.IssueRequest{}, bad("csr", "csr: want a certificate request (PKCS #10, DER) in base64")
	}
	life, err := o.TTL.milliseconds("ttl")
	if err != nil {
		return cluster.IssueRequest{}, err
	}
	c := callerOf(r)
	req := cluster.IssueRequest{CSR: csr, Role: o.Role, Name: o.Name, Tenant: o.Tenant, Actor: c.actor, Source: c.source}
	if life != nil {
		req.Life = time.Duration(*life) * time.Millisecond
	}
	return req, nil
}

// rehearseIssue says what would be answered.
func (a *api) rehearseIssue(ctx context.Context, w http.ResponseWriter, r *http.Request, req cluster.IssueRequest) {
	cmd, err := req.Command(time.Now())
	if err != nil {
		a.fail(w, r, err)
		return
	}
	answer, err := a.rehearse(ctx, cmd)
	if err == nil && answer.GetRefusal() != nil {
		err = refusal(answer.GetRefusal())
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	out := outcomeOf(answer)
	out.DryRun = true
	send(w, http.StatusOK, out)
}

func (a *api) revokeCertificate(r *http.Request) (change, error) {
	return change{command: &clusterpb.Command{Change: &clusterpb.Command_RevokeCertificate{
		RevokeCertificate: &clusterpb.RevokeCertificate{Serial: r.PathValue("serial")},
	}}}, nil
}

// rotateCA begins to replace the CA; with `"finish": true` it asks that the old
// one be dropped as soon as no member needs it.
func (a *api) rotateCA(r *http.Request) (change, error) {
	var o struct {
		Finish bool `json:"finish"`
	}
	if err := decode(r, &o); err != nil {
		return change{}, err
	}
	if o.Finish {
		return change{command: &clusterpb.Command{Change: &clusterpb.Command_RetireCa{RetireCa: &clusterpb.RetireCA{}}}}, nil
	}
	return change{command: &clusterpb.Command{Change: &clusterpb.Command_RotateCa{RotateCa: &clusterpb.RotateCA{}}}}, nil
}

// renewCertificate gets this node a new certificate.
func (a *api) renewCertificate(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	dry, err := isDryRun(r)
	if err = errors.Join(err, decode(r, &struct{}{})); err != nil {
		a.fail(w, r, err)
		return
	}
	if a.node.Credentials() == nil {
		a.fail(w, r, cluster.ErrNoCluster)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.ChangeTimeout)
	defer cancel()
	if !dry {
		if err := a.node.RenewCertificate(ctx); err != nil {
			a.fail(w, r, &problem{
				code: http.StatusServiceUnavailable, Message: err.Error(),
				Next: "`muster cert show` tells which nodes have the CA's key",
			})
			return
		}
		c := callerOf(r)
		a.log.Info("certificate renewed on request", "actor", c.actor, "source", c.source)
	}
	send(w, http.StatusOK, struct {
		memberCertificate
		DryRun bool `json:"dry_run,omitempty"`
	}{ownCertificate(a.node.Credentials()), dry})
}

func ownCertificate(creds *pki.Credentials) memberCertificate {
	leaf := creds.Certificate.Leaf
	return memberCertificate{
		Node: creds.Identity.Name, Serial: pki.SerialText(leaf.SerialNumber), Expires: timeText(creds.Expires().UnixMilli()),
		RenewAt: timeText(creds.RenewAt().UnixMilli()), CA: creds.CA().Short(),
	}
}
