package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// watchLeadership runs the leader's loop for as long as this node leads.
func (n *Node) watchLeadership(ctx context.Context, e *engine) {
	whileLeading(ctx, e.raft.LeaderCh(), func(ctx context.Context) func() {
		n.log.Info("leadership gained")
		stop := n.startLeading(ctx, e)
		return func() {
			stop()
			n.log.Info("leadership lost")
		}
	})
}

// whileLeading begins at each true and stops what it began at the next word.
// The channel may merge "lost" and "gained" into another true: that begins
// anew, since another leader may have been at work in between.
func whileLeading(ctx context.Context, leads <-chan bool, begin func(context.Context) (stop func())) {
	stop := func() {}
	defer func() { stop() }()
	for {
		select {
		case <-ctx.Done():
			return
		case gained := <-leads:
			stop()
			stop = func() {}
			if gained {
				stop = begin(ctx)
			}
		}
	}
}

// startLeading starts the leader's loop; the returned func ends it and waits.
func (n *Node) startLeading(ctx context.Context, e *engine) func() {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	n.health.Forget()
	n.planned.Forget()
	n.pace.Forget()
	n.metrics.stepsLeft.Set(0)
	n.routed.Store(false)
	go func() {
		defer close(done)
		n.leaderLoop(ctx, e)
	}()
	return func() {
		cancel()
		<-done
	}
}

// leaderLoop looks for work now and then, and whenever something has changed.
// What it does follows from the state, Raft's configuration and what was heard
// since it began: any leader resumes what another left.
func (n *Node) leaderLoop(ctx context.Context, e *engine) {
	tick := time.NewTicker(n.cfg.Timing.Round)
	defer tick.Stop()
	expired := time.Now()
	caughtUp := false
	for {
		if why := n.fsm.Halted(); why != "" {
			if err := n.yield(ctx, e, why); err != nil && ctx.Err() == nil {
				n.log.Warn("leader: hand over", "err", err)
			}
		}
		if !caughtUp {
			_, err := n.barrierHere(ctx, e)
			caughtUp = err == nil
		}
		if caughtUp {
			n.reportHere(e)
			n.round(ctx, e)
		}
		if now := time.Now(); caughtUp && now.Sub(expired) >= n.cfg.Timing.Expire {
			expired = now
			n.expire(ctx, e, now)
		}
		n.watchStuck(ctx, e)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-n.rounds:
		case <-n.batchDue():
		}
	}
}

// round does each kind of work once.
func (n *Node) round(ctx context.Context, e *engine) {
	for _, work := range []struct {
		name string
		do   func(context.Context, *engine) error
	}{
		{"compare states", n.compareStates},
		{"hand over before the disk is full", n.fleeFullDisk},
		{"hand over before leaving", n.stepAside},
		{"reconcile raft's servers", n.reconcile},
		{"activate joined nodes", n.activate},
		{"choose voters", n.chooseVoters},
		{"place the CA's key", n.placeCAKey},
		{"retire the old CA", n.retireCA},
		{"close epochs", n.closeEnded},
		{"close routes", n.closeRoutes},
		{"move slots", n.moveSlots},
		{"let members go", n.tendDepartures},
		{"raise the cluster version", n.upgrade},
		{"check states", n.checkStates},
	} {
		if ctx.Err() != nil || e.raft.State() != raft.Leader {
			return
		}
		if err := work.do(ctx, e); err != nil && ctx.Err() == nil {
			n.log.Warn("leader: "+work.name, "err", err)
		}
	}
}

// commit makes a change on the leader's own account and tells the followers.
func (n *Node) commit(ctx context.Context, e *engine, cmd *clusterpb.Command) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Ask)
	defer cancel()
	if r := n.noRoom(); r != nil {
		return &RefusedError{r}
	}
	cmd.Actor, cmd.Source = "leader", n.cfg.Name
	res, err := e.apply(ctx, cmd)
	switch {
	case err != nil:
		return err
	case res.Refusal != nil:
		return &RefusedError{res.Refusal}
	}
	n.barrier.Start()
	n.rounds.Ring()
	return nil
}

// watchStuck looks whether a leader that refuses changes for a transfer in
// progress still does, and has its Raft instance made anew.
func (n *Node) watchStuck(ctx context.Context, e *engine) {
	if e.stuck.Load() == 0 {
		return
	}
	if _, err := n.barrierHere(ctx, e); err != nil && e.isStuck(time.Now(), n.cfg.Timing.Patience) {
		n.crew.Go(func() { n.replaceEngine(e) })
	}
}

// expire forgets what is over.
func (n *Node) expire(ctx context.Context, e *engine, now time.Time) {
	through := n.appliedByAll()
	cmd := &clusterpb.Command{Change: &clusterpb.Command_Expire{Expire: &clusterpb.Expire{
		TombstonesThrough:  &through,
		EpochsBeforeMs:     max(now.UnixMilli()-n.State().LongestRetention()-day, 0),
		TombstonesBeforeMs: max(now.UnixMilli()-30*day, 0),
		// Who sends an expired token is told so for a day.
		TokensBeforeMs: max(now.UnixMilli()-day, 0),
	}}}
	if err := n.commit(ctx, e, cmd); err != nil && ctx.Err() == nil {
		n.log.Warn("leader: expire", "err", err)
	}
}

// appliedByAll is the revision that every member has told this leader it has
// applied; 0 where one was not heard yet.
func (n *Node) appliedByAll() uint64 {
	st := n.State()
	least := st.Revision()
	for _, m := range st.Members() {
		c, _ := n.health.Of(m)
		least = min(least, c.report.GetApplied())
	}
	return least
}

// activate makes joining nodes active that have applied their own joining: they
// are reached, and they follow.
func (n *Node) activate(ctx context.Context, e *engine) error {
	st := n.State()
	for _, m := range st.Members() {
		if m.GetState() != clusterpb.MemberState_JOINING || !n.health.Live(m, time.Now()) {
			continue
		}
		c, ok := n.health.OfStore(m, st.Store(storeOf(m.GetStore())).GetId())
		if !ok || c.report.GetApplied() < m.GetVersion() {
			continue
		}
		err := n.commit(ctx, e, &clusterpb.Command{Change: &clusterpb.Command_ActivateMember{
			ActivateMember: &clusterpb.ActivateMember{Name: m.GetName(), Incarnation: m.GetIncarnation()},
		}})
		if err != nil {
			return fmt.Errorf("activate %s: %w", m.GetName(), err)
		}
	}
	return nil
}

// reconcile makes Raft's servers follow the members: those who are none go
// first, since a node with a new store has the address of the old one.
func (n *Node) reconcile(ctx context.Context, e *engine) error {
	st := n.State()
	if st.Cluster() == nil {
		return nil
	}
	want := map[raft.ServerID]*clusterpb.Member{}
	for _, m := range st.Members() {
		want[serverOf(st, m)] = m
	}
	conf := e.raft.GetConfiguration()
	for _, server := range conf.Configuration().Servers {
		_, known := want[server.ID]
		delete(want, server.ID)
		if known || server.ID == e.local {
			continue
		}
		// One change at a time, each on the configuration that was looked at.
		err := e.wait(ctx, e.raft.RemoveServer(server.ID, conf.Index(), n.cfg.Timing.Wait))
		if err != nil {
			return fmt.Errorf("remove %s: %w", nodeOf(server.ID), err)
		}
		n.log.Info("server removed from raft", "node", nodeOf(server.ID))
		n.rounds.Ring()
		return nil
	}
	for id, m := range want {
		err := e.wait(ctx, e.raft.AddNonvoter(id, raft.ServerAddress(m.GetName()), conf.Index(), n.cfg.Timing.Wait))
		if err != nil {
			return fmt.Errorf("add %s: %w", m.GetName(), err)
		}
		n.log.Info("server added to raft", "node", m.GetName())
		n.rounds.Ring()
		return nil
	}
	return nil
}

// keepAddress tells the cluster where this node is now, when that has changed.
func (n *Node) keepAddress(ctx context.Context) {
	tick := time.NewTicker(n.cfg.Timing.Report)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		cmd := n.addressChange()
		if cmd == nil {
			continue
		}
		answer, err := n.Propose(ctx, cmd)
		switch {
		case err == nil && answer.GetRefusal() != nil:
			n.log.Warn("new address refused", "err", answer.GetRefusal().GetMessage())
		case err == nil:
			n.log.Info("address changed", "address", n.cfg.Advertise())
		case ctx.Err() == nil && !errors.Is(err, ErrNoLeader):
			n.log.Warn("tell the new address", "err", err)
		}
	}
}

// addressChange is the command that puts this node's addresses right; nil where
// they are.
func (n *Node) addressChange() *clusterpb.Command {
	m := n.State().Member(n.cfg.Name)
	if m == nil {
		return nil
	}
	change := &clusterpb.UpdateMember{Name: m.GetName()}
	differs := false
	for _, a := range []struct {
		now, committed string
		field          **string
	}{
		{n.cfg.Advertise(), m.GetAddress(), &change.Address},
		{called(n.cfg.HTTPAddress), m.GetHttpAddress(), &change.HttpAddress},
		{called(n.cfg.WriteAddress), m.GetWriteAddress(), &change.WriteAddress},
		{called(n.cfg.StoreAddress), m.GetStoreAddress(), &change.StoreAddress},
	} {
		if a.now != "" && a.now != a.committed {
			*a.field = &a.now
			differs = true
		}
	}
	if !differs {
		return nil
	}
	return &clusterpb.Command{
		Actor: "node", Source: n.cfg.Name,
		Change: &clusterpb.Command_UpdateMember{UpdateMember: change},
	}
}
