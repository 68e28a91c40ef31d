package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/muster-metrics/muster/cluster"
)

// form creates or joins the cluster where the flags ask for it. It is harmless
// when the node already belongs to one.
func (n *node) form(ctx context.Context) error {
	switch {
	case n.cluster.State().Cluster() != nil:
		return nil
	case n.cfg.Join != "":
		return n.join(ctx)
	case n.cfg.Init:
		_, err := n.cluster.Init(ctx, cluster.InitRequest{
			JoinTokens: -1, // nobody would see them
			Actor:      n.cfg.Name, Source: "--init",
		})
		if errors.Is(err, cluster.ErrExists) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("--init: %w", err)
		}
		n.log.Info("this node is the first of its cluster", "next", "muster token create --role node, then muster cluster join on the others")
	}
	return nil
}

// join tries until it is let in: an unattended machine may start before the
// member that it is told to ask.
func (n *node) join(ctx context.Context) error {
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		text, err := os.ReadFile(n.cfg.JoinTokenFile)
		if err != nil {
			return fmt.Errorf("--join-token-file: %w", err)
		}
		err = n.cluster.Join(ctx, cluster.JoinRequest{Token: strings.TrimSpace(string(text)), Address: n.cfg.Join})
		if err == nil {
			return nil
		}
		n.log.Warn("not joined yet", "through", n.cfg.Join, "err", err, "next_try", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}
