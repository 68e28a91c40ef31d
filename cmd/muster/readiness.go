package main

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// maxClockOffset is how far this node's clock may lie from the cluster's.
const maxClockOffset = 30 * time.Second

// readiness is why a node is not ready. It does not depend on the leader.
type readiness struct {
	node *node

	mu       sync.Mutex
	replayed bool
	draining bool
}

func (r *readiness) setReplayed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.replayed = true
}

// isReplayed says whether the tenants' logs have been read.
func (r *readiness) isReplayed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.replayed
}

func (r *readiness) setDraining() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
}

// failed lists the checks that fail, a line each.
func (r *readiness) failed() []string {
	r.mu.Lock()
	replayed, draining := r.replayed, r.draining
	r.mu.Unlock()
	var lines []string
	st := r.node.cluster.State()
	switch {
	case st.Cluster() == nil:
		return []string{"belongs to no cluster: run `muster cluster init` here, or `muster cluster join`"}
	case r.node.cluster.Standing() != nil:
		lines = append(lines, dismissed(r.node.cluster.Standing()))
	case st.Member(r.node.cfg.Name) == nil:
		lines = append(lines, "is not a member yet")
	case st.Member(r.node.cfg.Name).GetState() == clusterpb.MemberState_JOINING:
		lines = append(lines, "is joining")
	case st.Member(r.node.cfg.Name).GetState() == clusterpb.MemberState_REMOVING:
		lines = append(lines, "is being removed from the cluster")
	case r.node.cluster.Drains():
		lines = append(lines, r.drained())
	}
	if !replayed {
		lines = append(lines, "tenants' logs are being replayed")
	}
	if line := r.clock(); line != "" {
		lines = append(lines, line)
	}
	lines = append(lines, r.node.cluster.Ailments()...)
	if draining {
		lines = append(lines, "is stopping")
	}
	return lines
}

// clock is what is wrong with this node's clock.
func (r *readiness) clock() string {
	off := r.node.cluster.ClockOffset()
	if off <= maxClockOffset && off >= -maxClockOffset {
		return ""
	}
	return fmt.Sprintf("the clock of %s is %v off the cluster's median, %v at most are allowed: set it right (is NTP running?)",
		r.node.cfg.Name, off.Round(time.Second), maxClockOffset)
}

// refusesWrites is why the write door is shut; "" where it is open. Samples are
// judged by this node's clock, placed by its state, and acknowledged in its name.
func (r *readiness) refusesWrites() string {
	if r.node.cluster.State().Cluster() == nil {
		return "this node belongs to no cluster yet: run `muster cluster init` or `muster cluster join`"
	}
	if err := r.node.cluster.Standing(); err != nil {
		return err.Error()
	}
	if r.node.cluster.Drains() {
		return r.drained()
	}
	if why := r.node.cluster.Doubt(); why != "" {
		return "its control state is being fetched anew from the leader: " + why
	}
	return r.clock()
}

// drained is what a drained node says.
func (r *readiness) drained() string {
	return fmt.Sprintf("is draining: stop it, or end the drain with `muster cluster undrain %s`", r.node.cfg.Name)
}

// dismissed says that this node was removed, and what brings its machine back.
func dismissed(err error) string {
	var e *cluster.DismissedError
	if errors.As(err, &e) {
		return e.Error() + "; it takes no part any more. Next: " + e.Next()
	}
	return err.Error()
}

// err is nil when the node is ready.
func (r *readiness) err() error {
	if lines := r.failed(); len(lines) > 0 {
		return fmt.Errorf("not ready: %s", lines[0])
	}
	return nil
}

// ServeHTTP answers /-/ready.
func (r *readiness) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	lines := r.failed()
	if len(lines) == 0 {
		fmt.Fprintln(w, "ready")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	for _, l := range lines {
		fmt.Fprintln(w, l)
	}
}
