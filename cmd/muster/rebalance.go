package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// move is how far the slots of a ring are on their way; nil: they are on none.
type move struct {
	State         string   `json:"state"`
	Cause         string   `json:"cause"`
	Nodes         []string `json:"nodes"`
	By            string   `json:"by"`
	Since         string   `json:"since"`
	SinceRevision uint64   `json:"since_revision"`
	Moved         int      `json:"moved"`
	Left          int      `json:"left"`
	Percent       int      `json:"percent"`
	ETASeconds    *int64   `json:"eta_seconds"`
	Gains         []struct {
		Node   string `json:"node"`
		Slots  int    `json:"slots"`
		Series int64  `json:"series"`
	} `json:"gains"`
	HeldUpBy    []string `json:"held_up_by"`
	Cancelled   string   `json:"cancelled"`
	CancelledBy string   `json:"cancelled_by"`
	Text        string   `json:"text"`
}

// gains are the slots that nodes get still.
func (m *move) gains() map[string]int {
	out := map[string]int{}
	if m != nil {
		for _, g := range m.Gains {
			out[g.Node] = g.Slots
		}
	}
	return out
}

// bar is a percentage as a line of blocks.
func bar(percent, width int) string {
	full := max(0, min(percent*width/100, width))
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}

// move tells how far a ring's slots are, and what can be done about it.
func (s stdio) move(m *move, ring string) {
	if m == nil {
		return
	}
	s.printf("\nMOVE %s %d%%  %d of %d replicas", bar(m.Percent, 40), m.Percent, m.Moved, m.Moved+m.Left)
	if m.ETASeconds != nil {
		s.printf("  %s left", time.Duration(*m.ETASeconds)*time.Second)
	}
	s.printf("\ncause: %s%s\n", m.Cause, since(m))
	series := int64(0)
	for _, g := range m.Gains {
		series += g.Series
	}
	if series > 0 && m.State != "cancelled" {
		s.printf("to come: about %s series\n", thousands(series))
	}
	for _, w := range m.HeldUpBy {
		s.printf("waits: %s\n", w)
	}
	if m.State == "cancelled" {
		s.printf("cancelled: %s by %s; the slots stay where they are\ngo on:  muster ring rebalance %s\n", m.Cancelled, dash(m.CancelledBy), ring)
	}
}

func since(m *move) string {
	text := ""
	if m.By != "" {
		text += ", by " + m.By
	}
	if m.Since != "" {
		text += fmt.Sprintf(", since %s (revision %d)", m.Since, m.SinceRevision)
	}
	return text
}

func ringRebalance(std stdio) *cli.Command {
	return &cli.Command{
		Name: "rebalance", Usage: "move slots after nodes, weights or zones have changed; returns when done", ArgsUsage: "[RING]",
		Description: "The leader moves the slots, by as many new series a second on each node as the setting\n" +
			"move_series_per_second allows. That goes on when this command is interrupted, and under\n" +
			"any leader; repeating the command waits on.",
		Flags: mutationFlags(
			&cli.BoolFlag{Name: "cancel", Usage: "end the move that is under way, a joining node's too: the slots stay where they are"},
			&cli.BoolFlag{Name: "no-wait", Usage: "return when it has begun"},
			&cli.DurationFlag{Name: "timeout", Usage: "how long to wait until it is done", DefaultText: "until it is"},
		),
		Action: func(c *cli.Context) error {
			name, err := maybeArg(c, "default")
			if err != nil {
				return err
			}
			if c.Bool("cancel") && c.Bool("no-wait") {
				return usageError(errors.New("muster ring rebalance wants --cancel or --no-wait, not both"))
			}
			r := request{method: http.MethodPost, path: ringPath(name) + "/rebalance"}
			if c.Bool("dry-run") && !c.Bool("cancel") {
				return showMoves(c, std, mutation(c, r))
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			if c.Bool("cancel") {
				r.query = url.Values{"cancel": {"true"}}
			}
			return rebalance(c, std, cl, name, r)
		},
	}
}

func rebalance(c *cli.Context, std stdio, cl *client, name string, r request) error {
	first, cancel := context.WithTimeout(c.Context, commandTimeout)
	defer cancel()
	raw, _, err := cl.raw(first, mutation(c, r))
	if err != nil {
		return err
	}
	var a applied
	if err := json.Unmarshal(raw, &a); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	waits := !c.Bool("cancel") && !c.Bool("no-wait")
	if waits {
		if err := awaitMoved(c.Context, cl, std, name, c.Duration("timeout")); err != nil {
			return err
		}
	}
	switch {
	case wantsJSON(c):
		return std.json(json.RawMessage(raw))
	case c.Bool("cancel"):
		std.said("cancelled the move of ring "+name, a)
	case waits:
		std.said("rebalanced ring "+name, a)
	default:
		std.said("begun to rebalance ring "+name, a)
		std.printf("how far it is: muster ring show %s\n", name)
	}
	return nil
}

// awaitMoved waits until the ring's slots are where they should be, and tells
// how far they are; at most for limit, where that is not 0.
func awaitMoved(ctx context.Context, cl *client, std stdio, name string, limit time.Duration) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	told, last := "", ""
	for {
		m, known, err := moveNow(ctx, cl, name)
		switch {
		case ctx.Err() != nil:
			return stillMoving(name, told, ctx.Err())
		case err != nil && !isAway(err):
			return err
		case err != nil:
			told = std.tell(told, err.Error())
		case known && m == nil:
			return nil
		case m != nil && m.State == "cancelled":
			return &failure{
				Code: exitFailed, Text: fmt.Sprintf("the move of ring %s was cancelled by %s: %d of %d replicas have moved", name, dash(m.CancelledBy), m.Moved, m.Moved+m.Left),
				Since: m.Cancelled, Next: "`muster ring rebalance " + name + "` goes on with it",
			}
		case m != nil:
			told = fmt.Sprintf("%s %s", bar(m.Percent, 20), m.Text)
			if now := fmt.Sprint(m.State, m.Percent/5, len(m.HeldUpBy)); now != last {
				std.notef("%s\n", told)
				last = now
			}
		}
		if err := pause(ctx); err != nil {
			return stillMoving(name, told, err)
		}
	}
}

// moveNow is the ring's move. It is not known where nobody leads, and the node
// may know an old state only.
func moveNow(ctx context.Context, cl *client, name string) (m *move, known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var st statusAnswer
	if err := cl.do(ctx, request{method: http.MethodGet, path: "/api/v1/cluster/status"}, &st); err != nil {
		return nil, false, err
	}
	i := slices.IndexFunc(st.Rings, func(r ringStatus) bool { return r.Name == name })
	if i < 0 {
		return nil, false, &failure{Code: exitFailed, Text: fmt.Sprintf("there is no ring %q any more", name), status: http.StatusNotFound, Next: "look with `muster ring list`"}
	}
	return st.Rings[i].Move, !st.Local, nil
}

// stillMoving is the end of the command, not of the move.
func stillMoving(name, told string, cause error) error {
	if told == "" {
		told = "it has just begun"
	}
	return &failure{
		Code: exitFailed, Text: fmt.Sprintf("the move of ring %s goes on without this command: %s", name, told), cause: cause,
		Next: fmt.Sprintf("`muster ring rebalance %s` waits on, with --cancel it ends the move", name),
	}
}
