package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// pollEvery is how often a command that waits looks how far it is.
const pollEvery = 500 * time.Millisecond

// departure is the answer to a change that takes a node away.
type departure struct {
	applied
	FailureTolerance struct {
		Before int `json:"before"`
		After  int `json:"after"`
	} `json:"failure_tolerance"`
	Slots    int      `json:"slots"`
	Warnings []string `json:"warnings"`
}

// leavingMember is what the admin API tells of a node on its way out.
type leavingMember struct {
	State string `json:"state"`
	Drain *struct {
		Stoppable bool     `json:"stoppable"`
		Waits     []string `json:"waits"`
	} `json:"drain"`
	Removal *struct {
		Text string `json:"text"`
	} `json:"removal"`
}

func memberPath(node string) string { return "/api/v1/cluster/members/" + url.PathEscape(node) }

func clusterDrain(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "drain",
		Usage: "take a node out of service until its next start; returns when it may be stopped",
		Description: "Leadership is handed over and the node's write door answers 503. It still stores\n" +
			"what the others send it, until it is stopped. Its next start ends the drain, and so\n" +
			"does `muster cluster undrain`. It is refused where a slot would fall below its quorum.",
		ArgsUsage: "NODE",
		Flags: mutationFlags(
			&cli.StringFlag{Name: "reason", Usage: "told in the status and in the events"},
			&cli.DurationFlag{Name: "timeout", Value: commandTimeout, Usage: "how long to wait until it may be stopped"},
		),
		Action: func(c *cli.Context) error {
			node, err := oneArg(c, "the node's name")
			if err != nil {
				return err
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
			defer cancel()
			raw, _, err := cl.raw(ctx, mutation(c, request{method: http.MethodPost, path: memberPath(node) + "/drain", body: map[string]any{"reason": c.String("reason")}}))
			if err != nil {
				return err
			}
			var a departure
			if err := json.Unmarshal(raw, &a); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			if !a.DryRun {
				if err := awaitDrained(ctx, cl, std, node); err != nil {
					return err
				}
			}
			if wantsJSON(c) {
				return std.json(json.RawMessage(raw))
			}
			std.drained(node, a)
			return nil
		},
	}
}

// awaitDrained waits until the node may be stopped, and tells what for.
func awaitDrained(ctx context.Context, cl *client, std stdio, node string) error {
	told := ""
	for {
		var m leavingMember
		err := cl.do(ctx, request{method: http.MethodGet, path: memberPath(node)}, &m)
		switch {
		case ctx.Err() != nil || err != nil && !isPassing(err):
			return err
		case err != nil:
			told = std.tell(told, err.Error())
		case m.Drain == nil:
			return &failure{Code: exitFailed, Text: fmt.Sprintf("%s is %s: somebody has ended the drain, or it was started anew", node, m.State), Next: "look with `muster cluster events`"}
		case m.Drain.Stoppable:
			return nil
		default:
			told = std.tell(told, "waiting: "+strings.Join(m.Drain.Waits, ", "))
		}
		if err := pause(ctx); err != nil {
			return &failure{Code: exitFailed, Text: fmt.Sprintf("%s is draining and may not be stopped yet: %s", node, told), Next: "repeat the command to wait on, or `muster cluster undrain " + node + "`", cause: err}
		}
	}
}

// isPassing says whether an answer may be another in a moment.
func isPassing(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.status == http.StatusServiceUnavailable
}

func pause(ctx context.Context) error {
	select {
	case <-time.After(pollEvery):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tell says on stderr what has not been said just before, and returns it.
func (s stdio) tell(told, text string) string {
	if text != told {
		s.notef("%s\n", text)
	}
	return text
}

// drained tells what a drain means, and for how long.
func (s stdio) drained(node string, a departure) {
	if a.DryRun {
		s.printf("dry run, nothing is changed; otherwise: drained %s, which holds %d slots\n", node, a.Slots)
	} else {
		s.printf("%s is drained: it may be stopped now.\n", node)
	}
	s.means(a)
	if a.DryRun {
		return
	}
	s.printf("The others hold back for a minute what it misses; if it is away for longer, the samples\n" +
		"of that time are on the other replicas alone.\n")
	s.printf("Its next start ends the drain; so does: muster cluster undrain %s\n", node)
}

// means tells the numbers of a departure.
func (s stdio) means(a departure) {
	s.printf("failure tolerance: %d before, %d after\n", a.FailureTolerance.Before, a.FailureTolerance.After)
	for _, w := range a.Warnings {
		s.printf("! %s\n", w)
	}
}

func clusterUndrain(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "undrain",
		Usage:     "end a node's drain",
		ArgsUsage: "NODE",
		Flags:     mutationFlags(),
		Action: func(c *cli.Context) error {
			node, err := oneArg(c, "the node's name")
			if err != nil {
				return err
			}
			return act(c, std, "undrained "+node, request{method: http.MethodPost, path: memberPath(node) + "/undrain"})
		},
	}
}
