package main

import (
	"strings"
	"testing"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// TestViewCorrectsTheClock: cluster says how far this node's clock is ahead, and
// ingest wants to know what to add to it.
func TestViewCorrectsTheClock(t *testing.T) {
	ahead := func() time.Duration { return 20 * time.Second }
	if d := newViews([16]byte{1}, ahead, nil).of(cluster.EmptyState()).ClockOffset(); d != -20*time.Second {
		t.Fatalf("%v is added to a clock that is %v ahead", d, ahead())
	}
}

// TestViewOfAnOldClusterIsOfFloatsOnly: members of the first version do not
// understand frames of histograms.
func TestViewOfAnOldClusterIsOfFloatsOnly(t *testing.T) {
	now := func() time.Duration { return 0 }
	st := cluster.EmptyState()
	for version, want := range map[uint32]bool{0: true, 1: true, 2: false, 3: false} {
		init := &clusterpb.InitCluster{
			Name: "c", Id: strings.Repeat("0a", 16), ReplicationFactor: 1, Slots: 4, ClusterVersion: version,
			Member:  &clusterpb.Member{Name: "n1", Address: "127.0.0.1:1", KeyHash: make([]byte, 32)},
			StoreId: []byte("0123456789abcdef"),
		}
		next, res := st.Apply(1, &clusterpb.Command{Change: &clusterpb.Command_Init{Init: init}})
		if res.Refusal != nil {
			t.Fatal(res.Refusal)
		}
		if got := newViews([16]byte{1}, now, nil).of(next).FloatsOnly; got != want {
			t.Errorf("cluster version %d: floats only is %t", version, got)
		}
	}
}
