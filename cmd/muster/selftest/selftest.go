// Package selftest proves on this machine, with this binary, what muster
// promises: it runs a cluster of three nodes in a folder of its own, writes,
// kills a node, and counts every acknowledged sample on every node.
package selftest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

const (
	tenant = "selftest"
	metric = "muster_selftest"
	// series of each request; each has one sample.
	series = 500
	// patience is how long one step may take.
	patience = 2 * time.Minute
)

// Config of a run.
type Config struct {
	Binary string // the muster binary that is tested
	// Told is called when a step begins, and again when it has ended.
	Told func(step string, took time.Duration, err error)
}

// run is a self-test under way.
type run struct {
	fleet *fleet.Fleet
	dir   string
	http  http.Client
	acked int
	at    int64 // time of the newest sample, Unix milliseconds
}

// Run goes through the steps and returns the first error, which names the
// folder with the nodes' logs; otherwise nothing is left.
func Run(ctx context.Context, cfg Config) error {
	dir, err := os.MkdirTemp("", "muster-selftest")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	r := &run{dir: dir, at: time.Now().Add(-time.Minute).UnixMilli()}
	defer func() {
		if r.fleet != nil {
			r.fleet.Stop()
		}
		r.http.CloseIdleConnections()
	}()
	for _, step := range []struct {
		name string
		do   func(context.Context, Config) error
	}{
		{"three nodes form a cluster", r.form},
		{"each of them takes writes, replicated three times", r.writeThroughAll},
		{"each of them finds every sample", r.countOnAll},
		{"one is killed, and the others refuse no write", r.killOne},
		{"it comes back by itself, and all find every sample", r.comeBack},
	} {
		began := time.Now()
		stepCtx, cancel := context.WithTimeout(ctx, patience)
		err := step.do(stepCtx, cfg)
		cancel()
		cfg.Told(step.name, time.Since(began), err)
		if err != nil {
			return fmt.Errorf("%s: %w (the nodes' logs are in %s)", step.name, err, dir)
		}
	}
	r.fleet.Stop()
	r.fleet = nil
	return os.RemoveAll(dir)
}

func (r *run) form(ctx context.Context, cfg Config) error {
	f, err := fleet.Start(ctx, fleet.Config{
		Binary: cfg.Binary, Dir: r.dir, Nodes: 3, Factor: 3,
		Network: fmt.Sprintf("127.%d.%d", 20+rand.IntN(200), rand.IntN(250)),
	})
	if err != nil {
		return err
	}
	r.fleet = f
	return f.Settle(ctx)
}

func (r *run) writeThroughAll(ctx context.Context, _ Config) error {
	return r.write(ctx, r.fleet.Nodes)
}

func (r *run) killOne(ctx context.Context, _ Config) error {
	r.fleet.Nodes[0].Kill() // the first leader
	return r.write(ctx, r.fleet.Nodes[1:])
}

func (r *run) comeBack(ctx context.Context, cfg Config) error {
	if err := r.fleet.Nodes[0].Start(ctx); err != nil {
		return err
	}
	if err := r.fleet.Settle(ctx); err != nil {
		return err
	}
	return r.countOnAll(ctx, cfg)
}

// write sends three requests through each of the nodes; none may be refused.
func (r *run) write(ctx context.Context, nodes []*fleet.Node) error {
	for range 3 {
		for _, n := range nodes {
			r.at++
			if err := r.post(ctx, n); err != nil {
				return fmt.Errorf("write through %s: %w", n.Name, err)
			}
			r.acked += series
		}
	}
	return nil
}

func (r *run) post(ctx context.Context, n *fleet.Node) error {
	var w prompb.WriteRequest
	for i := range series {
		w.Timeseries = append(w.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: metric}, {Name: "series", Value: strconv.Itoa(i)}},
			Samples: []prompb.Sample{{Value: float64(i), Timestamp: r.at}},
		})
	}
	raw, err := w.Marshal()
	if err != nil {
		return err
	}
	status, says := n.Post(ctx, &r.http, tenant, snappy.Encode(nil, raw), 0)
	if status/100 != 2 {
		return fmt.Errorf("answered %d: %s", status, says)
	}
	return nil
}

// countOnAll wants every acknowledged sample, in a complete answer, of each node.
func (r *run) countOnAll(ctx context.Context, _ Config) error {
	for _, n := range r.fleet.Nodes {
		found, err := n.Sum(ctx, tenant, fmt.Sprintf("sum(count_over_time(%s[1h]))", metric), time.UnixMilli(r.at+1000))
		if err != nil {
			return err
		}
		if found != int64(r.acked) {
			return fmt.Errorf("%s finds %d of %d acknowledged samples", n.Name, found, r.acked)
		}
	}
	return nil
}
