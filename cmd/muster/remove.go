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

func clusterRemove(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "remove",
		Usage: "take a node out for good; returns when it is out",
		Description: "The node's slots go to others, its data to the bucket and to other nodes, and then\n" +
			"it is no member any more. That goes on when this command is interrupted, and under\n" +
			"any leader; repeating the command waits on.",
		ArgsUsage: "NODE",
		Flags: mutationFlags(
			&cli.BoolFlag{Name: "force", Usage: "the node is down and will not come back: what it alone has is given up"},
			&cli.BoolFlag{Name: "bucket-is-enough", Usage: "blocks that are in the bucket go to no other node"},
			&cli.BoolFlag{Name: "cancel", Usage: "end a removal that is under way: the node stays"},
			&cli.StringFlag{Name: "reason", Usage: "told in the status"},
			&cli.DurationFlag{Name: "timeout", Usage: "how long to wait until it is out", DefaultText: "until it is"},
		),
		Action: func(c *cli.Context) error {
			node, err := oneArg(c, "the node's name")
			if err != nil {
				return err
			}
			if c.Bool("force") && (c.Bool("cancel") || c.Bool("bucket-is-enough")) || c.Bool("cancel") && c.Bool("bucket-is-enough") {
				return usageError(errors.New("muster cluster remove wants one of --force, --cancel and --bucket-is-enough at most"))
			}
			cl, err := newClient(c)
			if err != nil {
				return err
			}
			return remove(c, std, cl, node)
		},
	}
}

func remove(c *cli.Context, std stdio, cl *client, node string) error {
	q := url.Values{}
	for flag, name := range map[string]string{"force": "force", "bucket-is-enough": "bucket_is_enough", "cancel": "cancel"} {
		if c.Bool(flag) {
			q.Set(name, "true")
		}
	}
	if r := c.String("reason"); r != "" {
		q.Set("reason", r)
	}
	first, cancel := context.WithTimeout(c.Context, commandTimeout)
	defer cancel()
	raw, _, err := cl.raw(first, mutation(c, request{method: http.MethodDelete, path: memberPath(node), query: q}))
	if err != nil {
		return err
	}
	var a departure
	if err := json.Unmarshal(raw, &a); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	waits := !a.DryRun && !c.Bool("force") && !c.Bool("cancel")
	if waits {
		if err := awaitRemoved(c.Context, cl, std, node, c.Duration("timeout")); err != nil {
			return err
		}
	}
	switch {
	case wantsJSON(c):
		return std.json(json.RawMessage(raw))
	case c.Bool("cancel"):
		std.said(node+" stays a member", a.applied)
		return nil
	case a.DryRun:
		std.said(fmt.Sprintf("removed %s, %d slots would move", node, a.Slots), a.applied)
	case waits:
		std.printf("removed %s\n", node)
	default:
		std.said("removed "+node, a.applied)
	}
	std.means(a)
	return nil
}

// awaitRemoved waits until the node is no member any more, and tells how far it
// is; at most for limit, where that is not 0.
func awaitRemoved(ctx context.Context, cl *client, std stdio, node string, limit time.Duration) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	told := ""
	for {
		m, err := memberNow(ctx, cl, node)
		var f *failure
		switch {
		case ctx.Err() != nil:
			return interrupted(node, told, ctx.Err())
		case errors.As(err, &f) && f.status == http.StatusNotFound, f.saysItIsOut(node):
			return nil
		case err != nil && !isPassing(err):
			return err
		case err != nil:
			told = std.tell(told, err.Error())
		case m.Removal == nil:
			return &failure{Code: exitFailed, Text: fmt.Sprintf("%s is %s: its removal was cancelled", node, m.State), Next: "look with `muster cluster events`"}
		default:
			told = std.tell(told, m.Removal.Text)
		}
		if err := pause(ctx); err != nil {
			return interrupted(node, told, err)
		}
	}
}

// saysItIsOut says whether the node itself answered that it was removed.
func (f *failure) saysItIsOut(node string) bool {
	return f != nil && f.status == http.StatusForbidden && f.Node == node && strings.Contains(f.Text, node+" was removed from cluster")
}

func memberNow(ctx context.Context, cl *client, node string) (leavingMember, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var m leavingMember
	err := cl.do(ctx, request{method: http.MethodGet, path: memberPath(node)}, &m)
	return m, err
}

// interrupted is the end of the command, not of the removal.
func interrupted(node, told string, cause error) error {
	if told == "" {
		told = "it has just begun"
	}
	return &failure{
		Code: exitFailed, Text: fmt.Sprintf("the removal of %s goes on without this command: %s", node, told), cause: cause,
		Next: fmt.Sprintf("`muster cluster remove %s` waits on, with --cancel it ends the removal", node),
	}
}
