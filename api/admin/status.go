package admin

import (
	"cmp"
	"context"
	"errors"
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
	// Warnings are what should be looked at and does not make it unhealthy.
	Warnings []string `json:"warnings,omitempty"`

	Raft raftStatus `json:"raft"`
	// ClusterVersion is what all members understand; SpokenVersion the newest
	// that all who are heard could.
	ClusterVersion uint32 `json:"cluster_version"`
	SpokenVersion  uint32 `json:"spoken_version"`
	Maintenance    bool   `json:"maintenance"`
	// Local says that this is what the node that answers knows by itself: there
	// is no leader to ask.
	Local bool `json:"local"`
}

// raftStatus is how many voters there are, are heard, and elect a leader.
type raftStatus struct {
	Voters int `json:"voters"`
	Heard  int `json:"heard"`
	Needed int `json:"needed"`
}

type ringStatus struct {
	Name              string `json:"name"`
	Revision          uint64 `json:"revision"`
	ReplicationFactor int    `json:"replication_factor"`
	Slots             int    `json:"slots"`
	Short             int    `json:"short"`
	Moving            int    `json:"moving"`
	// Move is how far its slots are on their way; absent: they are on none.
	Move *moveObject `json:"move,omitempty"`
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

	Ready          bool   `json:"ready"`
	NotReadyReason string `json:"not_ready_reason,omitempty"`
	Diverged       string `json:"diverged,omitempty"`
	ClockOffsetMS  int64  `json:"clock_offset_ms"`
	// CertificateDays is how many are left; -1 where it is not known.
	CertificateDays int `json:"certificate_days"`
	// RaftFreeBytes is the room for the control state, below RaftWantedBytes a
	// leader refuses changes.
	RaftFreeBytes   int64 `json:"raft_free_bytes"`
	RaftWantedBytes int64 `json:"raft_wanted_bytes"`
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
		o.Leader, o.Local = "", true
		problem("%s", staleText(stale))
		var alone *cluster.NoLeaderError
		if errors.As(stale, &alone) {
			problem("this is what %s knows by itself; samples are still written and read; %s", alone.Node, alone.Next())
		}
	case leader == "":
		problem("no leader is known")
	}
	held := map[ring.Store]int{}
	for _, r := range st.Rings() {
		rs := ringStatus{
			Name: r.Spec.GetName(), Revision: r.Spec.GetVersion(), ReplicationFactor: r.RF(),
			Slots: r.Table.Slots(), Short: r.Short(),
		}
		rs.Move, rs.Moving = moveOf(st, r, healths)
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
		if o.Local && n.Role == "leader" {
			n.Role = "voter" // it led a moment ago
		}
		if line := absent(n, heard[m.GetName()]); line != "" {
			problem("%s", line)
		} else {
			o.Warnings = append(o.Warnings, warnings(n, heard[m.GetName()])...)
		}
		if n.Diverged != "" {
			problem("%s: %s", n.Name, n.Diverged)
		}
		o.Nodes = append(o.Nodes, n)
	}
	o.ClusterVersion, o.SpokenVersion, o.Maintenance = st.Version(), spokenBy(healths), st.Settings().GetMaintenance()
	o.Raft = votersOf(heard)
	if o.Raft.Voters > 0 && o.Raft.Heard < o.Raft.Needed && stale == nil {
		problem("%d of %d voters are heard, %d are needed", o.Raft.Heard, o.Raft.Voters, o.Raft.Needed)
	}
	o.FailureTolerance = tolerance(st, heard)
	o.Healthy = len(o.Problems) == 0
	return o
}

// staleText is why the state may not be the newest, and on a node that was removed
// what to do.
func staleText(err error) string {
	var e *cluster.DismissedError
	if errors.As(err, &e) {
		return e.Error() + "; it takes no part any more. Next: " + e.Next()
	}
	return err.Error()
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
	n.Ready, n.NotReadyReason, n.Diverged = r.GetReady(), r.GetNotReadyReason(), cmp.Or(h.GetDiverged(), h.GetDisputed())
	n.ClockOffsetMS, n.CertificateDays = h.GetClockOffsetMs(), -1
	g := r.GetGuards()
	n.RaftFreeBytes, n.RaftWantedBytes = g.GetRaftFreeBytes(), g.GetRaftWantedBytes()
	if ms := g.GetCertificateExpiresMs(); ms != 0 {
		n.CertificateDays = max(int(time.Until(time.UnixMilli(ms)).Hours()/24), 0)
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

// votersOf counts them.
func votersOf(heard map[string]*clusterpb.Health) (r raftStatus) {
	for _, h := range heard {
		if h.GetRole() != "leader" && h.GetRole() != "voter" {
			continue
		}
		r.Voters++
		if alive(h) {
			r.Heard++
		}
	}
	r.Needed = r.Voters/2 + 1
	return r
}

// spokenBy is the newest cluster version that all who are heard could speak.
func spokenBy(healths []*clusterpb.Health) uint32 {
	var newest uint32
	for _, h := range healths {
		if v := max(h.GetReport().GetClusterVersionMax(), 1); alive(h) && (newest == 0 || v < newest) {
			newest = v
		}
	}
	return newest
}

// tolerance is never below 0: what has failed already, the problems tell.
func tolerance(st *cluster.State, heard map[string]*clusterpb.Health) int {
	v := votersOf(heard)
	raft := v.Heard - v.Needed
	slots := st.SlotTolerance(func(s ring.Store) bool {
		m := st.Holder(s)
		return m != nil && alive(heard[m.GetName()])
	})
	return max(0, min(raft, slots))
}

// absent says since when a node is not heard; "": it is.
func absent(n nodeStatus, h *clusterpb.Health) string {
	if h == nil {
		return n.Name + " has not been heard by the leader"
	}
	return silentText(n.Name, h)
}

// warnings are what should be looked at on a node that is heard, a line each.
func warnings(n nodeStatus, h *clusterpb.Health) (lines []string) {
	g := h.GetReport().GetGuards()
	say := func(format string, args ...any) { lines = append(lines, n.Name+": "+fmt.Sprintf(format, args...)) }
	if !n.Ready && n.NotReadyReason != n.Diverged && n.Leaving == "" {
		say("not ready: %s", n.NotReadyReason)
	}
	if n.RaftFreeBytes < n.RaftWantedBytes {
		say("%d MiB of disk left for the control state, %d wanted: it refuses changes where it leads", n.RaftFreeBytes>>20, n.RaftWantedBytes>>20)
	}
	if stalled := time.Duration(g.GetStalledMs()) * time.Millisecond; stalled >= longStall {
		say("Raft has not answered for %s: its disk may hang", stalled.Round(time.Second))
	}
	if off := time.Duration(n.ClockOffsetMS) * time.Millisecond; off.Abs() > maxClockOffset {
		say("its clock is %s off", off.Round(time.Second))
	}
	if n.CertificateDays >= 0 && n.CertificateDays < int(certificatesLeft.Hours()/24) {
		say("its certificate runs out in %d days: muster cert renew", n.CertificateDays)
	}
	return lines
}
