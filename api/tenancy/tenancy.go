package tenancy

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// Config is what a node's flags say about tenants.
type Config struct {
	// TenantHeader is the trusted header. Default THANOS-TENANT; X-Scope-OrgID
	// is accepted as well.
	TenantHeader string
	// Refused, where it is set, is called for each write that is refused here, with
	// the status and what the sender was told.
	Refused func(code int, why string)
	Reg     prometheus.Registerer
}

// Tenancy resolves tenants by the committed state.
type Tenancy struct {
	state   func() *cluster.State
	header  string
	tell    func(code int, why string)
	refused *prometheus.CounterVec
}

// New returns a Tenancy that looks at state() once per request.
func New(state func() *cluster.State, cfg Config) *Tenancy {
	if cfg.TenantHeader == "" {
		cfg.TenantHeader = "THANOS-TENANT"
	}
	return &Tenancy{
		state: state, header: cfg.TenantHeader, tell: cfg.Refused,
		refused: promauto.With(cfg.Reg).NewCounterVec(prometheus.CounterOpts{
			Name: "muster_tenancy_refused_total",
			Help: "Requests on the write door refused for their credentials or their tenant.",
		}, []string{"kind", "code"}),
	}
}

// Handler is what is asked in the name of a tenant.
type Handler func(w http.ResponseWriter, r *http.Request, tenant string)

// Write guards a handler that stores samples: a suspended tenant is refused.
// Where auto_create_tenants is on, next may be called with a tenant that does
// not exist yet. Refusals are text.
func (t *Tenancy) Write(next func(w http.ResponseWriter, r *http.Request, tenant string)) http.Handler {
	return t.guard("write", true, writeText, next)
}

// Query guards a handler that reads: a suspended tenant is answered, and an
// unknown one is passed on, for it has no data. Refusals are in the form of
// Prometheus' query API.
func (t *Tenancy) Query(next func(w http.ResponseWriter, r *http.Request, tenant string)) http.Handler {
	return t.guard("query", false, writeJSON, next)
}

func (t *Tenancy) guard(kind string, write bool, tell func(http.ResponseWriter, *refusal), next Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tenant, no := t.resolve(r, write)
		if no != nil {
			t.refused.WithLabelValues(kind, strconv.Itoa(no.code)).Inc()
			if write && t.tell != nil {
				t.tell(no.code, no.message)
			}
			tell(w, no)
			return
		}
		next(w, r, tenant)
	})
}

// resolve says whose request it is, or why it is refused.
func (t *Tenancy) resolve(r *http.Request, write bool) (string, *refusal) {
	st := t.state()
	if st == nil || st.Cluster() == nil {
		return "", refuse(http.StatusServiceUnavailable, "this node belongs to no cluster yet")
	}
	settings := st.Settings()
	var tenant string
	var no *refusal
	switch settings.GetTenantAuth() {
	case clusterpb.TenantAuth_AUTH_TOKEN:
		tenant, no = t.byToken(st, r, time.Now())
	case clusterpb.TenantAuth_AUTH_HEADER:
		tenant, no = t.byHeader(r, settings.GetDefaultTenant())
	case clusterpb.TenantAuth_AUTH_CERTIFICATE:
		tenant, no = t.byCertificate(r, settings.GetTenantCertificateField())
	default:
		no = refuse(http.StatusServiceUnavailable, "tenant_auth %s is not known to this version", settings.GetTenantAuth())
	}
	if no != nil {
		return "", no
	}
	if !cluster.ValidTenantID(tenant) {
		return "", badName(tenant)
	}
	return tenant, admit(st, tenant, write)
}

// Admit says why a write for a tenant that some request names, and no credential,
// would be refused; nil: it would not.
func Admit(st *cluster.State, id string) error {
	if !cluster.ValidTenantID(id) {
		return badName(id)
	}
	if no := admit(st, id, true); no != nil {
		return no
	}
	return nil
}

func badName(id string) *refusal {
	return refuse(http.StatusBadRequest, "tenant %s: want letters, digits and ._:@=+-, at most 128, beginning with a letter or a digit", quote(id))
}

// admit asks whether the state lets the tenant in.
func admit(st *cluster.State, id string, write bool) *refusal {
	known := st.Tenant(id)
	switch {
	case known != nil && write && known.GetState() == clusterpb.TenantState_TENANT_SUSPENDED:
		return refuse(http.StatusForbidden, "tenant %s is suspended: its data can be queried, nothing is written", id)
	case known != nil:
		return nil
	case st.Tombstone(id) != nil:
		return refuse(http.StatusForbidden, "tenant %s was deleted", id)
	case write && !st.Settings().GetAutoCreateTenants():
		return refuse(http.StatusForbidden, "tenant %s does not exist, and tenants are not created by their first write here", id)
	default:
		return nil
	}
}
