package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWhatAMovePrints shows a join half way, one that waits, and one that was
// cancelled, as `ring show` and `cluster status` do.
func TestWhatAMovePrints(t *testing.T) {
	var out bytes.Buffer
	std := stdio{&out, &out}
	ring := ringObject{Name: "default", ReplicationFactor: 3, WriteQuorum: "majority", Slots: 8, Version: 41, Changed: "2026-11-22T15:18:39Z", ChangedBy: "bob"}
	slots := `"slots":[` + strings.TrimSuffix(strings.Repeat(`{"replicas":["n1","n2","n3"]},`, 7), ",") + `,{"replicas":["n1","n2","n4"]}],"moving":5,`
	for _, m := range []string{
		`{"state":"moving","cause":"n4 joined","nodes":["n4"],"since":"2026-11-22T15:18:39Z","since_revision":57,"moved":1,"left":5,"percent":16,
			"eta_seconds":94,"gains":[{"node":"n4","slots":5,"series":1874000}],"text":"16%, 1 of 6 replicas, n4 joined, 1m34s left"}`,
		`{"state":"waiting","cause":"removal of n1","nodes":["n1"],"by":"alice","since":"2026-11-22T15:18:39Z","since_revision":57,"moved":1,"left":5,"percent":16,
			"gains":[{"node":"n4","slots":5,"series":1874000}],"held_up_by":["maintenance is on (` + "`muster settings set maintenance=false`" + `)","n2 has not announced revision 58: 1 epochs, since 2026-11-22T15:18:39Z"],
			"text":"16%, 1 of 6 replicas, removal of n1; waits: maintenance is on"}`,
		`{"state":"cancelled","cause":"rebalance","by":"alice","since":"2026-11-22T15:18:39Z","since_revision":57,"moved":1,"left":5,"percent":16,
			"gains":[{"node":"n4","slots":5,"series":1874000}],"cancelled":"2026-11-22T15:19:02Z","cancelled_by":"bob","text":"cancelled at 16%, 1 of 6 replicas, rebalance"}`,
	} {
		require.NoError(t, std.ring(ring, []byte(fmt.Sprintf(`{%s"move":%s}`, slots, m))))
		out.WriteString("\n")
	}
	golden(t, "move", out.String())
}
