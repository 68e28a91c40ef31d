package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// planned is what a leader remembers of its plans. A new leader remembers
// nothing and finds out again.
type planned struct {
	mu      sync.Mutex
	began   time.Time
	rings   map[uint64]plan
	finding string // what the last comparison of states has found

	spoken  uint32 // a newer cluster version that all members speak
	since   time.Time
	checked uint64 // revision of the last check of states
	looked  time.Time
}

// plan is where the slots of one ring are going, as long as its move was asked
// for at that revision and its nodes and replicas are these.
type plan struct {
	asked  uint64
	nodes  []ring.Node
	rf     int
	target []ring.Set
}

func newPlanned() *planned { return &planned{began: time.Now(), rings: map[uint64]plan{}} }

// Forget begins a new leadership.
func (p *planned) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began = time.Now()
	p.finding = ""
	p.spoken, p.checked, p.looked = 0, 0, time.Now()
	clear(p.rings)
}

// Spoken notes the newer version that all members speak now, 0 for none, and
// says since when.
func (p *planned) Spoken(version uint32, now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spoken != version {
		p.spoken, p.since = version, now
	}
	return p.since
}

// CheckDue says whether the states should be checked now: some time after the
// last check, where something has changed since.
func (p *planned) CheckDue(revision uint64, every time.Duration, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if revision <= p.checked || now.Sub(p.looked) < every {
		return false
	}
	p.looked = now
	return true
}

// Checked notes the revision of a check.
func (p *planned) Checked(revision uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checked = max(p.checked, revision)
}

// Finding keeps what a comparison has found and returns what the one before it
// had.
func (p *planned) Finding(now string) (before string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, p.finding = p.finding, now
	return before
}

// Began is when this leadership began.
func (p *planned) Began() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.began
}

func (p *planned) Of(id uint64) plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rings[id]
}

func (p *planned) Set(id uint64, to plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rings[id] = to
}

// stepsOf are the next steps that give no slot to a store that may not gain, and
// take none from a store that is not lost where nobody is there to replace it:
// then the ring has too few nodes, and whoever wants to leave waits.
func stepsOf(st *State, r *Ring, target []ring.Set, may map[ring.Store]bool) []ring.Step {
	steps := ring.NextSteps(r.Table, target, r.Quorum())
	return slices.DeleteFunc(steps, func(s ring.Step) bool {
		old := r.Table.At(s.Slot).Replicas
		if s.Replicas.Len() < min(old.Len(), r.RF()) && !onlyLost(st, old, s.Replicas) {
			return true
		}
		for i := range s.Replicas.Len() {
			if to := s.Replicas.At(i); !old.Has(to) && !may[to] {
				return true
			}
		}
		return false
	})
}

// mayGain are the stores that may be given slots: their nodes were heard a
// moment ago and have announced the revision that made them active.
func (n *Node) mayGain(st *State) map[ring.Store]bool {
	may := map[ring.Store]bool{}
	for _, h := range n.Health() {
		m := st.Member(h.GetReport().GetNode())
		switch r := h.GetReport(); {
		case m == nil || m.GetIncarnation() != r.GetIncarnation():
		case h.GetLastContactMs() < 0 || h.GetLastContactMs() > n.cfg.Timing.Fresh.Milliseconds():
		case r.GetAnnounced() < m.GetActivated():
		case string(st.Store(storeOf(m.GetStore())).GetId()) != string(r.GetStoreId()):
		default:
			may[storeOf(m.GetStore())] = true
		}
	}
	return may
}

func moveCommand(r *Ring, steps []ring.Step) *clusterpb.Command {
	move := &clusterpb.MoveSlots{Ring: r.Spec.GetId(), Steps: make([]*clusterpb.SlotStep, 0, len(steps))}
	for _, s := range steps {
		step := &clusterpb.SlotStep{Slot: uint32(s.Slot), Quorum: uint32(s.Quorum), Base: s.Base}
		for i := range s.Replicas.Len() {
			step.Replicas = append(step.Replicas, uint32(s.Replicas.At(i)))
		}
		move.Steps = append(move.Steps, step)
	}
	return &clusterpb.Command{Change: &clusterpb.Command_MoveSlots{MoveSlots: move}}
}

// closeEnded commits the closing of ended epochs in which no write can begin any
// more, as the announced revisions tell.
func (n *Node) closeEnded(ctx context.Context, e *engine) error {
	st := n.State()
	announced := n.announcements(st)
	for _, r := range st.AllRings() {
		var keys []*clusterpb.EpochKey
		for _, epoch := range r.Table.Open() {
			if epoch.Closable(func(s ring.Store) uint64 { return announced[s] }, st.Lost) {
				keys = append(keys, &clusterpb.EpochKey{Slot: uint32(epoch.Slot), To: epoch.To})
			}
		}
		if len(keys) == 0 {
			continue
		}
		err := n.commit(ctx, e, &clusterpb.Command{Change: &clusterpb.Command_CloseEpochs{
			CloseEpochs: &clusterpb.CloseEpochs{Ring: r.Spec.GetId(), Epochs: keys},
		}})
		if err != nil {
			return fmt.Errorf("ring %s: %w", r.Spec.GetName(), err)
		}
	}
	return nil
}

// announcements are the newest revisions below which stores have no share in
// flight, as far as this leader has heard. What was announced once stays true.
func (n *Node) announcements(st *State) map[ring.Store]uint64 {
	out := map[ring.Store]uint64{}
	for _, m := range st.Members() {
		if c, ok := n.health.OfStore(m, st.Store(storeOf(m.GetStore())).GetId()); ok {
			out[storeOf(m.GetStore())] = c.report.GetAnnounced()
		}
	}
	return out
}
