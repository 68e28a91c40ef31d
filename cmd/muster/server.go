package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/alecthomas/units"
	"github.com/urfave/cli/v2"
)

// serverFlags are those of one node; what is the cluster's is never a flag.
func serverFlags() []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "remote-write.address", Value: "0.0.0.0:19291", Usage: "write door: remote write and the tenants' own queries"},
		&cli.StringFlag{Name: "http.address", Value: "0.0.0.0:10902", Usage: "operator door: metrics, health, admin API"},
		&cli.StringFlag{Name: "grpc.address", Value: "0.0.0.0:10901", Usage: "store door: Thanos' StoreAPI"},
		&cli.StringFlag{Name: "peer.address", Value: "0.0.0.0:19391", Usage: "member door: other nodes"},
		&cli.StringFlag{Name: "advertise-address", Usage: "host that the others use (default: the first private address)"},
		&cli.StringFlag{Name: "node-name", Usage: "name of this node (default: the host's name)"},
		&cli.StringFlag{Name: "zone", Usage: "failure zone of this node"},
		&cli.StringFlag{Name: "objstore.config", Usage: "bucket, in Thanos' YAML; none: nothing is shipped"},
		&cli.StringFlag{Name: "objstore.config-file", Usage: "file with the same"},
		&cli.DurationFlag{Name: "tsdb.block-duration", Value: 2 * time.Hour, Usage: "width of a block; at least 10s, for tests"},
		&cli.StringFlag{Name: "tenant-header", Value: "THANOS-TENANT", Usage: "header that names the tenant where tenant_auth is header"},
		&cli.DurationFlag{Name: "write-quorum-timeout", Value: 5 * time.Second, Usage: "how long a write waits for its quorum"},
		&cli.StringFlag{Name: "max-request-bytes", Value: "32MiB", Usage: "largest request, compressed"},
		&cli.StringFlag{Name: "max-decoded-bytes", Value: "128MiB", Usage: "largest request, decompressed"},
		&cli.StringFlag{Name: "memory-budget", Usage: "memory that this node may use, such as 8GiB; before that it refuses writes (default: four fifths of the container's or the machine's)"},
		&cli.StringFlag{Name: "grpc.tls", Value: "on", Usage: "on: queriers show a certificate of the cluster; off: a trusted network"},
		&cli.StringFlag{Name: "grpc.tls-cert", Usage: "own certificate of the store door"},
		&cli.StringFlag{Name: "grpc.tls-key", Usage: "its key"},
		&cli.StringFlag{Name: "grpc.tls-client-ca", Usage: "CA of the queriers' certificates"},
		&cli.StringFlag{Name: "web.config.file", Usage: "TLS of the write and operator doors, in the exporter toolkit's form"},
		&cli.StringFlag{Name: "tracing.config", Usage: "where traces of writes go, in Thanos' YAML, type OTLP; none: nothing is traced"},
		&cli.StringFlag{Name: "tracing.config-file", Usage: "file with the same"},
		&cli.StringFlag{Name: "log.level", Value: "info", Usage: "debug, info, warn or error"},
		&cli.StringFlag{Name: "log.format", Value: "logfmt", Usage: "logfmt or json"},
		&cli.BoolFlag{Name: "init", Usage: "create the cluster at the first start; harmless when the node already belongs to one"},
		&cli.StringFlag{Name: "join", Usage: "join through this member, HOST:PORT, at the first start; afterwards where one may be found when all addresses have changed"},
		&cli.StringFlag{Name: "join-token-file", Usage: "file with the token for the first start with --join"},
	}
	for _, f := range flags {
		fromEnvironment(f)
	}
	return flags
}

func serverCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "server",
		Usage: "run a node",
		Flags: serverFlags(),
		Action: func(c *cli.Context) error {
			cfg, err := serverConfig(c, std)
			if err != nil {
				return usageError(err)
			}
			slog.SetDefault(cfg.Log) // for the libraries that know no other
			return serve(c.Context, cfg)
		},
	}
}

// serve runs a node until ctx ends.
func serve(ctx context.Context, cfg nodeConfig) (err error) {
	n, err := newNode(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if err := n.Open(ctx); err != nil {
		return err
	}
	if cfg.MemoryBudget > 0 {
		cfg.Log.Info("memory budget", "bytes", cfg.MemoryBudget)
		if os.Getenv("GOMEMLIMIT") == "" { // whoever sets that knows why
			defer debug.SetMemoryLimit(debug.SetMemoryLimit(cfg.MemoryBudget))
		}
	}
	return n.Run(ctx)
}

func serverConfig(c *cli.Context, std stdio) (nodeConfig, error) {
	cfg := nodeConfig{
		DataDir: dataDir(c), Name: c.String("node-name"), Zone: c.String("zone"), Advertise: c.String("advertise-address"),
		Write: c.String("remote-write.address"), HTTP: c.String("http.address"), GRPC: c.String("grpc.address"), Peer: c.String("peer.address"),
		BlockDuration: c.Duration("tsdb.block-duration"), TenantHeader: c.String("tenant-header"),
		QuorumTimeout: c.Duration("write-quorum-timeout"), WebConfig: c.String("web.config.file"),
		StoreTLS: storeTLS{Mode: c.String("grpc.tls"), Cert: c.String("grpc.tls-cert"), Key: c.String("grpc.tls-key"), ClientCA: c.String("grpc.tls-client-ca")},
		Init:     c.Bool("init"), Join: c.String("join"), JoinTokenFile: c.String("join-token-file"), Version: c.App.Version,
	}
	var err error
	if cfg.Log, err = newLogger(c, std); err != nil {
		return cfg, err
	}
	if cfg.Name == "" {
		if cfg.Name, err = os.Hostname(); err != nil {
			return cfg, fmt.Errorf("--node-name is not set and the host has no name: %w", err)
		}
	}
	if cfg.Advertise == "" {
		if cfg.Advertise, err = privateAddress(); err != nil {
			return cfg, err
		}
	}
	if cfg.BlockDuration < 10*time.Second {
		return cfg, fmt.Errorf("--tsdb.block-duration %v: want at least 10s", cfg.BlockDuration)
	}
	if cfg.MaxRequestBytes, err = bytesOf(c, "max-request-bytes"); err != nil {
		return cfg, err
	}
	if cfg.MaxDecodedBytes, err = bytesOf(c, "max-decoded-bytes"); err != nil {
		return cfg, err
	}
	if cfg.MemoryBudget, err = memoryBudget(c, os.DirFS("/")); err != nil {
		return cfg, err
	}
	if cfg.Bucket, err = textOrFile(c, "objstore.config"); err != nil {
		return cfg, err
	}
	traces, err := textOrFile(c, "tracing.config")
	if err != nil {
		return cfg, err
	}
	if cfg.Tracing, err = parseTracing(traces); err != nil {
		return cfg, fmt.Errorf("--tracing.config: %w", err)
	}
	switch {
	case cfg.Join != "" && cfg.Init:
		return cfg, errors.New("--init and --join: want one of them")
	case cfg.Join != "" && cfg.JoinTokenFile == "" && !belongs(cfg.DataDir):
		return cfg, errors.New("--join wants --join-token-file where this node belongs to no cluster yet")
	}
	return cfg, cfg.StoreTLS.validate()
}

// belongs says whether a node with a certificate of a cluster has this data
// directory.
func belongs(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "pki", "node.pem"))
	return err == nil
}

func bytesOf(c *cli.Context, flag string) (int64, error) {
	n, err := units.ParseStrictBytes(c.String(flag))
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("--%s %q: want a size such as 32MiB", flag, c.String(flag))
	}
	return n, nil
}

// memoryBudget is what the flag says, or four fifths of what the system gives: the
// rest is for what is not Go's, the page cache first of all. 0: nobody knows.
func memoryBudget(c *cli.Context, system fs.FS) (int64, error) {
	if !c.IsSet("memory-budget") {
		return memoryOf(system) / 5 * 4, nil
	}
	n, err := bytesOf(c, "memory-budget")
	if err == nil && n < leastMemory {
		err = fmt.Errorf("--memory-budget %q: want at least %dMiB", c.String("memory-budget"), leastMemory>>20)
	}
	return n, err
}

// textOrFile is what a flag says, or the file that its twin names.
func textOrFile(c *cli.Context, flag string) ([]byte, error) {
	text, file := c.String(flag), c.String(flag+"-file")
	switch {
	case text != "" && file != "":
		return nil, fmt.Errorf("--%s and --%s-file: want one of them", flag, flag)
	case file != "":
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--%s-file: %w", flag, err)
		}
		return b, nil
	default:
		return []byte(text), nil
	}
}

func newLogger(c *cli.Context, std stdio) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log.level"))); err != nil {
		return nil, fmt.Errorf("--log.level %q: want debug, info, warn or error", c.String("log.level"))
	}
	opts := &slog.HandlerOptions{Level: level}
	switch c.String("log.format") {
	case "logfmt":
		return slog.New(slog.NewTextHandler(std.err, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(std.err, opts)), nil
	default:
		return nil, fmt.Errorf("--log.format %q: want logfmt or json", c.String("log.format"))
	}
}

// privateAddress is the first private address of this machine, or loopback
// where it has none: then it can be a cluster of its own.
func privateAddress() (string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("--advertise-address is not set: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsPrivate() {
			return n.IP.String(), nil
		}
	}
	return "127.0.0.1", nil
}
