package admin

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// wellSeen is a cluster of one node in which all is well, as a verification
// sees it.
func wellSeen(t *testing.T) seen {
	t.Helper()
	b := newCluster(t)
	st := b.node.State()
	now := time.Now()
	return seen{
		st: st, leader: "n1", checked: 9, now: now, roster: cluster.Roster{Voters: 1, Wanted: 1},
		healths: []*clusterpb.Health{{Role: "leader", Report: &clusterpb.Report{
			Node: "n1", Ready: true, Version: "1.2.3", Announced: 1 << 40, CheckRevision: 9, CheckHash: 5, DiskFreeBytes: 1 << 30, SnapshotMs: now.UnixMilli(),
			Guards: &clusterpb.Guards{RaftFreeBytes: 1 << 30, RaftWantedBytes: 64 << 20, CertificateExpiresMs: now.Add(20 * 24 * time.Hour).UnixMilli()},
		}}},
	}
}

func TestEachCheckCanFail(t *testing.T) {
	well := wellSeen(t)
	for _, c := range well.verdict().Checks {
		if !c.OK || c.Detail == "" {
			t.Errorf("all is well, but %s: %s", c.Name, c.Detail)
		}
	}
	r := func(s seen) *clusterpb.Report { return s.healths[0].GetReport() }
	covered := map[string]bool{}
	for _, c := range []struct {
		check, says string
		spoil       func(*seen)
	}{
		{"leader", "none is known", func(s *seen) { s.leader = "" }},
		{"leader", "1 voters, 1 needed, 0 reachable; missing n9", func(s *seen) {
			s.stale = &cluster.NoLeaderError{Voters: []cluster.Voter{{Name: "n9", Missing: true}}}
		}},
		{"contact", "n1 was last heard 20s ago", func(s *seen) { s.healths[0].LastContactMs = 20_000 }},
		{"contact", "n1 has not been heard", func(s *seen) { s.healths = nil }},
		{"readiness", "n1: tenants' logs", func(s *seen) { r(*s).Ready, r(*s).NotReadyReason = false, "tenants' logs are being replayed" }},
		{"state", "n1: it differs", func(s *seen) { s.healths[0].Diverged = "it differs" }},
		{"state", "none is the majority's", func(s *seen) { s.healths[0].Disputed = "none is the majority's" }},
		{"state", "has not reported its state at revision 9", func(s *seen) { r(*s).CheckRevision = 8 }},
		{"servers", "no servers of Raft: n2", func(s *seen) { s.roster.Absent = []string{"n2"} }},
		{"servers", "no members: n3", func(s *seen) { s.roster.Stray = []string{"n3"} }},
		{"voters", "1 voters, 3 are wanted", func(s *seen) { s.roster.Wanted = 3 }},
		{"voters", "1 of 3 voters are heard, 2 are needed", func(s *seen) { s.roster.Voters, s.roster.Wanted = 3, 3 }},
		{"clocks", "n1 is -42s off", func(s *seen) { s.healths[0].ClockOffsetMs = -42_000 }},
		{"certificates", "n1: runs out in 48h0m", func(s *seen) {
			r(*s).Guards.CertificateExpiresMs = s.now.Add(48 * time.Hour).UnixMilli()
		}},
		{"certificates", "n1: ran out at 20", func(s *seen) { r(*s).Guards.CertificateExpiresMs = 1e12 }},
		{"disks", "12 MiB left for the control state, 64 wanted, the ballast is given up", func(s *seen) {
			r(*s).Guards.RaftFreeBytes, r(*s).Guards.BallastGivenUp = 12<<20, true
		}},
		{"disks", "100 MiB left for samples, 256 wanted", func(s *seen) { r(*s).DiskFreeBytes = 100 << 20 }},
		{"raft", "n1: Raft has not answered for 15s", func(s *seen) { r(*s).Guards.StalledMs = 15_000 }},
		{"versions", "n1: log entry 5", func(s *seen) { r(*s).Guards.Halted = "log entry 5" }},
		{"snapshots", "30h", func(s *seen) { r(*s).SnapshotMs = s.now.Add(-30 * time.Hour).UnixMilli() }},
		{"snapshots", "no node that is heard has one", func(s *seen) {
			r(*s).SnapshotMs = 0
			s.now = s.now.Add(48 * time.Hour)
		}},
	} {
		s := well
		s.healths = []*clusterpb.Health{proto.CloneOf(well.healths[0])}
		c.spoil(&s)
		o := s.verdict()
		found := false
		for _, got := range o.Checks {
			if got.Name == c.check && !got.OK && strings.Contains(got.Detail, c.says) && got.Next != "" {
				found = true
			}
		}
		if !found || o.Healthy {
			t.Errorf("%s %q is not found: %+v", c.check, c.says, o.Checks)
		}
		covered[c.check] = true
	}
	covered["rings"], covered["epochs"], covered["tombstones"] = true, true, true // below
	for _, c := range well.verdict().Checks {
		if !covered[c.Name] {
			t.Errorf("%s never fails", c.Name)
		}
	}
}

func TestChecksOfTheStateItself(t *testing.T) {
	b := newNode(t, "n1")
	b.call("POST", "/cluster/init", `{"name":"test","replication_factor":3,"slots":16}`, 200)
	b.call("PUT", "/tenants/a", `{}`, 200)
	b.call("DELETE", "/tenants/a", "", 200)
	s := seen{st: b.node.State(), now: time.Now()}
	if c := s.coverage(); c.OK || !strings.Contains(c.Detail, "16 of 16 slots have fewer than 3 replicas") || !strings.Contains(c.Detail, "below their quorum") {
		t.Errorf("one node for three replicas: %+v", c)
	}
	if c := s.tombstones(); !c.OK || c.Detail != "1" {
		t.Errorf("a new tombstone: %+v", c)
	}
	s.now = s.now.Add(40 * 24 * time.Hour)
	if c := s.tombstones(); c.OK {
		t.Errorf("an old tombstone: %+v", c)
	}
	// A slot's quorum changes, and nobody has announced it since.
	r := s.st.Ring(cluster.DefaultRing)
	st, _ := s.st.Apply(s.st.Revision()+1, &clusterpb.Command{TimeMs: time.Now().UnixMilli(), Change: &clusterpb.Command_PutRing{
		PutRing: &clusterpb.PutRing{Name: r.Spec.GetName(), ReplicationFactor: 3, WriteQuorum: clusterpb.WriteQuorum_ALL},
	}})
	st, res := st.Apply(st.Revision()+1, &clusterpb.Command{TimeMs: time.Now().UnixMilli(), Change: &clusterpb.Command_MoveSlots{
		MoveSlots: &clusterpb.MoveSlots{Ring: r.Spec.GetId(), Steps: []*clusterpb.SlotStep{{Slot: 0, Replicas: []uint32{1}, Quorum: 3, Base: r.Table.At(0).Changed}}},
	}})
	if res.Refusal != nil {
		t.Fatal(res.Refusal.GetMessage())
	}
	s.st = st
	if c := s.epochs(); c.OK || !strings.Contains(c.Detail, "ring default: 1 periods ended more than 1h0m0s ago and are open, held up by n1") {
		t.Errorf("an epoch that is open for long: %+v", c)
	}
	s.now = time.Now()
	if c := s.epochs(); !c.OK || c.Detail != "1 open" {
		t.Errorf("an epoch that has just ended: %+v", c)
	}
	var v verifyObject
	b.call("GET", "/cluster/verify", "", 200).as(&v)
	before, began := b.node.State().Revision(), time.Now()
	for range 5 { // an entry of the log for each would be a viewer's to write
		b.call("GET", "/cluster/verify", "", 200).as(&v)
	}
	if most := before + uint64(time.Since(began)/checkEvery) + 1; b.node.State().Revision() > most {
		t.Errorf("revision %d, at most %d after five verifications", b.node.State().Revision(), most)
	}
	if v.Healthy || v.Cluster != "test" || len(v.Checks) < 10 {
		t.Errorf("%+v", v)
	}
	stranger := newNode(t, "n2")
	stranger.refused("GET", "/cluster/verify", "", 503, "")
}
