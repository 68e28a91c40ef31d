// Package demo runs a cluster on this machine for somebody who wants to see
// muster work before reading about it: three nodes as separate processes, three
// writers with a tenant each, and what comes out at every node, live.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// Config of a demo.
type Config struct {
	Binary string // path of muster
	// Duration after which it ends by itself with a verdict; 0: Ctrl-C ends it.
	Duration time.Duration
	Out      io.Writer
	// Live redraws the screen; without it the tables follow each other.
	Live bool
	// Keep leaves the folder with data and logs in place.
	Keep bool
}

const nodes = 3

// tenant names, and the header that each writer sets; the first sends none.
const (
	defaultTenant = "default-tenant"
	tenantA       = "tenant-a"
	tenantB       = "tenant-b"
)

var tenants = []string{defaultTenant, tenantA, tenantB}

// ErrVerdict means that the demo ran and that its samples are not where they
// should be.
var ErrVerdict = errors.New("the samples are not where they should be")

// Run starts everything, shows it until ctx ends or the duration is over, and
// leaves no process behind.
func Run(ctx context.Context, cfg Config) error {
	dir, err := os.MkdirTemp("", "muster-demo")
	if err != nil {
		return err
	}
	defer func() {
		if cfg.Keep {
			fmt.Fprintf(cfg.Out, "data and logs are kept in %s\n", dir)
			return
		}
		_ = os.RemoveAll(dir)
	}()
	d := &demo{cfg: cfg, dir: dir}
	defer d.stop()
	if err := d.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if !cfg.Live {
		fmt.Fprint(cfg.Out, d.introduction())
	}
	return d.watch(ctx)
}

type demo struct {
	cfg     Config
	dir     string
	fleet   *fleet.Fleet
	writers []*writer
}

func (d *demo) start(ctx context.Context) error {
	bucket := filepath.Join(d.dir, "bucket")
	if err := os.Mkdir(bucket, 0o700); err != nil {
		return err
	}
	fmt.Fprintf(d.cfg.Out, "starting three nodes and forming the cluster ...\n")
	var err error
	d.fleet, err = fleet.Start(ctx, fleet.Config{
		Binary: d.cfg.Binary, Dir: d.dir, Nodes: nodes, Factor: 3, Auth: "header", Ports: fleet.UsualPorts,
		Args: []string{
			"--grpc.tls", "off", // the demo looks through the store doors without certificates; they listen on loopback
			"--objstore.config", fmt.Sprintf("{type: FILESYSTEM, config: {directory: %q}}", bucket),
			"--tsdb.block-duration", "2h",
		},
	})
	if err != nil {
		return fmt.Errorf("start the cluster: %w", err)
	}
	if _, err := d.fleet.Nodes[0].CLI(ctx, "ring", "create", "hard", "--tenants", tenantA+","+tenantB, "--nodes", "n1,n2", "--replication-factor", "2"); err != nil {
		return fmt.Errorf("create ring hard: %w", err)
	}
	if err := d.fleet.Settle(ctx); err != nil {
		return err
	}
	for i, t := range tenants {
		w, err := newWriter(d, i, t)
		if w != nil {
			d.writers = append(d.writers, w)
		}
		if err != nil {
			return err
		}
		if err := w.start(); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) stop() {
	for _, w := range d.writers {
		w.stop()
	}
	if d.fleet != nil {
		d.fleet.Stop()
	}
}

// introduction says what was started and where to look.
func (d *demo) introduction() string {
	out := &strings.Builder{}
	fmt.Fprintf(out, "\nThree nodes, each a `muster server` process:\n")
	for _, n := range d.fleet.Nodes {
		fmt.Fprintf(out, "  %s  remote write http://%s/api/v1/receive  metrics http://%s/metrics  StoreAPI %s\n", n.Name, n.Write, n.HTTP, n.GRPC)
	}
	fmt.Fprintf(out, "Three writers (%s), each scraping the three nodes every %v:\n", d.writers[0].kind, scrapeInterval)
	for _, w := range d.writers {
		way := "without a header"
		if w.front != nil {
			way = "through a gateway that sets its header, as nginx would"
		}
		fmt.Fprintf(out, "  %-14s  writes to %s, %s\n", w.tenant, w.target.Name, way)
	}
	n1 := d.fleet.Nodes[0]
	fmt.Fprintf(out, "Rings: default on all nodes, 3 copies; hard for %s and %s on n1 and n2, 2 copies.\n", tenantA, tenantB)
	fmt.Fprintf(out, "Try in another terminal:\n")
	for _, line := range []string{
		"cluster status", "ring show hard", "tenant list", "query --all-tenants 'count(up) by (tenant_id)'", "query -t " + tenantA + " up",
	} {
		fmt.Fprintf(out, "  %s --data-dir %s %s\n", d.cfg.Binary, n1.Dir, line)
	}
	fmt.Fprintf(out, "Kill a node and see the others go on: kill -9 %d\n", d.fleet.Nodes[2].PID())
	fmt.Fprintf(out, "Blocks go to %s. Logs are beside it. Ctrl-C ends everything.\n\n", filepath.Join(d.dir, "bucket"))
	return out.String()
}

// watch shows the cluster until the end, and judges it where it ends by itself.
func (d *demo) watch(ctx context.Context) error {
	s := &screen{demo: d, began: time.Now()}
	var deadline <-chan time.Time
	if d.cfg.Duration > 0 {
		deadline = time.After(d.cfg.Duration)
	}
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			fmt.Fprintf(d.cfg.Out, "\nending ...\n")
			return nil
		case <-deadline:
			return d.verdict(ctx)
		case <-tick.C:
			s.draw(ctx)
		}
	}
}

// verdict checks every node and says what is wrong, line by line.
func (d *demo) verdict(ctx context.Context) error {
	problems := d.judge(ctx)
	if len(problems) == 0 {
		fmt.Fprintf(d.cfg.Out, "\nevery node counts 3 series of up for each of %s, and every store door streams the tenants of its rings and no others\n", strings.Join(tenants, ", "))
		return nil
	}
	for _, p := range problems {
		fmt.Fprintf(d.cfg.Out, "wrong: %s\n", p)
	}
	return ErrVerdict
}
