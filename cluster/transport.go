package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/cluster/door"
)

const (
	raftTimeout = 3 * time.Second // an RPC of Raft; it also bounds how long a hung peer holds up a transfer
	raftPool    = 3               // idle connections kept per peer
	// raftInFlight is one: no pipelining. A leader that a follower has told of a
	// newer term stops to read the pipeline's answers, and its sender, which waits
	// for room in it, never ends, nor does Shutdown (v1.7.3: AppendEntries of a
	// full pipeline looks at nothing but its own end). Entries come in batches
	// anyway, and this log is no stream.
	raftInFlight = 1
)

// transport is Raft's transport over the member door. A server's address is its
// name: where a name lives, and that it is really there, is the door's business,
// so a node may move without a change of Raft's configuration.
//
// It embeds *raft.NetworkTransport, because Raft asks it for more interfaces than
// raft.Transport; without WithPreVote a node that comes back would depose a
// healthy leader.
type transport struct {
	*raft.NetworkTransport
	door *door.Door
}

var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
	_ raft.WithClose   = (*transport)(nil)
)

// newTransport listens to Raft's protocol on d for the node of that name.
func newTransport(d *door.Door, name string, log *slog.Logger) *transport {
	return &transport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			ServerAddressProvider:   byName{},
			Logger:                  raftLogger(log),
			Stream:                  stream{Listener: d.Listener(door.ProtocolRaft), door: d, name: name},
			MaxPool:                 raftPool,
			Timeout:                 raftTimeout,
			MaxRPCsInFlight:         raftInFlight,
			MsgpackUseNewTimeFormat: true,
		}),
		door: d,
	}
}

// SetHeartbeatHandler does nothing: heartbeats go the way of all other requests.
// The short way handles them beside Raft's main loop, where they raise the term
// of a deposed leader that has not noticed; it then logs its next command under
// its successor's term, and two nodes commit different commands at one index
// (hashicorp/raft#695). The price is that a heartbeat waits for the disk, for
// which the election timeout has room.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {}

// Close ends the transport with all its connections: the library leaves idle ones
// open, and Raft may be started again in this process.
func (t *transport) Close() error {
	err := t.NetworkTransport.Close()
	t.CloseStreams()
	t.door.Drop(door.ProtocolRaft)
	return err
}

// byName makes Raft dial the node of the server's id, whatever address its
// configuration has.
type byName struct{}

func (byName) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	return raft.ServerAddress(nodeOf(id)), nil
}

// stream is the door as Raft sees it.
type stream struct {
	net.Listener
	door *door.Door
	name string
}

// Dial connects to the node of that name, wherever it is now.
func (s stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := s.door.DialNode(ctx, door.ProtocolRaft, string(address))
	if err != nil {
		return nil, fmt.Errorf("raft: %w", err)
	}
	return conn, nil
}

// Addr is this node's name: Raft tells it to the others as the leader's address.
func (s stream) Addr() net.Addr { return nodeAddr(s.name) }

type nodeAddr string

func (nodeAddr) Network() string  { return "muster" }
func (a nodeAddr) String() string { return string(a) }
