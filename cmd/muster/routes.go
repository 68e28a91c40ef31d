package main

import (
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/api/admin"
	"github.com/muster-metrics/muster/api/prom"
	"github.com/muster-metrics/muster/api/store"
)

// writeRoutes are the tenants': writes, and queries of what they wrote.
func (n *node) writeRoutes() http.Handler {
	mux := http.NewServeMux()
	write := n.tenancy.Write(n.ingest.ServeWrite)
	for _, path := range []string{"/api/v1/receive", "/api/v1/write", "/api/v1/push"} {
		mux.Handle("POST "+path, write)
	}
	export := n.tenancy.Write(n.ingest.ServeOTLP)
	for _, path := range []string{"/api/v1/otlp/v1/metrics", "/api/v1/otlp"} {
		mux.Handle("POST "+path, export)
	}
	ask := n.tenancy.Query(n.prom.ServeTenant)
	for _, path := range prom.Paths() {
		mux.Handle(path, ask)
	}
	return mux
}

// operatorRoutes are those of the operator's port and of the socket: who may
// have what is admin's to decide, by the way a request came and its token.
func (n *node) operatorRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.reg, promhttp.HandlerOpts{Registry: n.reg, EnableOpenMetrics: true}))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("healthy\n")) })
	mux.Handle("GET /-/ready", n.ready)
	mux.Handle("/api/v1/", admin.New(n.cluster, admin.Config{Name: n.cfg.Name, Log: n.log.With("room", "admin")}))
	for _, path := range prom.Paths() {
		mux.HandleFunc(path, n.query)
	}
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return admin.Authorize(n.cluster.State, admin.Straight(mux))
}

// query answers over all tenants, or as one of them sees it where ?tenant=
// names one.
func (n *node) query(w http.ResponseWriter, r *http.Request) {
	if t := r.FormValue("tenant"); t != "" {
		n.prom.ServeTenant(w, r, t)
		return
	}
	n.prom.AllTenants().ServeHTTP(w, r)
}

// newStoreDoor serves Thanos' StoreAPI, and takes what Thanos' routers forward: no
// more at once than in a body that was sent here directly.
func (n *node) newStoreDoor(opts []grpc.ServerOption) *grpc.Server {
	opts = append(opts, grpc.MaxRecvMsgSize(int(n.cfg.MaxDecodedBytes)), grpc.InTapHandle(n.ingest.TapWriteable))
	s := store.NewServer(append(store.Metered(n.reg), opts...)...)
	n.store.Register(s)
	n.ingest.RegisterWriteable(s, n.mayForward)
	return s
}
