package admin

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// Node is what the admin API needs of a cluster.Node.
type Node interface {
	State() *cluster.State
	// Barrier returns when State has every change that was answered before.
	Barrier(ctx context.Context) (uint64, error)
	Propose(ctx context.Context, cmd *clusterpb.Command) (*clusterpb.ProposeResponse, error)
	Health() []*clusterpb.Health
	// Roster compares Raft's servers with the members.
	Roster() cluster.Roster
	Leader() (string, bool)
	Init(ctx context.Context, r cluster.InitRequest) (*cluster.InitResult, error)
	Join(ctx context.Context, r cluster.JoinRequest) error
	// CheckInit and CheckJoin are their dry runs.
	CheckInit(r cluster.InitRequest) (*cluster.InitResult, error)
	CheckJoin(ctx context.Context, r cluster.JoinRequest) error
	// Rehearse says what Propose would answer, and changes nothing.
	Rehearse(ctx context.Context, cmd *clusterpb.Command) (*clusterpb.ProposeResponse, error)
	// HandLeadership has the leader hand over, and says to whom.
	HandLeadership(ctx context.Context, to string, dry bool) (string, error)
	WriteSnapshot(ctx context.Context, w io.Writer, local bool) (cluster.ArchiveHeader, error)
	// Credentials are what the node shows; nil without a cluster.
	Credentials() *pki.Credentials
	RenewCertificate(ctx context.Context) error
	IssueCertificate(ctx context.Context, r cluster.IssueRequest) (*cluster.Issue, error)
	// AwaitedForCA are the members without a certificate of the newest CA.
	AwaitedForCA() []string
	Restore(ctx context.Context, r cluster.RestoreRequest) (*cluster.RestoreResult, error)
	RecoveryPlan(ctx context.Context) (*cluster.RecoveryPlan, error)
	Recover(ctx context.Context, r cluster.RecoverRequest) (*cluster.RecoverResult, error)
}

// Config is what the API is told by the node it runs on.
type Config struct {
	// Name is this node's.
	Name string
	// ReadTimeout bounds the wait for a linearizable read point. Default 5s.
	ReadTimeout time.Duration
	// ChangeTimeout bounds a change, the wait for a leader included. Default 20s.
	ChangeTimeout time.Duration
	// JoinTimeout bounds how long a join waits until the node is active. Default 5m.
	JoinTimeout time.Duration
	Log         *slog.Logger
}

type api struct {
	node Node
	cfg  Config
	log  *slog.Logger
	mux  *http.ServeMux
	// key is this process' own, for secrets that a repeated request shall show
	// once more.
	key []byte
	// checked is what verifications share.
	checked sharedCheck
}

// New returns the admin API's handler, with routes under /api/v1. It checks no
// credential: Authorize does, before it.
func New(node Node, cfg Config) http.Handler {
	a := &api{node: node, cfg: cfg, log: cfg.Log, mux: http.NewServeMux(), key: make([]byte, 32), checked: sharedCheck{turn: make(chan struct{}, 1)}}
	_, _ = rand.Read(a.key) // never fails
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&a.cfg.ReadTimeout, 5 * time.Second},
		{&a.cfg.ChangeTimeout, 20 * time.Second},
		{&a.cfg.JoinTimeout, 5 * time.Minute},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	for pattern, h := range a.routes() {
		a.mux.Handle(pattern, h)
	}
	return a
}

// ServeHTTP answers with JSON also where there is no such route.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, pattern := a.mux.Handler(r)
	if pattern == "" {
		a.strayed(w, r, h)
		return
	}
	if err := checkParameters(pattern, r); err != nil {
		a.fail(w, r, err)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// strayed tells a wrong path from a wrong method, as the mux does.
func (a *api) strayed(w http.ResponseWriter, r *http.Request, mux http.Handler) {
	var said verdict
	mux.ServeHTTP(&said, r)
	if said.code == http.StatusMethodNotAllowed {
		allow := said.Header().Get("Allow")
		w.Header().Set("Allow", allow)
		a.fail(w, r, &problem{code: said.code, Message: fmt.Sprintf("%s has no %s, but %s", r.URL.Path, r.Method, allow)})
		return
	}
	p := notFound("this version has nothing at %s", cut(r.URL.Path))
	p.Next = "GET /api/v1/openapi.json lists what there is"
	a.fail(w, r, p)
}

// verdict keeps the status and headers of an answer.
type verdict struct {
	header http.Header
	code   int
}

func (v *verdict) Header() http.Header {
	if v.header == nil {
		v.header = http.Header{}
	}
	return v.header
}
func (v *verdict) WriteHeader(code int)        { v.code = code }
func (v *verdict) Write(b []byte) (int, error) { return len(b), nil }

// routes is the whole API.
func (a *api) routes() map[string]http.Handler {
	return map[string]http.Handler{
		"GET /api/v1/cluster/status":                  http.HandlerFunc(a.status),
		"GET /api/v1/cluster/members":                 a.read(a.members),
		"GET /api/v1/cluster/members/{name}":          a.read(a.member),
		"PUT /api/v1/cluster/members/{name}":          a.change(a.putMember),
		"DELETE /api/v1/cluster/members/{name}":       a.change(a.removeMember),
		"POST /api/v1/cluster/members/{name}/drain":   a.change(a.drainMember),
		"POST /api/v1/cluster/members/{name}/undrain": a.change(a.undrainMember),
		"GET /api/v1/cluster/events":                  a.read(a.events),
		"GET /api/v1/cluster/verify":                  http.HandlerFunc(a.verify),
		"POST /api/v1/cluster/init":                   http.HandlerFunc(a.init),
		"POST /api/v1/cluster/join":                   http.HandlerFunc(a.join),
		"POST /api/v1/cluster/leader":                 http.HandlerFunc(a.transfer),
		"POST /api/v1/cluster/recover":                http.HandlerFunc(a.recover),
		"GET /api/v1/openapi.json":                    http.HandlerFunc(a.openAPIDocument),

		"GET /api/v1/tenants":                      a.read(a.tenants),
		"GET /api/v1/tenants/{id}":                 a.read(a.tenant),
		"PUT /api/v1/tenants/{id}":                 a.change(a.putTenant),
		"DELETE /api/v1/tenants/{id}":              a.change(a.deleteTenant),
		"GET /api/v1/tenants/{id}/tokens":          a.read(a.tenantTokens),
		"POST /api/v1/tenants/{id}/tokens":         a.change(a.createTenantToken),
		"DELETE /api/v1/tenants/{id}/tokens/{tid}": a.change(a.revokeTenantToken),
		"GET /api/v1/tenants/{id}/ring":            a.read(a.tenantRing),
		"PUT /api/v1/tenants/{id}/ring":            a.change(a.putTenantRing),
		"GET /api/v1/rings":                        a.read(a.rings),
		"POST /api/v1/rings":                       a.change(a.putRings),
		"GET /api/v1/rings/{name}":                 a.read(a.ring),
		"PUT /api/v1/rings/{name}":                 a.change(a.putRing),
		"DELETE /api/v1/rings/{name}":              a.change(a.deleteRing),
		"GET /api/v1/rings/{name}/slots":           a.read(a.slots),
		"POST /api/v1/rings/{name}/plan":           http.HandlerFunc(a.plan),
		"POST /api/v1/rings/{name}/rebalance":      http.HandlerFunc(a.rebalance),
		"GET /api/v1/settings":                     a.read(a.settings),
		"PUT /api/v1/settings":                     a.change(a.putSettings),
		"GET /api/v1/tokens":                       a.read(a.tokens),
		"POST /api/v1/tokens":                      a.change(a.createToken),
		"DELETE /api/v1/tokens/{id}":               a.change(a.revokeToken),
		"GET /api/v1/certificates":                 a.read(a.certificates),
		"POST /api/v1/certificates":                http.HandlerFunc(a.issueCertificate),
		"DELETE /api/v1/certificates/{serial}":     a.change(a.revokeCertificate),
		"POST /api/v1/certificates/renew":          http.HandlerFunc(a.renewCertificate),
		"POST /api/v1/certificates/rotate":         a.change(a.rotateCA),
		"GET /api/v1/snapshot":                     http.HandlerFunc(a.getSnapshot),
		"POST /api/v1/snapshot":                    http.HandlerFunc(a.postSnapshot),
	}
}
