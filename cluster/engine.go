package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// engine is a running Raft instance with its disk and its transport.
type engine struct {
	raft  *raft.Raft
	store *raftStore
	local raft.ServerID
	log   *slog.Logger
	crew  crew

	began time.Time
	ctx   context.Context // the loops around it
	end   context.CancelFunc
	wire  *transport

	// stuck is when a change was first refused for a transfer in progress,
	// without one that went through since: Unix nanoseconds, 0 for not at all.
	stuck atomic.Int64
}

// startEngine opens the disk, publishes the state that was served from it
// before, and starts Raft. A fresh directory is a server that waits to be
// called.
func (n *Node) startEngine() (*engine, error) {
	store, err := openRaftStore(n.raftDir(), raftLogger(n.log))
	if err != nil {
		return nil, err
	}
	st, err := store.Rebuild(n.fsm.speaks, n.fsm.step)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("restore the control state: %w", err), store.Close())
	}
	n.fsm.Begin(st, store)
	if st.Revision() > 0 {
		n.log.Info("control state restored", "revision", st.Revision(), "members", len(st.Members()), "tenants", st.TenantCount())
	}
	e, err := n.runRaft(store)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return e, nil
}

func (n *Node) runRaft(store *raftStore) (*engine, error) {
	generation, err := n.generation()
	if err != nil {
		return nil, err
	}
	e := &engine{
		store: store,
		local: serverID(n.cfg.Name, n.cfg.StoreID[:], generation),
		began: time.Now(),
		log:   n.log,
		wire:  newTransport(n.cfg.Door, n.cfg.Name, n.log),
	}
	e.ctx, e.end = context.WithCancel(n.ctx)
	if e.raft, err = raft.NewRaft(n.raftConfig(e.local), n.fsm, store.logs, store.logs, store.snaps, e.wire); err != nil {
		e.end()
		return nil, errors.Join(fmt.Errorf("start raft: %w", err), e.wire.Close())
	}
	return e, nil
}

func (n *Node) raftConfig(local raft.ServerID) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = local
	c.HeartbeatTimeout = n.cfg.Timing.Heartbeat
	c.ElectionTimeout = n.cfg.Timing.Election
	c.LeaderLeaseTimeout = n.cfg.Timing.Lease
	c.SnapshotInterval = n.cfg.Timing.SnapshotInterval
	c.SnapshotThreshold = n.cfg.Timing.SnapshotThreshold
	c.TrailingLogs = n.cfg.Timing.TrailingLogs
	// A removed node goes on serving its status: it can say why it is out.
	c.ShutdownOnRemove = false
	c.NoSnapshotRestoreOnStart = false
	c.NoLegacyTelemetry = true
	c.Logger = raftLogger(n.log)
	return c
}

// bootstrap makes this server the only voter of a new log.
func (e *engine) bootstrap(name string) error {
	return e.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{
		{Suffrage: raft.Voter, ID: e.local, Address: raft.ServerAddress(name)},
	}}).Error()
}

// startLoops starts what lives as long as the engine.
func (n *Node) startLoops(e *engine) {
	e.crew.Go(func() { n.beat(e.ctx, e) })
	e.crew.Go(func() { n.watchLeadership(e.ctx, e) })
	e.crew.Go(func() { n.seek(e.ctx, e) })
	e.crew.Go(func() { n.keepAddress(e.ctx) })
	e.crew.Go(func() { n.keepRoom(e.ctx) })
	e.crew.Go(func() { n.suspectLeader(e.ctx, e) })
	e.crew.Go(func() { n.feelPulse(e.ctx, e) })
	e.crew.Go(func() { n.remember(e.ctx) })
}

// halt stops Raft and leaves the disk open.
func (e *engine) halt() error {
	e.end()
	err := e.raft.Shutdown().Error()
	err = errors.Join(err, e.wire.Close())
	e.crew.Dismiss()
	if err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	return nil
}

// Close stops Raft and closes its disk.
func (e *engine) Close() error {
	return errors.Join(e.halt(), e.store.Close())
}

// noteTransfer remembers since when nothing but a transfer in progress was
// heard.
func (e *engine) noteTransfer(err error) {
	if errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		e.stuck.CompareAndSwap(0, time.Now().UnixNano())
		return
	}
	e.stuck.Store(0)
}

// isStuck says whether a leader has refused changes for longer than patience
// (hashicorp/raft#696).
func (e *engine) isStuck(now time.Time, patience time.Duration) bool {
	since := e.stuck.Load()
	return since != 0 && now.Sub(time.Unix(0, since)) > patience
}

// replaceEngine makes the Raft instance anew, in this process and on the same
// disk. The state stays published meanwhile.
func (n *Node) replaceEngine(old *engine) {
	n.forming.Lock()
	defer n.forming.Unlock()
	if n.ctx.Err() != nil || n.engine.Load() != old {
		return
	}
	n.restarts.Add(1)
	n.log.Error("leadership transfer does not end: raft is started anew", "after", n.cfg.Timing.Patience)
	if err := old.halt(); err != nil {
		n.log.Error("stop raft", "err", err)
	}
	e, err := n.runRaft(old.store)
	if err != nil {
		// State and samples are served on; changes need a restart.
		n.log.Error("raft cannot be started anew: restart this node", "err", err)
		return
	}
	n.engine.Store(e)
	n.startLoops(e)
}
