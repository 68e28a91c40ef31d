package prom

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/muster-metrics/muster/cluster"
)

// Config of an API. Self, State, Local and Dial are required.
type Config struct {
	// Self is this node's name, and Local its own store.
	Self  string
	Local *Reader
	// State is the control state as it is now; never nil.
	State func() *cluster.State
	// Dial reaches the other members' Read service.
	Dial Dial
	// ReadPoint names a revision at or above everything that was committed
	// before the call, once this node has applied it. Where it fails no answer
	// calls itself complete. Nil: State is all there is.
	ReadPoint func(ctx context.Context) (uint64, error)

	// MemberTimeout is how long a member may say nothing. Default 10s.
	MemberTimeout time.Duration
	// Timeout is the longest that a query may take. Default 2m.
	Timeout time.Duration
	// MaxSamples is how many samples a query may hold at once. Default 50M.
	MaxSamples int
	// MaxBytes is how much a query may read from the stores. Default 1 GiB.
	MaxBytes int64
	// Concurrency is how many queries run at once; others wait. Default 20.
	Concurrency int
	// Lookback is how old a sample may be for an instant to show it. Default 5m.
	Lookback time.Duration
	// Version is what buildinfo says.
	Version string
	// Now is the clock. Default time.Now.
	Now func() time.Time
	Log *slog.Logger
	Reg prometheus.Registerer
}

func (c Config) withDefaults() Config {
	positive(&c.MemberTimeout, 10*time.Second)
	positive(&c.Timeout, 2*time.Minute)
	positive(&c.MaxSamples, 50_000_000)
	positive(&c.MaxBytes, 1<<30)
	positive(&c.Concurrency, 20)
	positive(&c.Lookback, 5*time.Minute)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func positive[T ~int | ~int64](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

// API answers Prometheus' query API, for one tenant or for all.
type API struct {
	cfg     Config
	log     *slog.Logger
	members *members
	parser  parser.Parser
	engine  promql.QueryEngine
	gate    chan struct{}
	metrics *metrics
	point   readPoint
}

// New makes the API.
func New(cfg Config) *API {
	cfg = cfg.withDefaults()
	p := parser.NewParser(parser.Options{})
	return &API{
		cfg: cfg,
		log: cfg.Log,
		members: &members{
			self: cfg.Self, local: cfg.Local, dial: cfg.Dial, timeout: cfg.MemberTimeout, now: cfg.Now,
		},
		parser: p,
		engine: promql.NewEngine(promql.EngineOpts{
			Logger: cfg.Log, Reg: cfg.Reg, MaxSamples: cfg.MaxSamples, Timeout: cfg.Timeout,
			LookbackDelta: cfg.Lookback, EnableAtModifier: true, EnableNegativeOffset: true, Parser: p,
			NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
		}),
		gate:    make(chan struct{}, cfg.Concurrency),
		metrics: newMetrics(cfg.Reg),
		point:   readPoint{ask: cfg.ReadPoint, now: cfg.Now},
	}
}

// Paths are the patterns to mount the handlers at, as http.ServeMux reads them.
func Paths() []string {
	return []string{
		"/api/v1/query", "/api/v1/query_range", "/api/v1/series", "/api/v1/labels",
		"/api/v1/label/{name}/values", "/api/v1/status/buildinfo", "/api/v1/query_exemplars", "/api/v1/metadata",
	}
}

// Tenant answers for one tenant: its series as it wrote them.
func (a *API) Tenant(tenant string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.ServeTenant(w, r, tenant) })
}

// ServeTenant answers one request of a tenant. A tenant that the cluster does
// not know has no series.
func (a *API) ServeTenant(w http.ResponseWriter, r *http.Request, tenant string) {
	a.serve(w, r, scope{tenant: tenant})
}

// AllTenants answers for the operator: every tenant's series, each with the
// tenant label, which wins over a label of that name in the series.
func (a *API) AllTenants() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, scope{all: true}) })
}

// handler computes an answer from the members' stores.
type handler func(a *API, ctx context.Context, q *query, r *http.Request) (*answer, error)

// endpoint is a path's handler and whether it may be asked by POST.
type endpoint struct {
	name string
	post bool
	handler
}

var endpoints = map[string]endpoint{
	"query":           {"query", true, (*API).instant},
	"query_range":     {"query_range", true, (*API).rangeQuery},
	"query_exemplars": {"query_exemplars", true, (*API).exemplars},
	"series":          {"series", true, (*API).series},
	"labels":          {"labels", true, (*API).labelNames},
	"metadata":        {"metadata", false, (*API).metadata},
}

// endpointOf finds the path's endpoint; ok is false where there is none.
func endpointOf(path string) (e endpoint, ok bool) {
	path, ok = strings.CutPrefix(path, "/api/v1/")
	if !ok {
		return endpoint{}, false
	}
	if e, ok := endpoints[path]; ok {
		return e, true
	}
	name, ok := strings.CutPrefix(path, "label/")
	if !ok {
		return endpoint{}, false
	}
	name, ok = strings.CutSuffix(name, "/values")
	if !ok || strings.Contains(name, "/") {
		return endpoint{}, false
	}
	return endpoint{"label_values", false, labelValues(name)}, true
}
