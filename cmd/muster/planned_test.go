package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAPlanForPeople shows a plan in its columns.
func TestAPlanForPeople(t *testing.T) {
	var a plannedRing
	a.Name, a.Slots, a.ReplicationFactor, a.WriteQuorum = "default", 4096, 3, 2
	a.Moves, a.MovedPercent, a.Steps, a.Rounds = 3072, 25, 3072, 1
	a.NewSeries, a.Pace, a.Seconds = 2_500_000, 20_000, 125
	for i, n := range []plannedNode{{Then: 3072, Gains: 3072, NewSeries: 2_500_000}, {Now: 4096, Then: 3072, Loses: 1024}, {Now: 4096, Then: 3072, Loses: 1024}, {Now: 4096, Then: 3072, Loses: 1024}} {
		n.Name, n.Zone, n.Weight, n.Share = fmt.Sprintf("node-%d", i+1), "ab"[i%2:i%2+1], 100, 3072
		a.Nodes = append(a.Nodes, n)
	}
	a.Before = outlook{Nodes: 3, Least: 4096, Most: 4096, ReplicaSets: 1, Apart: 0, Zones: []outlookZone{{"a", 1, 4096, 0}, {"b", 2, 8192, 4096}}}
	a.Before.Two.Pairs, a.Before.Two.Touching, a.Before.Two.Average, a.Before.Two.Worst, a.Before.Two.Names = 3, 100, 100, 100, []string{"node-2", "node-3"}
	a.After = outlook{Nodes: 4, Least: 3072, Most: 3072, ReplicaSets: 4, Apart: 0, Zones: []outlookZone{{"a", 2, 6144, 2048}, {"b", 2, 6144, 2048}}}
	a.After.Two.Pairs, a.After.Two.Touching, a.After.Two.Average, a.After.Two.Worst, a.After.Two.Names = 6, 100, 50, 50, []string{"node-1", "node-2"}
	var out bytes.Buffer
	stdio{&out, &out}.plan(a)

	a.Moves, a.Steps, a.Rounds, a.NewSeries, a.After.Nodes, a.After.Below, a.ReplicationFactor = 1, 1, 1, 0, 1, 7, 5
	out.WriteString("\n")
	stdio{&out, &out}.plan(a)
	golden(t, "ring_plan", out.String())
	require.NotContains(t, out.String(), "%!")

	for i := range 70 {
		a.Nodes = append(a.Nodes, plannedNode{Name: fmt.Sprintf("many-%d", i)})
	}
	out.Reset()
	stdio{&out, &out}.plan(a)
	require.Equal(t, plannedRows, strings.Count(out.String(), "node-")+strings.Count(out.String(), "many-")-len(a.After.Two.Names)-len(a.Before.Two.Names))
	require.Contains(t, out.String(), "and 14 nodes that change less")
}

func TestABarIsAsLongAsItsParts(t *testing.T) {
	for now := range 20 {
		for gains := range 20 {
			for loses := range now + 1 {
				n := plannedNode{Now: now, Gains: gains, Loses: loses, Then: now + gains - loses}
				if got := len([]rune(n.bar(39))); got != ((now+gains)*plannedBars+19)/39 {
					t.Fatalf("%+v: a bar of %d", n, got)
				}
			}
		}
	}
}
