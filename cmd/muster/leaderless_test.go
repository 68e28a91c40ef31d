package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWithoutALeaderPeopleAreToldWhoIsMissing(t *testing.T) {
	now := time.Date(2026, 11, 22, 15, 4, 12, 0, time.UTC)
	err := refusal(503, []byte(`{"error":"no leader since 2026-11-22T15:00:00Z: 3 voters, 2 needed, 1 reachable; missing n2, n3","node":"n1",
		"voters":["n1","n2","n3"],"missing":["n2","n3"],"since":"2026-11-22T15:00:00Z","serving_revision":2041,
		"unreachable":[{"node":"n2","address":"10.0.0.2:19391","since":"2026-11-22T15:00:00Z","error":"dial tcp 10.0.0.2:19391: connect: no route to host"},{"node":"n3"}],
		"next":"start n2 or n3; if they are lost for good: muster cluster recover --plan"}`))
	var f *failure
	require.ErrorAs(t, err, &f)
	require.Equal(t, exitNoLeader, f.Code)
	require.Equal(t, []string{
		"n2 (10.0.0.2:19391): last heard 4m12s ago, dial tcp 10.0.0.2:19391: connect: no route to host",
		"n3: never heard by this node",
		"samples are still written and read, by revision 2041; nothing can be changed",
	}, f.leaderless(now))
	var out bytes.Buffer
	require.Equal(t, exitNoLeader, report(stdio{&out, &out}, []string{"muster", "-o", "json"}, err))
	var shown map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &shown))
	for _, field := range []string{"error", "node", "since", "next", "voters", "missing", "unreachable"} {
		require.Contains(t, shown, field)
	}
}

// TestASurvivorOfTheQuorumServesAndSaysWhoIsMissing: all but one voter stop,
// the one that is left is started anew, without anybody to elect it.
func TestASurvivorOfTheQuorumServesAndSaysWhoIsMissing(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{3, 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			t.Parallel()
			b := slottedBed(t, nodes, 3, fewSlots)
			b.cli(0, "ring", "create", "own", "--tenants", "a", "--nodes", "n1", "--replication-factor", "1")
			b.settle()
			now := time.Now().UnixMilli()
			b.write(0, "a", batch("m", 100, now)...)
			// With five nodes only the voters but n1 stop: the others live on.
			voters := map[string]bool{}
			var st statusAnswer
			require.NoError(t, json.Unmarshal([]byte(b.cli(0, "cluster", "status", "-o", "json")), &st))
			for _, n := range st.Nodes {
				voters[n.Name] = n.Role == "leader" || n.Role == "voter"
			}
			var gone []string
			for i := nodes - 1; i > 0; i-- {
				if name := fmt.Sprintf("n%d", i+1); voters[name] {
					gone = append(gone, name)
					b.stop(i)
				}
			}
			refused := func() error {
				_, msg, code := b.try(0, "tenant", "create", "new", "-o", "json")
				var f failure
				if err := json.Unmarshal([]byte(msg), &f); err != nil || code != exitNoLeader {
					return fmt.Errorf("exit %d: %s", code, msg)
				}
				if len(f.Voters) != len(gone)+1 || len(f.Missing) != len(gone) || len(f.Unreachable) != len(gone) || f.Since == "" || f.Next == "" {
					return fmt.Errorf("it does not name all: %s", msg)
				}
				for _, u := range f.Unreachable {
					if u.Error == "" || u.Since == "" || u.Address == "" {
						return fmt.Errorf("it does not say why: %s", msg)
					}
				}
				return nil
			}
			check := func() {
				t.Helper()
				// A change that met the leader in its last moment is asked for again
				// and again: nobody knows yet whether it was made.
				b.eventually("the leader is missed", func() error {
					if _, msg, code := b.try(0, "tenant", "list"); code != exitNoLeader {
						return fmt.Errorf("exit %d: %s", code, msg)
					}
					return nil
				})
				b.eventually("a change is refused with the reason", refused)
				out, _, code := b.try(0, "cluster", "status", "-o", "json")
				require.Equal(t, exitUnhealthy, code)
				var st statusAnswer
				require.NoError(t, json.Unmarshal([]byte(out), &st))
				require.Empty(t, st.Leader)
				require.Len(t, st.Nodes, nodes)
				for _, n := range st.Nodes {
					require.Equal(t, voters[n.Name], n.Role == "voter", "%s is a %s", n.Name, n.Role)
				}
			}
			check()
			if nodes == 3 {
				b.golden(t, "no_leader", 0, "tenant", "create", "new")
			}
			b.write(0, "a", batch("m", 100, now+1000)...)
			b.stop(0)
			b.start(0)
			b.eventually("the tenants are open", func() error { return b.nodes[0].node.ready.err() })
			b.write(0, "a", batch("m", 100, now+2000)...)
			check()
			out, _, code := b.try(0, "query", "-t", "a", "--partial", "-o", "json", fmt.Sprintf(`sum(count_over_time(m[1h] @ %d))`, now/1000+5))
			require.Zero(t, code)
			require.Contains(t, out, `"300"`)
			// One more voter, and it goes on.
			for i := range b.nodes {
				if b.nodes[i].node == nil && fmt.Sprintf("n%d", i+1) == gone[0] {
					b.start(i)
				}
			}
			b.eventually("changes are made again", func() error {
				if _, msg, code := b.try(0, "tenant", "create", "after"); code != 0 {
					return fmt.Errorf("exit %d: %s", code, msg)
				}
				return nil
			})
		})
	}
}
