package ingest

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// A write is followed from the request, which may carry a sender's trace, over
// the shares to the storages of all replicas:
//
//	receive ─┬─ share n1 ── store        (this node)
//	         ├─ share n2 ──⇒ store       (n2 tells it of its own)
//	         └─ share n3 ──⇒ store
//
// Without a tracer nothing of this happens, and nothing is allocated for it.

// w3c is how a trace travels, in the headers of a request and in a share.
var w3c propagation.TraceContext

// parentHeader is where W3C's trace context says whose part a request is.
const parentHeader = "traceparent"

// traced begins the trace of a request, or goes on with that of its sender; end
// is called with what was answered.
func (i *Ingester) traced(r *http.Request, tenant string) (_ *http.Request, end func(status int, a account, says string)) {
	if i.cfg.Tracer == nil {
		return r, func(int, account, string) {}
	}
	ctx := w3c.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := i.cfg.Tracer.Start(ctx, "receive", trace.WithSpanKind(trace.SpanKindServer))
	return r.WithContext(ctx), func(status int, a account, says string) {
		if span.IsRecording() {
			if a.known {
				span.SetAttributes(attribute.String("tenant", tenant))
			}
			span.SetAttributes(attribute.Int("http.response.status_code", status), attribute.Int("bytes", a.bytes),
				attribute.Int("series", a.series), attribute.Int("samples", a.samples))
			if status >= http.StatusBadRequest {
				span.SetStatus(codes.Error, says)
			}
		}
		span.End()
	}
}

// tracedShare begins the part of a trace that is one share's: m tells its replica.
func (i *Ingester) tracedShare(ctx context.Context, who string, m *peerpb.Share) (_ context.Context, end func(*peerpb.ShareResult, error)) {
	if i.cfg.Tracer == nil || !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, nil
	}
	ctx, span := i.cfg.Tracer.Start(ctx, "share "+who, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("node", who), attribute.Int("series", int(m.Series)), attribute.Int("samples", int(m.Samples)),
		attribute.Bool("repeat", m.Repeat)))
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	m.Traceparent = carrier[parentHeader]
	return ctx, func(res *peerpb.ShareResult, err error) {
		finish(span, res, err)
	}
}

// tracedStore begins the part of a trace that is the storing of a share, here.
func (i *Ingester) tracedStore(ctx context.Context, s *peerpb.Share) (_ context.Context, end func(*peerpb.ShareResult)) {
	if i.cfg.Tracer == nil || s.Traceparent == "" {
		return ctx, nil
	}
	ctx = w3c.Extract(ctx, propagation.MapCarrier{parentHeader: s.Traceparent})
	ctx, span := i.cfg.Tracer.Start(ctx, "store", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("tenant", s.Tenant), attribute.Int("samples", int(s.Samples))))
	return ctx, func(res *peerpb.ShareResult) { finish(span, res, nil) }
}

// finish ends the span of a share by what became of it.
func finish(span trace.Span, res *peerpb.ShareResult, err error) {
	defer span.End()
	if !span.IsRecording() {
		return
	}
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		return
	}
	span.SetAttributes(attribute.String("outcome", res.Status.String()), attribute.Int("not_stored", len(res.Outcomes)))
	if res.Status != peerpb.Status_DONE {
		span.SetStatus(codes.Error, res.Detail)
	}
}
