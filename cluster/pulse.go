package cluster

import (
	"context"
	"sync"
	"time"
)

// spell lets something be tried once in a while.
type spell struct {
	mu    sync.Mutex
	tried time.Time
}

// MayTry says whether it should be tried now.
func (s *spell) MayTry(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.tried) < handOverEvery {
		return false
	}
	s.tried = now
	return true
}

// pulse is the sign of life of Raft's main loop, which a disk that hangs stops.
type pulse struct {
	mu    sync.Mutex
	asked time.Time // zero: nothing is waited for
}

// Ask notes that a sign of life was asked for; false: one is waited for already.
func (p *pulse) Ask(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asked.IsZero() {
		return false
	}
	p.asked = now
	return true
}

// Answered ends the wait.
func (p *pulse) Answered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = time.Time{}
}

// Silent is how long the main loop has owed a sign of life.
func (p *pulse) Silent(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked.IsZero() {
		return 0
	}
	return max(now.Sub(p.asked), 0)
}

// feelPulse asks Raft's main loop for a sign of life, again and again. That it
// gives none is told, and no reason to stop: a disk that hangs may come back,
// and a node that is stopped would not take samples either.
func (n *Node) feelPulse(ctx context.Context, e *engine) {
	tick := time.NewTicker(n.cfg.Timing.Report)
	defer tick.Stop()
	told := false
	answers := make(chan error, 1)
	n.pulse.Answered() // what another engine owed
	for {
		select {
		case <-ctx.Done():
			return
		case <-answers: //nolint:errcheck // whatever it says, it lives
			n.pulse.Answered()
			if told {
				told = false
				n.log.Info("raft's main loop answers again")
			}
		case <-tick.C:
			if n.pulse.Ask(time.Now()) {
				// The main loop answers in every role: that it leads, or not.
				go answerOf(e.raft.VerifyLeader(), answers)
			}
		}
		if silent := n.pulse.Silent(time.Now()); !told && silent > n.cfg.Timing.Patience {
			told = true
			n.log.Error("raft's main loop does not answer: its disk may hang", "dir", n.raftDir(), "for", silent.Round(time.Second))
		}
	}
}
