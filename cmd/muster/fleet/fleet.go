// Package fleet runs a cluster of muster processes on this machine, as the
// demo, the benchmark and the stories with real processes need it. It forms the
// cluster with the commands that a person would type.
package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Config of a fleet.
type Config struct {
	Binary string // path of muster
	Dir    string // data folders and logs go below it
	Nodes  int
	// Factor is the replication factor of the ring `default`.
	Factor int
	// Network is the first three numbers of the nodes' addresses: node i listens
	// on Network.i. Default 127.0.0.
	Network string
	// Auth is the tenant_auth of the cluster. Default header.
	Auth string
	// Args are added to every server's command line.
	Args []string
	// Ports are tried first; a taken one is replaced by a free one.
	Ports Ports
	// Wired puts a proxy before each member door, so that Wires can cut them.
	Wired bool
}

// Ports of a node's doors; 0: any free one.
type Ports struct{ Write, HTTP, GRPC, Peer int }

// UsualPorts are those that a server takes by default.
var UsualPorts = Ports{Write: 19291, HTTP: 10902, GRPC: 10901, Peer: 19391}

// Fleet is a running cluster.
type Fleet struct {
	Nodes []*Node
	// Wires are between the nodes, where the fleet is Wired.
	Wires *Wires
	cfg   Config
	made  int // nodes, those included that are gone
}

// Start runs the servers and forms the cluster: init on the first, join on the
// others. It stops what it started where that fails.
func Start(ctx context.Context, cfg Config) (*Fleet, error) {
	if cfg.Network == "" {
		cfg.Network = "127.0.0"
	}
	if cfg.Auth == "" {
		cfg.Auth = "header"
	}
	f := &Fleet{cfg: cfg}
	if cfg.Wired {
		f.Wires = newWires()
	}
	for range cfg.Nodes {
		n, err := f.newNode()
		if err != nil {
			f.Stop()
			return nil, err
		}
		f.Nodes = append(f.Nodes, n)
	}
	if err := f.form(ctx); err != nil {
		f.Stop()
		return nil, err
	}
	return f, nil
}

func (f *Fleet) form(ctx context.Context) error {
	for _, n := range f.Nodes {
		if err := n.Start(ctx); err != nil {
			return err
		}
	}
	first := f.Nodes[0]
	out, err := first.CLI(ctx, "cluster", "init", "--name", "local", "--tenant-auth", f.cfg.Auth,
		"--replication-factor", strconv.Itoa(f.cfg.Factor), "--join-tokens", strconv.Itoa(max(1, f.cfg.Nodes-1)), "-o", "json")
	if err != nil {
		return fmt.Errorf("cluster init: %w", err)
	}
	var a struct {
		JoinTokens []string `json:"join_tokens"`
	}
	if err := json.Unmarshal(out, &a); err != nil {
		return fmt.Errorf("cluster init: %w", err)
	}
	if len(a.JoinTokens) < f.cfg.Nodes-1 {
		return fmt.Errorf("cluster init printed %d join tokens", len(a.JoinTokens))
	}
	for i, n := range f.Nodes[1:] {
		if _, err := n.CLI(ctx, "cluster", "join", "--token", a.JoinTokens[i], first.Peer); err != nil {
			return fmt.Errorf("cluster join of %s: %w", n.Name, err)
		}
	}
	return f.Settle(ctx)
}

// Settle waits until the cluster calls itself healthy, nothing moves, and enough
// nodes vote that one may fail.
func (f *Fleet) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var last error
	for {
		if last = f.settled(ctx); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster has not settled: %w", last)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (f *Fleet) settled(ctx context.Context) error {
	for _, n := range f.Nodes {
		if !n.Running() {
			continue
		}
		out, err := n.CLI(ctx, "cluster", "status", "-o", "json")
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		var st struct {
			Healthy bool
			Nodes   []struct{ State, Role string }
			Rings   []struct{ Short, Moving int }
		}
		if err := json.Unmarshal(out, &st); err != nil {
			return err
		}
		for _, r := range st.Rings {
			if r.Short+r.Moving > 0 {
				return fmt.Errorf("%s: %d slots short, %d moving", n.Name, r.Short, r.Moving)
			}
		}
		voters := 0
		for _, m := range st.Nodes {
			if m.State != "active" {
				return fmt.Errorf("%s sees a node that is %s", n.Name, m.State)
			}
			if m.Role == "leader" || m.Role == "voter" {
				voters++
			}
		}
		if want := min(3, len(st.Nodes)); voters < want {
			return fmt.Errorf("%s sees %d voters, %d are to come", n.Name, voters, want-voters)
		}
		if !st.Healthy {
			return errors.New(n.Name + ": not healthy")
		}
	}
	return nil
}

// Stop ends every node, and waits for it.
func (f *Fleet) Stop() {
	for _, n := range f.Nodes {
		n.signal(sigterm)
	}
	for _, n := range f.Nodes {
		n.wait(20 * time.Second)
	}
	if f.Wires != nil {
		f.Wires.Close()
	}
}

// Add starts a further node and lets it join through a running member. It
// returns when the node is active.
func (f *Fleet) Add(ctx context.Context, through *Node) (*Node, error) {
	n, err := f.newNode()
	if err != nil {
		return nil, err
	}
	if err := n.Start(ctx); err != nil {
		return nil, err
	}
	f.Nodes = append(f.Nodes, n)
	out, err := through.CLI(ctx, "token", "create", "--role", "node", "-o", "json")
	if err != nil {
		return n, fmt.Errorf("token create on %s: %w", through.Name, err)
	}
	var a struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(out, &a); err != nil {
		return n, fmt.Errorf("token create: %w", err)
	}
	if _, err := n.CLI(ctx, "cluster", "join", "--token", a.Token, through.Peer); err != nil {
		return n, fmt.Errorf("cluster join of %s: %w", n.Name, err)
	}
	return n, nil
}

// Drop ends a node hard and forgets it; its data folder goes.
func (f *Fleet) Drop(n *Node) error {
	n.Kill()
	f.Nodes = slices.DeleteFunc(f.Nodes, func(o *Node) bool { return o == n })
	return os.RemoveAll(n.Dir)
}

func (f *Fleet) newNode() (*Node, error) {
	f.made++
	if f.made > lastDoor-firstDoor {
		return nil, errors.New("a fleet has no address for a further node")
	}
	host := fmt.Sprintf("%s.%d", f.cfg.Network, f.made)
	name := fmt.Sprintf("n%d", f.made)
	n := &Node{Name: name, Host: host, Dir: filepath.Join(f.cfg.Dir, name), cfg: f.cfg}
	for _, p := range []struct {
		usual int
		to    *string
	}{{f.cfg.Ports.Write, &n.Write}, {f.cfg.Ports.HTTP, &n.HTTP}, {f.cfg.Ports.GRPC, &n.GRPC}, {f.cfg.Ports.Peer, &n.Peer}} {
		a, err := freeAddress(host, p.usual)
		if err != nil {
			return nil, err
		}
		*p.to = a
	}
	n.door = n.Peer
	if f.Wires == nil {
		return n, nil
	}
	return n, f.wire(n)
}

// Doors behind proxies have addresses of their own: Network.(firstDoor + i).
const (
	firstDoor = 100
	lastDoor  = 250
)

// wire puts a proxy before the node's member door. A node advertises the port
// that it listens on, so both have the same one.
func (f *Fleet) wire(n *Node) error {
	host := fmt.Sprintf("%s.%d", f.cfg.Network, firstDoor+f.made)
	var err error
	for range 20 {
		if n.door, err = freeAddress(host, f.cfg.Ports.Peer); err != nil {
			return err
		}
		_, port, _ := net.SplitHostPort(n.door)
		if n.Peer, err = f.Wires.listen(n, net.JoinHostPort(n.Host, port)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no proxy for %s: %w", n.Name, err)
}

// freeAddress is host with the usual port, or another where that one is taken.
func freeAddress(host string, usual int) (string, error) {
	var lc net.ListenConfig
	for _, port := range []int{usual, 0} {
		l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String(), nil
	}
	return "", fmt.Errorf("no free port on %s", host)
}
