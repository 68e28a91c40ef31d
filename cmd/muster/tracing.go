package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	promconfig "github.com/prometheus/common/config"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.yaml.in/yaml/v2"
	"google.golang.org/grpc/credentials"
)

// tracingConfig says where traces go: Thanos' form, of type OTLP.
type tracingConfig struct {
	Type   string     `yaml:"type"`
	Config otlpConfig `yaml:"config"`
}

type otlpConfig struct {
	ClientType  string            `yaml:"client_type"` // grpc or http
	Endpoint    string            `yaml:"endpoint"`    // HOST:PORT
	URLPath     string            `yaml:"url_path"`    // http; default /v1/traces
	Insecure    bool              `yaml:"insecure"`    // without TLS
	Compression string            `yaml:"compression"` // gzip or none
	Timeout     time.Duration     `yaml:"timeout"`     // of one export; default 10s
	Headers     map[string]string `yaml:"headers"`
	// ReconnectionPeriod is grpc's, between two attempts to connect.
	ReconnectionPeriod time.Duration        `yaml:"reconnection_period"`
	Retry              retryConfig          `yaml:"retry_config"`
	TLS                promconfig.TLSConfig `yaml:"tls_config"`
	ServiceName        string               `yaml:"service_name"` // default muster
	ResourceAttributes map[string]string    `yaml:"resource_attributes"`
	SamplerType        string               `yaml:"sampler_type"`
	SamplerParam       string               `yaml:"sampler_param"`
}

type retryConfig struct {
	Enabled         bool          `yaml:"retry_enabled"`
	InitialInterval time.Duration `yaml:"retry_initial_interval"`
	MaxInterval     time.Duration `yaml:"retry_max_interval"`
	MaxElapsedTime  time.Duration `yaml:"retry_max_elapsed_time"`
}

// tracing exports the traces of this node. A nil one does nothing.
type tracing struct{ provider *sdktrace.TracerProvider }

// parseTracing reads a configuration; nil where there is none.
func parseTracing(conf []byte) (*tracingConfig, error) {
	if len(strings.TrimSpace(string(conf))) == 0 {
		return nil, nil
	}
	var c tracingConfig
	if err := yaml.UnmarshalStrict(conf, &c); err != nil {
		return nil, errors.New(strings.Join(strings.Fields(err.Error()), " ")) // one line
	}
	if !strings.EqualFold(c.Type, "OTLP") {
		return nil, fmt.Errorf("type %q: want OTLP", c.Type)
	}
	switch {
	case c.Config.ClientType != "grpc" && c.Config.ClientType != "http":
		return nil, fmt.Errorf("client_type %q: want grpc or http", c.Config.ClientType)
	case c.Config.Endpoint == "":
		return nil, errors.New("endpoint: want HOST:PORT")
	case c.Config.Compression != "" && c.Config.Compression != "none" && c.Config.Compression != "gzip":
		return nil, fmt.Errorf("compression %q: want gzip or none", c.Config.Compression)
	}
	if _, err := c.Config.sampler(); err != nil {
		return nil, err
	}
	if _, err := promconfig.NewTLSConfig(&c.Config.TLS); err != nil {
		return nil, fmt.Errorf("tls_config: %w", err)
	}
	return &c, nil
}

// newTracing begins to export to where c says. Nothing is reached for yet: a
// collector that is away costs traces, not writes.
func newTracing(c *tracingConfig, node, version string, log *slog.Logger) (*tracing, error) {
	if c == nil {
		return nil, nil
	}
	client, err := c.Config.client()
	if err != nil {
		return nil, err
	}
	sampler, err := c.Config.sampler()
	if err != nil {
		return nil, err
	}
	exporter := otlptrace.NewUnstarted(client)
	if err := exporter.Start(context.Background()); err != nil {
		return nil, fmt.Errorf("start to export traces: %w", err)
	}
	complain(log)
	return &tracing{sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), sdktrace.WithSampler(sampler), sdktrace.WithResource(c.Config.resource(node, version)),
	)}, nil
}

// complain logs what the exporters cannot do, a line a minute at most.
func complain(log *slog.Logger) {
	var last atomic.Int64
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		now, told := time.Now().Unix(), last.Load()
		if now-told >= 60 && last.CompareAndSwap(told, now) {
			log.Warn("traces are lost", "err", err)
		}
	}))
}

// tracer gives the rooms what they follow writes with; nil: they do not.
func (t *tracing) tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer("github.com/muster-metrics/muster")
}

// close sends what is left, for as long as a collector may take that is there.
func (t *tracing) close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // the traces are lost, and the handler has said so
}

// resource is who the traces are of.
func (c otlpConfig) resource(node, version string) *resource.Resource {
	name := c.ServiceName
	if name == "" {
		name = "muster"
	}
	all := []attribute.KeyValue{
		attribute.String("service.name", name), attribute.String("service.instance.id", node), attribute.String("service.version", version),
	}
	for k, v := range c.ResourceAttributes {
		all = append(all, attribute.String(k, v))
	}
	return resource.NewSchemaless(all...)
}

// sampler is which writes are followed. The default is Thanos': all of them,
// unless the sender has decided.
func (c otlpConfig) sampler() (sdktrace.Sampler, error) {
	kind, parent := strings.CutPrefix(strings.ToLower(c.SamplerType), "parentbased")
	var s sdktrace.Sampler
	switch kind {
	case "alwayssample":
		s = sdktrace.AlwaysSample()
	case "neversample":
		s = sdktrace.NeverSample()
	case "traceidratiobased":
		part, err := strconv.ParseFloat(c.SamplerParam, 64)
		if err != nil || part < 0 || part > 1 {
			return nil, fmt.Errorf("sampler_param %q: want a number from 0 to 1", c.SamplerParam)
		}
		s = sdktrace.TraceIDRatioBased(part)
	case "":
		s, parent = sdktrace.AlwaysSample(), true
	default:
		return nil, fmt.Errorf("sampler_type %q: want alwayssample, neversample or traceidratiobased, or one of them behind parentbased", c.SamplerType)
	}
	if parent {
		s = sdktrace.ParentBased(s)
	}
	return s, nil
}

func (c otlpConfig) client() (otlptrace.Client, error) {
	tls, err := promconfig.NewTLSConfig(&c.TLS)
	if err != nil {
		return nil, fmt.Errorf("tls_config: %w", err)
	}
	if c.ClientType == "grpc" {
		opts := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(c.Endpoint), otlptracegrpc.WithHeaders(c.Headers)}
		if c.Insecure {
			opts = append(opts, otlptracegrpc.WithInsecure())
		} else {
			opts = append(opts, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(tls)))
		}
		if c.Compression == "gzip" {
			opts = append(opts, otlptracegrpc.WithCompressor("gzip"))
		}
		if c.Timeout > 0 {
			opts = append(opts, otlptracegrpc.WithTimeout(c.Timeout))
		}
		if c.ReconnectionPeriod > 0 {
			opts = append(opts, otlptracegrpc.WithReconnectionPeriod(c.ReconnectionPeriod))
		}
		if c.Retry.Enabled {
			opts = append(opts, otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig(c.Retry)))
		}
		return otlptracegrpc.NewClient(opts...), nil
	}
	opts := []otlptracehttp.Option{otlptracehttp.WithEndpoint(c.Endpoint), otlptracehttp.WithHeaders(c.Headers)}
	if c.Insecure {
		opts = append(opts, otlptracehttp.WithInsecure())
	} else {
		opts = append(opts, otlptracehttp.WithTLSClientConfig(tls))
	}
	if c.URLPath != "" {
		opts = append(opts, otlptracehttp.WithURLPath(c.URLPath))
	}
	if c.Compression == "gzip" {
		opts = append(opts, otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	}
	if c.Timeout > 0 {
		opts = append(opts, otlptracehttp.WithTimeout(c.Timeout))
	}
	if c.Retry.Enabled {
		opts = append(opts, otlptracehttp.WithRetry(otlptracehttp.RetryConfig(c.Retry)))
	}
	return otlptracehttp.NewClient(opts...), nil
}
