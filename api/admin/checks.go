package admin

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// What counts as too much or too little.
const (
	maxClockOffset = 30 * time.Second
	// certificatesLeft is less than a renewal in time ever leaves.
	certificatesLeft = 5 * 24 * time.Hour
	longOpen         = time.Hour
	oldSnapshot      = 26 * time.Hour // one is written each day
	oldTombstone     = 31 * 24 * time.Hour
	longStall        = 10 * time.Second
	// shareBytes is the room on its disk below which a node refuses shares.
	shareBytes = 256 << 20
)

// result is a check: fine where nothing was found, else what was found.
func result(name, fine string, found []string, next string) check {
	if len(found) == 0 {
		return check{Name: name, OK: true, Detail: fine}
	}
	return check{Name: name, Detail: strings.Join(found, "; "), Next: next}
}

// each collects what f finds of each member's health.
func (s seen) each(f func(name string, h *clusterpb.Health) string) (found []string) {
	for _, m := range s.st.Members() {
		if what := f(m.GetName(), s.of(m.GetName())); what != "" {
			found = append(found, what)
		}
	}
	return found
}

// of is what is known of a member; never nil.
func (s seen) of(name string) *clusterpb.Health {
	for _, h := range s.healths {
		if h.GetReport().GetNode() == name {
			return h
		}
	}
	return &clusterpb.Health{Report: &clusterpb.Report{Node: name}, LastContactMs: -1}
}

func (s seen) leadership() check {
	var alone *cluster.NoLeaderError
	switch {
	case errors.As(s.stale, &alone):
		return check{Name: "leader", Detail: alone.Error(), Next: alone.Next()}
	case s.stale != nil:
		return check{Name: "leader", Detail: s.stale.Error(), Next: "muster cluster status"}
	case s.leader == "":
		return check{Name: "leader", Detail: "none is known", Next: "ask again: an election takes a few seconds"}
	default:
		return check{Name: "leader", OK: true, Detail: s.leader}
	}
}

func (s seen) contact() check {
	found := s.each(func(name string, h *clusterpb.Health) string { return silentText(name, h) })
	next := "look at these nodes: systemctl status muster"
	if s.stale == nil { // without a leader nobody is removed
		next += "; one that is gone for good: muster cluster remove NODE --force"
	}
	return result("contact", fmt.Sprintf("all %d nodes were heard in the last %s", len(s.st.Members()), healthyContact), found, next)
}

// silentText says since when a node is not heard; "": it is.
func silentText(name string, h *clusterpb.Health) string {
	switch ms := h.GetLastContactMs(); {
	case ms < 0:
		return name + " has not been heard by the leader"
	case ms > healthyContact.Milliseconds():
		return fmt.Sprintf("%s was last heard %s ago", name, time.Duration(ms*1e6).Round(time.Second))
	default:
		return ""
	}
}

func (s seen) readiness() check {
	found := s.each(func(name string, h *clusterpb.Health) string {
		if !alive(h) || h.GetReport().GetReady() {
			return ""
		}
		return name + ": " + h.GetReport().GetNotReadyReason()
	})
	return result("readiness", "all nodes that are heard are ready", found, "see /-/ready and the log of these nodes")
}

func (s seen) hashes() check {
	const next = "a node that differs from the majority of voters fetches its state anew by itself; without a majority compare `muster cluster events` and restore a snapshot"
	hash, at := uint64(0), ""
	found := s.each(func(name string, h *clusterpb.Health) string {
		r := h.GetReport()
		switch {
		case h.GetDiverged() != "":
			return name + ": " + h.GetDiverged()
		case h.GetDisputed() != "":
			return name + ": " + h.GetDisputed()
		case !alive(h) || s.checked == 0:
			return ""
		case r.GetCheckRevision() < s.checked:
			return fmt.Sprintf("%s has not reported its state at revision %d", name, s.checked)
		case r.GetCheckRevision() > s.checked:
			return "" // another check came in between; the leader compares it
		case at == "":
			hash, at = r.GetCheckHash(), name
		case hash != r.GetCheckHash():
			return fmt.Sprintf("%s and %s differ at revision %d", at, name, s.checked)
		}
		return ""
	})
	fine := fmt.Sprintf("equal on all nodes that are heard: %016x at revision %d", hash, s.checked)
	switch {
	case s.checked == 0:
		fine = "not compared: that needs a leader; no difference is known"
	case at == "":
		fine = fmt.Sprintf("equal on all nodes that are heard, as the leader's checks after revision %d say", s.checked)
	}
	return result("state", fine, found, next)
}

func (s seen) servers() check {
	var found []string
	if len(s.roster.Absent) > 0 {
		found = append(found, "members that are no servers of Raft: "+strings.Join(s.roster.Absent, ", "))
	}
	if len(s.roster.Stray) > 0 {
		found = append(found, "servers of Raft that are no members: "+strings.Join(s.roster.Stray, ", "))
	}
	return result("servers", fmt.Sprintf("Raft's %d servers are the members", len(s.st.Members())), found,
		"the leader puts it right within seconds; if not, see its log")
}

func (s seen) voters() check {
	var found []string
	heard := 0
	for _, h := range s.healths {
		if (h.GetRole() == "leader" || h.GetRole() == "voter") && alive(h) {
			heard++
		}
	}
	need := s.roster.Voters/2 + 1
	switch {
	case heard < need:
		found = append(found, fmt.Sprintf("%d of %d voters are heard, %d are needed", heard, s.roster.Voters, need))
	case s.roster.Voters < s.roster.Wanted:
		found = append(found, fmt.Sprintf("%d voters, %d are wanted", s.roster.Voters, s.roster.Wanted))
	case heard < s.roster.Voters:
		found = append(found, fmt.Sprintf("%d of %d voters are heard", heard, s.roster.Voters))
	}
	return result("voters", fmt.Sprintf("%d, all heard; %d more may fail", s.roster.Voters, heard-need), found,
		"start the nodes that are not heard; a node that is heard and stable gets a vote by itself")
}

func (s seen) coverage() check {
	var found, fine []string
	for _, r := range s.st.Rings() {
		name := r.Spec.GetName()
		if n := r.Short(); n > 0 {
			found = append(found, fmt.Sprintf("ring %s: %d of %d slots have fewer than %d replicas", name, n, r.Table.Slots(), r.RF()))
		}
		if n := r.BelowQuorum(); n > 0 {
			found = append(found, fmt.Sprintf("ring %s: writes to %d of %d slots get 503, they are below their quorum", name, n, r.Table.Slots()))
		}
		twice, narrow := s.spread(r)
		if twice > 0 {
			found = append(found, fmt.Sprintf("ring %s: %d slots have two replicas on one node", name, twice))
		}
		text := fmt.Sprintf("ring %s: %d slots with %d replicas on distinct nodes", name, r.Table.Slots(), r.RF())
		if narrow > 0 {
			text += fmt.Sprintf(", %d of them in fewer zones than there are", narrow)
		}
		fine = append(fine, text)
	}
	return result("rings", strings.Join(fine, "; "), found, "muster ring show; join nodes, or lower the replication factor: muster ring set NAME --replication-factor N")
}

// spread counts the slots with two replicas on one node, and those in fewer
// zones than there are.
func (s seen) spread(r *cluster.Ring) (twice, narrow int) {
	zones := map[string]bool{}
	for _, n := range s.st.Eligible(r) {
		zones[n.Zone] = true
	}
	for i := range r.Table.Slots() {
		replicas := r.Table.At(i).Replicas
		nodes, in := map[string]bool{}, map[string]bool{}
		for k := range replicas.Len() {
			m := s.st.Holder(replicas.At(k))
			nodes[s.st.Store(replicas.At(k)).GetNode()] = true
			in[m.GetZone()] = true
		}
		if len(nodes) < replicas.Len() {
			twice++
		}
		if len(in) < min(len(zones), replicas.Len()) {
			narrow++
		}
	}
	return twice, narrow
}

func (s seen) epochs() check {
	var found []string
	open := 0
	for _, r := range s.st.AllRings() {
		old, holders := 0, map[string]bool{}
		for _, e := range r.Table.Open() {
			open++
			if s.now.Sub(time.UnixMilli(e.End)) < longOpen {
				continue
			}
			old++
			for _, name := range s.owing(e) {
				holders[name] = true
			}
		}
		if old > 0 {
			found = append(found, fmt.Sprintf("ring %s: %d periods ended more than %s ago and are open, held up by %s",
				r.Spec.GetName(), old, longOpen, listed(holders)))
		}
	}
	return result("epochs", fmt.Sprintf("%d open", open), found,
		"start these nodes; one that is gone for good: muster cluster remove NODE --force. Until then their slots do not move; writes go on")
}

// owing are the nodes that have not announced the end of an epoch.
func (s seen) owing(e ring.Epoch) (names []string) {
	for k := range e.Replicas.Len() {
		store := e.Replicas.At(k)
		node := s.st.Store(store).GetNode()
		if !s.st.Lost(store) && s.of(node).GetReport().GetAnnounced() < e.To {
			names = append(names, node)
		}
	}
	return names
}

func listed(names map[string]bool) string {
	var out []string
	for n := range names {
		out = append(out, n)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func (s seen) clocks() check {
	var widest time.Duration
	found := s.each(func(name string, h *clusterpb.Health) string {
		off := time.Duration(h.GetClockOffsetMs()) * time.Millisecond
		if !alive(h) {
			return ""
		}
		widest = max(widest, off.Abs())
		if off.Abs() <= maxClockOffset {
			return ""
		}
		return fmt.Sprintf("%s is %s off the leader", name, off.Round(time.Second))
	})
	return result("clocks", fmt.Sprintf("within %s of the leader's", widest.Round(time.Millisecond)), found, "set the clocks of these nodes: chronyc tracking, or timedatectl")
}

func (s seen) certificates() check {
	least := time.Duration(1<<63 - 1)
	found := s.each(func(name string, h *clusterpb.Health) string {
		ms := h.GetReport().GetGuards().GetCertificateExpiresMs()
		if ms == 0 {
			return ""
		}
		left := time.UnixMilli(ms).Sub(s.now)
		least = min(least, left)
		switch {
		case left <= 0:
			return fmt.Sprintf("%s: ran out at %s", name, momentText(time.UnixMilli(ms)))
		case left < certificatesLeft:
			return fmt.Sprintf("%s: runs out in %s", name, left.Round(time.Minute))
		default:
			return ""
		}
	})
	return result("certificates", fmt.Sprintf("the first runs out in %s", daysText(least)), found, "on these nodes: muster cert renew")
}

func daysText(d time.Duration) string { return fmt.Sprintf("%d days", int(d.Hours()/24)) }

func (s seen) disks() check {
	least := int64(1<<63 - 1)
	found := s.each(func(name string, h *clusterpb.Health) string {
		r := h.GetReport()
		g := r.GetGuards()
		if !alive(h) || g == nil {
			return ""
		}
		least = min(least, g.GetRaftFreeBytes(), r.GetDiskFreeBytes())
		switch {
		case g.GetRaftFreeBytes() < g.GetRaftWantedBytes():
			text := fmt.Sprintf("%s: %d MiB left for the control state, %d wanted", name, g.GetRaftFreeBytes()>>20, g.GetRaftWantedBytes()>>20)
			if g.GetBallastGivenUp() {
				text += ", the ballast is given up"
			}
			return text
		case r.GetDiskFreeBytes() < shareBytes:
			return fmt.Sprintf("%s: %d MiB left for samples, %d wanted", name, r.GetDiskFreeBytes()>>20, shareBytes>>20)
		default:
			return ""
		}
	})
	return result("disks", fmt.Sprintf("at least %d MiB left", least>>20), found, "make room on the disks of these nodes")
}

func (s seen) loops() check {
	found := s.each(func(name string, h *clusterpb.Health) string {
		stalled := time.Duration(h.GetReport().GetGuards().GetStalledMs()) * time.Millisecond
		if !alive(h) || stalled < longStall {
			return ""
		}
		return fmt.Sprintf("%s: Raft has not answered for %s", name, stalled.Round(time.Second))
	})
	return result("raft", "answers on all nodes that are heard", found, "look at the disks of these nodes: one may hang")
}

func (s seen) versions() check {
	software := map[string]bool{}
	found := s.each(func(name string, h *clusterpb.Health) string {
		if v := h.GetReport().GetVersion(); v != "" {
			software[v] = true
		}
		if why := h.GetReport().GetGuards().GetHalted(); why != "" {
			return name + ": " + why
		}
		return ""
	})
	fine := fmt.Sprintf("cluster version %d, software %s", s.st.Version(), listed(software))
	return result("versions", fine, found, "start the newer release on these nodes")
}

func (s seen) snapshots() check {
	var newest int64
	for _, h := range s.healths {
		newest = max(newest, h.GetReport().GetSnapshotMs())
	}
	const next = "see the log of the leader; meanwhile: muster snapshot save FILE"
	age := s.now.Sub(time.UnixMilli(newest))
	switch made := s.now.Sub(time.UnixMilli(s.st.Cluster().GetCreatedMs())); {
	case newest == 0 && made < oldSnapshot:
		return check{Name: "snapshots", OK: true, Detail: "none yet: the cluster is younger than a day"}
	case newest == 0:
		return check{Name: "snapshots", Detail: "no node that is heard has one", Next: next}
	case age > oldSnapshot:
		return check{Name: "snapshots", Detail: fmt.Sprintf("the newest is %s old", age.Round(time.Hour)), Next: next}
	default:
		return check{Name: "snapshots", OK: true, Detail: fmt.Sprintf("the newest is %s old", age.Round(time.Minute))}
	}
}

func (s seen) tombstones() check {
	n, old := 0, 0
	s.st.WalkTombstones(func(t *clusterpb.Tombstone) bool {
		n++
		if s.now.Sub(time.UnixMilli(t.GetTimeMs())) > oldTombstone {
			old++
		}
		return true
	})
	var found []string
	if old > 0 {
		found = append(found, fmt.Sprintf("%d of %d are older than 30 days: some member has not applied the deletion", old, n))
	}
	return result("tombstones", fmt.Sprintf("%d", n), found, "start the nodes that are not heard, or remove them")
}
