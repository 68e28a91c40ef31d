// Compliance runs Prometheus' compliance suite for receivers of remote write
// against a cluster of muster processes, and holds every answer to the status
// code that it should have: the suite itself lets a receiver refuse what it does
// not know. The suite is a module of its own (suite/go.mod), so that what it
// needs stays out of ours. Remote write 1.0, of which the suite asks little, is
// asked here for the same.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

type options struct {
	binary, suite string
	nodes         int
	verbose       bool
}

func main() {
	var o options
	flag.StringVar(&o.binary, "muster", "build/muster", "the binary")
	flag.StringVar(&o.suite, "suite", "scripts/compliance/suite", "folder of the suite's module")
	flag.IntVar(&o.nodes, "nodes", 3, "nodes of the cluster that is asked")
	flag.BoolVar(&o.verbose, "v", false, "print every answer")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "compliance:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "compliance")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f, err := fleet.Start(ctx, fleet.Config{Binary: o.binary, Dir: dir, Nodes: o.nodes, Factor: min(3, o.nodes)})
	if err != nil {
		return err
	}
	defer f.Stop()
	node := f.Nodes[len(f.Nodes)-1] // not the leader, as mostly
	url := "http://" + node.Write + "/api/v1/receive"
	return errors.Join(first(ctx, o, url), second(ctx, o, url, dir))
}

// first asks for remote write 1.0.
func first(ctx context.Context, o options, url string) error {
	answers, err := askFirst(ctx, url)
	if err != nil {
		return err
	}
	return report("remote write 1.0", answers, o.verbose)
}

// second runs the suite, which asks for 2.0.
func second(ctx context.Context, o options, url, dir string) error {
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("remote_write:\n  - name: %s\n    url: %s\n    headers:\n      THANOS-TENANT: compliance\n", receiver, url)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	answers, failed, err := runSuite(ctx, o.suite, config)
	if err != nil {
		return err
	}
	if len(answers) < leastAnswers {
		return fmt.Errorf("the suite had %d answers, and has had %d at least", len(answers), leastAnswers)
	}
	err = report("remote write 2.0", answers, o.verbose)
	if len(failed) > 0 {
		err = errors.Join(err, fmt.Errorf("the suite failed %d tests:\n  %s", len(failed), strings.Join(failed, "\n  ")))
	}
	return err
}

// answer is what a request was answered, and what it should have been.
type answer struct {
	test string
	code int
	want []int
	body string
}

// report prints what is not as it should be, and a line at the end.
func report(what string, answers []answer, verbose bool) error {
	wrong := 0
	for _, a := range answers {
		ok := false
		for _, w := range a.want {
			ok = ok || a.code == w
		}
		if !ok {
			wrong++
		}
		if verbose || !ok {
			fmt.Printf("%-5v %d, want %v: %s %s\n", ok, a.code, a.want, a.test, strings.TrimSpace(a.body))
		}
	}
	fmt.Printf("%s: %d of %d answers have the status code they should have\n", what, len(answers)-wrong, len(answers))
	if wrong > 0 {
		return fmt.Errorf("%s: %d answers with another status code", what, wrong)
	}
	return nil
}
