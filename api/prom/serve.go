package prom

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/promql"
)

// maxForm bounds the body of a POST; a long query has kilobytes.
const maxForm = 4 << 20

func (a *API) serve(w http.ResponseWriter, r *http.Request, s scope) {
	if r.URL.Path == "/api/v1/status/buildinfo" {
		a.buildInfo(w, r)
		return
	}
	e, ok := endpointOf(r.URL.Path)
	if !ok {
		a.refuse(w, "unknown", fault{http.StatusNotFound, "not_found", errors.New("page not found")})
		return
	}
	if !allowed(w, r, e.post) {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		a.refuse(w, e.name, bad("form", err))
		return
	}
	partial, err := boolParam(r, "partial_response")
	if err != nil {
		a.refuse(w, e.name, err)
		return
	}
	ctx, cancel, err := a.deadline(r)
	if err != nil {
		a.refuse(w, e.name, err)
		return
	}
	defer cancel()
	began := time.Now()
	defer func() { a.metrics.seconds.WithLabelValues(e.name).Observe(time.Since(began).Seconds()) }()

	out, v, err := a.run(ctx, s, e.handler, r)
	if err != nil {
		a.refuse(w, e.name, err)
		return
	}
	defer out.close()
	if len(v.lacks) > 0 {
		a.metrics.incomplete.Inc()
		text := incomplete(v.state, v.lacks)
		if !partial {
			a.refuse(w, e.name, fault{http.StatusServiceUnavailable, "unavailable", errors.New(text)})
			return
		}
		out.warnings = append(out.warnings, text)
	} else {
		w.Header().Set("Muster-Complete", "true")
	}
	a.reply(w, e.name, out)
}

// run computes the answer and judges it. Where the cluster has changed in
// between, so that other members hold a part of it, it does so once more.
func (a *API) run(ctx context.Context, s scope, h handler, r *http.Request) (*answer, verdict, error) {
	select {
	case a.gate <- struct{}{}:
		defer func() { <-a.gate }()
	case <-ctx.Done():
		return nil, verdict{}, fmt.Errorf("wait for a place among the running queries: %w", context.Cause(ctx))
	}
	for again := false; ; again = true {
		out, v, err := a.once(ctx, s, h, r)
		if err != nil || !v.stale || again {
			return out, v, err
		}
		out.close()
	}
}

// once computes the answer, and asks beside it which revision to judge it at.
func (a *API) once(ctx context.Context, s scope, h handler, r *http.Request) (*answer, verdict, error) {
	asking, leave := context.WithCancel(ctx)
	defer leave()
	read := a.point.start(asking)
	q := a.newQuery(s)
	out, err := h(a, ctx, q, r)
	if err != nil {
		leave()
		<-read
		return nil, verdict{}, err
	}
	a.age(q, out)
	return out, q.judge(ctx, <-read), nil
}

// deadline is the request's context with the shorter of the API's timeout and
// the caller's.
func (a *API) deadline(r *http.Request) (context.Context, context.CancelFunc, error) {
	limit := a.cfg.Timeout
	if v := r.FormValue("timeout"); v != "" {
		d, err := parseDuration(v)
		if err != nil {
			return nil, nil, bad("timeout", err)
		}
		limit = min(limit, d)
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), limit, promql.ErrQueryTimeout("query"))
	return ctx, cancel, nil
}

// allowed answers 405 to other methods than GET and, where it may be, POST.
func allowed(w http.ResponseWriter, r *http.Request, post bool) bool {
	if r.Method == http.MethodGet || post && r.Method == http.MethodPost {
		return true
	}
	w.Header().Set("Allow", http.MethodGet)
	if post {
		w.Header().Add("Allow", http.MethodPost)
	}
	http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	return false
}

// buildInfo is what Grafana decides by which API it speaks to. It fills in
// Prometheus' fields and no others.
func (a *API) buildInfo(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, false) {
		return
	}
	a.reply(w, "buildinfo", &answer{data: map[string]string{
		"version": a.cfg.Version, "revision": "", "branch": "", "buildUser": "", "buildDate": "",
		"goVersion": runtime.Version(),
	}})
}

func boolParam(r *http.Request, name string) (bool, error) {
	v := r.FormValue(name)
	if v == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, bad(name, err)
	}
	return b, nil
}
