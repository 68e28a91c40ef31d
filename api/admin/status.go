package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// statusObject is how the cluster is.
type statusObject struct {
	Cluster string `json:"cluster"`
	Healthy bool   `json:"healthy"`
	// FailureTolerance is how many more nodes may fail, whichever they are,
	// before Raft or some slot loses its quorum.
	FailureTolerance int          `json:"failure_tolerance"`
	Leader           string       `json:"leader"`
	Revision         uint64       `json:"revision"`
	Rings            []ringStatus `json:"rings"`
	Nodes            []nodeStatus `json:"nodes"`
	// Problems are the reasons why it is not healthy, a line each.
	Problems []string `json:"problems,omitempty"`
}

type ringStatus struct {
	Name              string `json:"name"`
	Revision          uint64 `json:"revision"`
	ReplicationFactor int    `json:"replication_factor"`
	Slots             int    `json:"slots"`
	Short             int    `json:"short"`
	Moving            int    `json:"moving"`
}

type nodeStatus struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Zone    string `json:"zone"`
	State   string `json:"state"`
	Role    string `json:"role"`
	// LastContactMS is -1 for a node that the leader has not heard.
	LastContactMS int64  `json:"last_contact_ms"`
	Applied       uint64 `json:"applied"`
	Lag           uint64 `json:"lag"`
	Slots         int    `json:"slots"` // replicas over all rings
	Series        int64  `json:"series"`
	DiskFreeBytes int64  `json:"disk_free_bytes"`
	Version       string `json:"version"`
	// Leaving tells of a node that drains or is being removed how far that is.
	Leaving string `json:"leaving,omitempty"`
}

// healthyContact is how long ago a member of a healthy cluster was heard at most.
const healthyContact = 10 * time.Second

// status answers also where no leader is known: then it is what people look at.
func (a *api) status(w http.ResponseWriter, r *http.Request) {
	local, err := isLocal(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	var stale error
	if !local {
		ctx, cancel := context.WithTimeout(r.Context(), a.cfg.ReadTimeout)
		_, stale = a.node.Barrier(ctx)
		cancel()
	}
	st := a.node.State()
	if st.Cluster() == nil {
		a.fail(w, r, cluster.ErrNoCluster)
		return
	}
	leader, _ := a.node.Leader()
	a.stamp(w, r, st)
	send(w, http.StatusOK, statusOf(st, a.node.Health(), leader, stale))
}

// statusOf judges what the leader has heard. stale is why the state may not be
// the newest; nil: it is.
func statusOf(st *cluster.State, healths []*clusterpb.Health, leader string, stale error) statusObject {
	heard := map[string]*clusterpb.Health{}
	for _, h := range healths {
		heard[h.GetReport().GetNode()] = h
	}
	o := statusObject{
		Cluster: st.Cluster().GetName(), Leader: leader, Revision: st.Revision(),
		Rings: []ringStatus{}, Nodes: []nodeStatus{},
	}
	problem := func(format string, args ...any) { o.Problems = append(o.Problems, fmt.Sprintf(format, args...)) }
	switch {
	case stale != nil:
		o.Leader = ""
		problem("%v", stale)
	case leader == "":
		problem("no leader is known")
	}
	held := map[ring.Store]int{}
	for _, r := range st.Rings() {
		rs := ringStatus{
			Name: r.Spec.GetName(), Revision: r.Spec.GetVersion(), ReplicationFactor: r.RF(),
			Slots: r.Table.Slots(), Short: r.Short(), Moving: st.Moving(r),
		}
		if rs.Short > 0 {
			problem("ring %s: %d of %d slots have fewer than %d replicas", rs.Name, rs.Short, rs.Slots, rs.ReplicationFactor)
		}
		if n := r.BelowQuorum(); n > 0 {
			problem("ring %s: writes to %d of %d slots get 503, they are below their quorum", rs.Name, n, rs.Slots)
		}
		o.Rings = append(o.Rings, rs)
		for store, n := range r.Table.Held() {
			held[store] += n
		}
	}
	for _, m := range st.Members() {
		n := nodeOf(st, m, heard[m.GetName()])
		n.Slots = held[ring.Store(m.GetStore())]
		n.Leaving = leavingText(st, m, healths)
		switch {
		case n.LastContactMS < 0:
			problem("%s has not been heard by the leader", n.Name)
		case n.LastContactMS > healthyContact.Milliseconds():
			problem("%s was last heard %s ago", n.Name, time.Duration(n.LastContactMS*1e6).Round(time.Second))
		}
		o.Nodes = append(o.Nodes, n)
	}
	for _, line := range diverged(healths) {
		problem("%s", line)
	}
	o.FailureTolerance = tolerance(st, heard)
	o.Healthy = len(o.Problems) == 0
	return o
}

func nodeOf(st *cluster.State, m *clusterpb.Member, h *clusterpb.Health) nodeStatus {
	r := h.GetReport()
	n := nodeStatus{
		Name: m.GetName(), Address: m.GetAddress(), Zone: m.GetZone(), State: memberState(m.GetState()),
		Role: h.GetRole(), LastContactMS: -1, Applied: r.GetApplied(), Series: r.GetSeries(),
		DiskFreeBytes: r.GetDiskFreeBytes(), Version: r.GetVersion(),
	}
	if h != nil {
		n.LastContactMS = h.GetLastContactMs()
	}
	if st.Revision() > n.Applied {
		n.Lag = st.Revision() - n.Applied
	}
	return n
}

// alive says whether the leader has heard a node lately.
func alive(h *clusterpb.Health) bool {
	return h != nil && h.GetLastContactMs() >= 0 && h.GetLastContactMs() <= healthyContact.Milliseconds()
}

// tolerance is never below 0: what has failed already, the problems tell.
func tolerance(st *cluster.State, heard map[string]*clusterpb.Health) int {
	voters, live := 0, 0
	for _, h := range heard {
		if h.GetRole() != "leader" && h.GetRole() != "voter" {
			continue
		}
		voters++
		if alive(h) {
			live++
		}
	}
	raft := live - (voters/2 + 1)
	slots := st.SlotTolerance(func(s ring.Store) bool {
		m := st.Holder(s)
		return m != nil && alive(heard[m.GetName()])
	})
	return max(0, min(raft, slots))
}

// diverged compares the hashes that nodes report of their states at one revision.
func diverged(healths []*clusterpb.Health) []string {
	type report struct {
		node string
		hash uint64
	}
	first := map[uint64]report{}
	var lines []string
	for _, h := range healths {
		r := h.GetReport()
		if r.GetStateHash() == 0 || !alive(h) {
			continue
		}
		seen, ok := first[r.GetApplied()]
		if !ok {
			first[r.GetApplied()] = report{r.GetNode(), r.GetStateHash()}
			continue
		}
		if seen.hash != r.GetStateHash() {
			lines = append(lines, fmt.Sprintf("the control states of %s and %s differ at revision %d", seen.node, r.GetNode(), r.GetApplied()))
		}
	}
	return lines
}
