package cluster

import (
	"fmt"
	"slices"
	"testing"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// node writes a candidate: flags are v(oter), l(eader), s(table), x (silent),
// j(oining), r(emoving).
func node(name, zone, flags string) candidate {
	has := func(f byte) bool { return slices.Contains([]byte(flags), f) }
	return candidate{
		Name: name, Zone: zone, Voter: has('v') || has('l'), Leader: has('l'),
		Active: !has('j') && !has('r'), Leaving: has('r'), Stable: has('s') || has('l'), Silent: has('x'),
	}
}

func TestVotersAreChosenOneChangeAtATime(t *testing.T) {
	for _, c := range []struct {
		what            string
		nodes           []candidate
		promote, demote string
	}{
		{"one node", []candidate{node("a", "", "l")}, "", ""},
		{"a second one is caught up", []candidate{node("a", "", "l"), node("b", "", "s")}, "b", ""},
		{"a second one is not stable", []candidate{node("a", "", "l"), node("b", "", "")}, "", ""},
		{"a joining one gets no vote", []candidate{node("a", "", "l"), node("b", "", "sj")}, "", ""},
		{"three are enough", []candidate{node("a", "", "l"), node("b", "", "vs"), node("c", "", "vs"), node("d", "", "s")}, "", ""},
		{"a free zone first", []candidate{node("a", "x", "l"), node("b", "x", "s"), node("c", "y", "s")}, "c", ""},
		{"a zone without a voter", []candidate{node("a", "x", "l"), node("b", "x", "vs"), node("c", "y", "vs"), node("d", "z", "s")}, "d", ""},
		{"then the crowded zone gives one up", []candidate{node("a", "x", "l"), node("b", "x", "vs"), node("c", "y", "vs"), node("d", "z", "vs")}, "", "b"},
		{"then nothing", []candidate{node("a", "x", "l"), node("b", "x", "s"), node("c", "y", "vs"), node("d", "z", "vs")}, "", ""},
		{"a silent voter is replaced", []candidate{node("a", "", "l"), node("b", "", "vs"), node("c", "", "vx"), node("d", "", "s")}, "d", ""},
		{"and loses its vote", []candidate{node("a", "", "l"), node("b", "", "vs"), node("c", "", "vx"), node("d", "", "vs")}, "", "c"},
		{"a silent voter nobody can replace", []candidate{node("a", "", "l"), node("b", "", "vs"), node("c", "", "vx")}, "", ""},
		{"the leader keeps its vote", []candidate{node("d", "x", "l"), node("a", "x", "vs"), node("b", "y", "vs"), node("c", "y", "vs")}, "", "c"},
		{"another votes for one that leaves", []candidate{node("a", "", "l"), node("b", "", "vs"), node("c", "", "vsr"), node("d", "", "s")}, "d", ""},
		{"and it gives its vote up", []candidate{node("a", "", "l"), node("b", "", "vs"), node("c", "", "vsr"), node("d", "", "vs")}, "", "c"},
		{"one that leaves gets no vote", []candidate{node("a", "", "l"), node("b", "", "sr"), node("c", "", "vs")}, "", ""},
		{"three become two", []candidate{node("a", "", "l"), node("b", "", "vs"), node("c", "", "vsr")}, "", "c"},
		{"a leader that leaves hands over first", []candidate{node("a", "", "lr"), node("b", "", "vs"), node("c", "", "vs")}, "", ""},
	} {
		promote, demote := chooseVoter(slices.Clone(c.nodes))
		if promote != c.promote || demote != c.demote {
			t.Errorf("%s: promote %q, demote %q; want %q, %q", c.what, promote, demote, c.promote, c.demote)
		}
	}
}

// TestChoosingVotersEnds applies the choices until none is left, from clusters
// of every size: it must end, with as many voters as wanted, in as many zones
// as can be.
func TestChoosingVotersEnds(t *testing.T) {
	for size := 1; size <= 9; size++ {
		for zones := 1; zones <= 4; zones++ {
			nodes := []candidate{node("n0", "z0", "l")}
			for i := 1; i < size; i++ {
				nodes = append(nodes, node(fmt.Sprintf("n%d", i), fmt.Sprintf("z%d", i%zones), "s"))
			}
			steps := 0
			for ; steps < 100; steps++ {
				promote, demote := chooseVoter(nodes)
				if promote == "" && demote == "" {
					break
				}
				for i := range nodes {
					switch nodes[i].Name {
					case promote:
						nodes[i].Voter = true
					case demote:
						nodes[i].Voter = false
					}
				}
			}
			voters, in := 0, map[string]bool{}
			for _, n := range nodes {
				if n.Voter {
					voters++
					in[n.Zone] = true
				}
			}
			if want := votersWanted(size); steps == 100 || voters != want || len(in) != min(want, zones) {
				t.Errorf("%d nodes in %d zones: %d voters in %d zones after %d steps, want %d in %d", size, zones, voters, len(in), steps, want, min(want, zones))
			}
		}
	}
}

func TestDivergenceIsJudgedByTheMajorityOfTheVoters(t *testing.T) {
	report := func(node string, revision, hash uint64) *clusterpb.Report {
		return &clusterpb.Report{Node: node, Applied: revision, StateHash: hash}
	}
	voters := map[string]bool{"a": true, "b": true, "c": true}
	names, split := divergent([]*clusterpb.Report{
		report("a", 9, 1), report("b", 9, 1), report("c", 9, 2), report("d", 9, 3), report("e", 8, 7), report("f", 9, 1),
	}, voters)
	if len(names) != 2 || names["c"] != 9 || names["d"] != 9 || len(split) != 0 {
		t.Errorf("diverged %v, split %v; want c and d", names, split)
	}
	names, split = divergent([]*clusterpb.Report{report("a", 9, 1), report("b", 9, 2), report("c", 8, 3), report("d", 9, 1)}, voters)
	if len(names) != 0 || !slices.Equal(split, []uint64{9}) {
		t.Errorf("diverged %v, split %v; want a split at 9", names, split)
	}
	names, split = divergent([]*clusterpb.Report{report("a", 9, 1), report("b", 9, 0), report("c", 7, 3)}, voters)
	if len(names) != 0 || len(split) != 0 {
		t.Errorf("diverged %v, split %v; want none", names, split)
	}
}
