package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestExitCodes: scripts tell by the code alone what to do next.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	b := emptyBed(t, 2)
	exits := func(code int, says string, args ...string) {
		t.Helper()
		out, msg, got := b.try(0, args...)
		require.Equal(t, code, got, "muster %v: %s%s", args, out, msg)
		require.Contains(t, msg, says)
	}
	exits(exitFailed, "no server answers at", "cluster", "status")
	b.start(0)
	exits(exitFailed, "belongs to no cluster", "tenant", "list")
	exits(exitOK, "", "cluster", "init", "--replication-factor", "2", "--tenant-auth", "header")
	exits(exitUnhealthy, "", "cluster", "status")
	exits(exitConflict, "already", "cluster", "init")
	exits(exitUsage, "argument", "tenant", "create")
	exits(exitOK, "", "tenant", "create", "a")
	exits(exitConflict, "", "tenant", "create", "a")
	exits(exitConflict, "", "tenant", "set", "a", "--state", "suspended", "--if-version", "1")
	exits(exitFailed, "no tenant", "tenant", "show", "b")
	exits(exitUsage, "(field retention)", "tenant", "set", "a", "--retention", "long")

	// From elsewhere, by a token: it names the cluster's CA.
	file := filepath.Join(b.dir, "viewer")
	viewer := b.cli(0, "token", "create", "--role", "viewer")
	require.NoError(t, os.WriteFile(file, []byte(viewer), 0o600))
	remote := []string{"--server", "https://" + b.nodes[0].cfg.HTTP, "--token-file", file}
	exits(exitOK, "", append(remote, "tenant", "list")...)
	exits(exitDenied, "viewer", append(remote, "tenant", "create", "b")...)
	exits(exitDenied, "admin", append(remote, "token", "list")...)

	// Two voters, of which one is gone.
	b.start(1)
	token := b.cli(0, "token", "create", "--role", "node")
	_, msg, code := b.try(1, "cluster", "join", "--token", token[:len(token)-1], b.nodes[0].node.door.Addr().String())
	require.Zero(t, code, msg)
	b.eventually("both vote", func() error {
		out, msg, code := b.try(0, "cluster", "status")
		if code != exitOK || !strings.Contains(out, "voter") || strings.Contains(out, "non-voter") {
			return fmt.Errorf("exit %d: %s%s", code, out, msg)
		}
		return nil
	})
	b.stop(1)
	b.eventually("the leader is missed", func() error {
		if _, msg, code := b.try(0, "tenant", "list"); code != exitNoLeader {
			return fmt.Errorf("exit %d: %s", code, msg)
		}
		return nil
	})
	exits(exitNoLeader, "missing n2", "tenant", "create", "b")
	exits(exitUnhealthy, "", "cluster", "status", "-o", "json")
}

// TestDryRunsChangeNothing: every change has one, also those without a command
// of their own in the state.
func TestDryRunsChangeNothing(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, 1)
	b.cli(0, "tenant", "create", "a")
	revision := b.nodes[0].node.cluster.State().Revision()
	for _, args := range [][]string{
		{"tenant", "create", "b"},
		{"tenant", "set", "a", "--state", "suspended"},
		{"tenant", "delete", "a"},
		{"tenant", "token", "create", "a"},
		{"token", "create", "--role", "admin"},
		{"cert", "issue", "--role", "reader", "r", "--out", b.dir},
		{"cert", "renew"},
		{"cert", "rotate-ca"},
		{"ring", "create", "r", "--tenants", "x", "--replication-factor", "1"},
		{"ring", "set", "default", "--write-quorum", "all"},
		{"ring", "rebalance"},
		{"settings", "set", "max_tenants=5"},
		{"cluster", "set", "n1", "--zone", "z"},
	} {
		require.Contains(t, b.cli(0, append(args, "--dry-run")...), "dry run", args)
		b.cli(0, append(args, "--dry-run", "-o", "json")...)
	}
	require.Equal(t, revision, b.nodes[0].node.cluster.State().Revision())
}
