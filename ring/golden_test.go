package ring

import (
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestPlansStayAsTheyAre: a planner that plans otherwise moves every cluster's
// data. A change of these numbers is to be wanted; -update writes them.
func TestPlansStayAsTheyAre(t *testing.T) {
	const slots, rf = 4096, 3
	var text strings.Builder
	fmt.Fprintf(&text, "%d slots, replication factor %d\n", slots, rf)
	fmt.Fprintf(&text, "%-9s %5s %-6s  %5s %5s  %6s  %5s  %5s  %s\n", "nodes", "zones", "change", "least", "most", "moves", "sets", "pairs", "digest")
	for _, n := range []int{3, 4, 5, 30, 300} {
		for _, zones := range []int{1, 3} {
			nodes := inZones(equalNodes(1, n), zones)
			more := inZones(equalNodes(1, n+1), zones)
			fresh := Plan(emptyTable(t, slots), nodes, rf)
			line := func(change string, from *Table, nodes []Node) {
				sets := Plan(from, nodes, rf)
				checkPlan(t, sets, nodes, rf)
				held := heldBy(sets)
				var counts []int
				for _, node := range nodes {
					counts = append(counts, held[node.Store])
				}
				fmt.Fprintf(&text, "%-9d %5d %-6s  %5d %5d  %6d  %5d  %5d  %016x\n", n, zones, change,
					slices.Min(counts), slices.Max(counts), moves(from, sets), distinct(sets), pairsOf(sets, nodes), digest(sets))
			}
			line("fresh", emptyTable(t, slots), nodes)
			line("join", tableOf(t, fresh), more)
			line("leave", tableOf(t, fresh), nodes[1:])
		}
	}
	file := filepath.Join("testdata", "plans.golden")
	if *update {
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := text.String(); got != string(want) {
		t.Errorf("plans are\n%s\nand were\n%s", got, want)
	}
}

// distinct counts the sets that differ in their stores.
func distinct(sets []Set) int {
	seen := map[Set]bool{}
	for _, s := range sets {
		stores := s.Append(nil)
		slices.Sort(stores)
		seen[SetOf(stores...)] = true
	}
	return len(seen)
}

// digest is of all sets, their order included.
func digest(sets []Set) uint64 {
	h := fnv.New64a()
	for i, s := range sets {
		fmt.Fprintln(h, i, s.Append(nil))
	}
	return h.Sum64()
}
