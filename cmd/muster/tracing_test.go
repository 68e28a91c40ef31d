package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// collector takes traces, as an OpenTelemetry collector does.
type collector struct {
	coltracepb.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []collected
	auth  []string
}

type collected struct {
	node string
	*tracepb.Span
}

func (c *collector) take(req *coltracepb.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range req.ResourceSpans {
		node := ""
		for _, a := range rs.Resource.Attributes {
			if a.Key == "service.instance.id" {
				node = a.Value.GetStringValue()
			}
		}
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				c.spans = append(c.spans, collected{node, s})
			}
		}
	}
}

func (c *collector) Export(_ context.Context, req *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	c.take(req)
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		in = z
	}
	raw, err := io.ReadAll(in)
	var req coltracepb.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(raw, &req)
	}
	if err != nil || r.URL.Path != "/custom/traces" {
		http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	c.auth = append(c.auth, r.Header.Get("Authorization"))
	c.mu.Unlock()
	c.take(&req)
}

// chain is nil when a request of the parent has a share for each node that is
// stored there.
func (c *collector) chain(trace, parent string) error {
	spans := c.of(trace)
	for _, receive := range spans["n1 receive"] {
		if fmt.Sprintf("%x", receive.ParentSpanId) != parent {
			return fmt.Errorf("a request has the parent %x", receive.ParentSpanId)
		}
		stored := 0
		for _, node := range []string{"n1", "n2", "n3"} {
			for _, share := range spans["n1 share "+node] {
				for _, store := range spans[node+" store"] {
					if bytes.Equal(share.ParentSpanId, receive.SpanId) && bytes.Equal(store.ParentSpanId, share.SpanId) {
						stored++
					}
				}
			}
		}
		if stored == 3 {
			return nil
		}
	}
	return fmt.Errorf("there are %v", slices.Collect(maps.Keys(spans)))
}

// of are the spans of a trace, by the node that told and their name.
func (c *collector) of(trace string) map[string][]collected {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string][]collected{}
	for _, s := range c.spans {
		if fmt.Sprintf("%x", s.TraceId) == trace {
			key := s.node + " " + s.Name
			out[key] = append(out[key], s)
		}
	}
	return out
}

// traced makes all nodes of a bed send their traces to the collector.
func traced(t *testing.T, conf string) func(*nodeConfig) {
	c, err := parseTracing([]byte(conf))
	require.NoError(t, err)
	return func(cfg *nodeConfig) { cfg.Tracing = c }
}

// TestATraceGoesOverTheHop sends a write as part of its sender's trace and finds
// the whole way at a collector: the request, each share, and each replica's storing.
func TestATraceGoesOverTheHop(t *testing.T) {
	t.Parallel()
	c := &collector{}
	server := httptest.NewServer(c)
	defer server.Close()
	b := newBed(t, 3, 3, traced(t, fmt.Sprintf(
		"{type: OTLP, config: {client_type: http, endpoint: %q, insecure: true, url_path: /custom/traces, compression: gzip, headers: {Authorization: 'Bearer x'}, sampler_type: parentbasedneversample}}",
		server.Listener.Addr().String())))
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	raw := snappy.Encode(nil, body(batch("m", 10, time.Now().UnixMilli())...))
	b.write(0, "a", batch("untraced", 10, time.Now().UnixMilli())...)
	b.eventually("a write is acknowledged", func() error {
		if status, text := b.post(0, "a", raw, "traceparent", "00-"+trace+"-"+parent+"-01"); status != 204 {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
	b.eventually("the whole way is told", func() error {
		for _, r := range b.nodes {
			_ = r.node.tracing.provider.ForceFlush(context.Background())
		}
		return c.chain(trace, parent)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		require.Equal(t, trace, fmt.Sprintf("%x", s.TraceId), "a write is traced that nobody asked for: %s", s.Name)
	}
	require.Contains(t, c.auth, "Bearer x")
}

// TestACollectorThatIsAwayCostsNoWrite, and one that speaks gRPC gets its traces.
func TestACollectorThatIsAwayCostsNoWrite(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	conf := fmt.Sprintf("{type: otlp, config: {client_type: grpc, endpoint: %q, insecure: true, timeout: 1s, service_name: metrics}}", address)
	b := newBed(t, 1, 1, traced(t, conf))
	b.write(0, "a", batch("m", 10, time.Now().UnixMilli())...)
	c := &collector{}
	server := grpc.NewServer(grpc.WaitForHandlers(true))
	coltracepb.RegisterTraceServiceServer(server, c)
	b.eventually("the collector is there again", func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	n := int64(0)
	b.eventually("traces arrive", func() error {
		n++
		b.write(0, "a", batch("m", 10, time.Now().UnixMilli()+n)...)
		_ = b.nodes[0].node.tracing.provider.ForceFlush(context.Background())
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.spans) == 0 {
			return fmt.Errorf("none of %d writes", n)
		}
		return nil
	})
	b.stop(0)
	server.Stop()
	require.NoError(t, <-done)
}

func TestTracingConfigurations(t *testing.T) {
	none, err := parseTracing([]byte(" \n"))
	require.NoError(t, err)
	require.Nil(t, none)
	require.Nil(t, (*tracing)(nil).tracer())
	good := "type: OTLP\nconfig:\n  client_type: grpc\n  endpoint: h:4317\n"
	for _, more := range []string{
		"", "  sampler_type: traceidratiobased\n  sampler_param: '0.1'\n", "  sampler_type: ParentBasedAlwaysSample\n",
		"  retry_config: {retry_enabled: true, retry_initial_interval: 1s}\n  reconnection_period: 5s\n",
		"  tls_config: {insecure_skip_verify: true}\n", "  resource_attributes: {zone: a}\n", "  compression: none\n",
	} {
		_, err := parseTracing([]byte(good + more))
		require.NoError(t, err, more)
	}
	for conf, says := range map[string]string{
		"type: JAEGER": "want OTLP",
		"type: OTLP\nconfig: {client_type: grpc}":    "HOST:PORT",
		good + "  compression: zstd\n":               "gzip or none",
		good + "  sampler_type: sometimes\n":         "alwayssample",
		good + "  sampler_type: traceidratiobased\n": "from 0 to 1",
		good + "  colour: red\n":                     "colour",
		good + "  tls_config: {ca_file: /nosuch}\n":  "tls_config",
	} {
		_, err := parseTracing([]byte(conf))
		require.ErrorContains(t, err, says, conf)
	}
}
