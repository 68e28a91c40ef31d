package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// render prints an answer as a person sees it.
func render[A any](t *testing.T, text string, show func(stdio, A)) string {
	t.Helper()
	var a A
	require.NoError(t, json.Unmarshal([]byte(text), &a))
	var out bytes.Buffer
	show(stdio{&out, &out}, a)
	return out.String()
}

const member = `"state":"active","applied":41,"lag":0,"slots":4096,"series":120000,"version":"0.1.0"`

func TestStatusOnOneScreen(t *testing.T) {
	healthy := `{"cluster":"prod","healthy":true,"failure_tolerance":1,"leader":"n1","revision":41,
		"raft":{"voters":3,"heard":3,"needed":2},"cluster_version":1,"spoken_version":1,
		"rings":[{"name":"default","replication_factor":3,"slots":4096}],"nodes":[
		{"name":"n1","address":"10.0.0.1:19391","zone":"a","role":"leader","last_contact_ms":0,"certificate_days":29,"raft_free_bytes":86973087744,"disk_free_bytes":86973087744,` + member + `},
		{"name":"n2","address":"10.0.0.2:19391","zone":"b","role":"voter","last_contact_ms":34,"clock_offset_ms":-3,"certificate_days":28,"raft_free_bytes":85899345920,"disk_free_bytes":85899345920,` + member + `}]}`
	require.Equal(t, strings.Join([]string{
		"CLUSTER prod  HEALTHY  failure tolerance 1  leader n1  revision 41",
		"NODE  ADDRESS         ZONE  STATE   ROLE    LAST CONTACT  APPLIED  LAG  SLOTS  SERIES  DISK FREE  VERSION",
		"n1    10.0.0.1:19391  a     active  leader  -             41       0    4096   120k    81 GiB     0.1.0",
		"n2    10.0.0.2:19391  b     active  voter   34 ms         41       0    4096   120k    80 GiB     0.1.0",
		"voters 3 of 3 heard, 2 needed · cluster version 1 · clocks within 3 ms · certificates for 28 days · room for the control state 80 GiB",
		"",
	}, "\n"), render(t, healthy, stdio.status))

	sick := `{"cluster":"prod","healthy":false,"failure_tolerance":0,"leader":"","revision":41,"local":true,"maintenance":true,
		"raft":{"voters":3,"heard":1,"needed":2},"cluster_version":1,"spoken_version":2,
		"problems":["no leader since 2026-11-22T15:00:00Z: 3 voters, 2 needed, 1 reachable; missing n2, n3"],
		"warnings":["n1: 12 MiB of disk left for the control state, 64 wanted: it refuses changes where it leads"],"nodes":[
		{"name":"n1","address":"10.0.0.1:19391","role":"voter","last_contact_ms":0,"certificate_days":-1,"raft_free_bytes":12582912,` + member + `},
		{"name":"n2","address":"10.0.0.2:19391","role":"voter","last_contact_ms":-1,"certificate_days":1,` + member + `}]}`
	require.Equal(t, strings.Join([]string{
		"CLUSTER prod  UNHEALTHY  failure tolerance 0  leader -  revision 41",
		"NODE  ADDRESS         ZONE  STATE   ROLE   LAST CONTACT  APPLIED  LAG  SLOTS  SERIES  DISK FREE  VERSION",
		"n1    10.0.0.1:19391  -     active  voter  0 ms          41       0    4096   120k    -          0.1.0",
		"n2    10.0.0.2:19391  -     active  voter  never         41       0    4096   120k    -          0.1.0",
		"voters 1 of 3 heard, 2 needed · cluster version 1 (2 once all nodes speak it) · clocks within 0 ms · room for the control state 12 MiB · maintenance is on · there is no leader: this is what this node knows",
		"! no leader since 2026-11-22T15:00:00Z: 3 voters, 2 needed, 1 reachable; missing n2, n3",
		"* n1: 12 MiB of disk left for the control state, 64 wanted: it refuses changes where it leads",
		"",
	}, "\n"), render(t, sick, stdio.status))
}

func TestVerifySaysWhatToDoNext(t *testing.T) {
	require.Equal(t, strings.Join([]string{
		"CLUSTER prod  revision 41  3 checks, 2 failed",
		"CHECK   RESULT  DETAIL",
		"leader  ok      n1",
		"clocks  FAILED  n2 is 42s off the leader",
		"disks   FAILED  n3: 12 MiB left for the control state, 64 wanted",
		"next for clocks: chronyc tracking",
		"",
	}, "\n"), render(t, `{"cluster":"prod","revision":41,"checks":[{"check":"leader","ok":true,"detail":"n1"},
		{"check":"clocks","detail":"n2 is 42s off the leader","next":"chronyc tracking"},
		{"check":"disks","detail":"n3: 12 MiB left for the control state, 64 wanted"}]}`, stdio.verified))
}

// TestVerify looks at a real cluster, well and with a node gone.
func TestVerify(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3, 3)
	look := func(i, want int) map[string]string {
		t.Helper()
		out, msg, code := b.try(i, "cluster", "verify", "-o", "json")
		require.Equal(t, want, code, "%s%s", out, msg)
		var v verifyAnswer
		require.NoError(t, json.Unmarshal([]byte(out), &v))
		require.Equal(t, want == exitOK, v.Healthy)
		failed := map[string]string{}
		for _, c := range v.Checks {
			require.NotEmpty(t, c.Detail, c.Name)
			if !c.OK {
				require.NotEmpty(t, c.Next, c.Name)
				failed[c.Name] = c.Detail
			}
		}
		return failed
	}
	for i := range b.nodes {
		b.eventually("all is well", func() error {
			if out, _, code := b.try(i, "cluster", "verify"); code != 0 {
				return fmt.Errorf("exit %d: %s", code, out)
			}
			return nil
		})
	}
	require.Empty(t, look(0, exitOK))
	text := b.cli(1, "cluster", "verify")
	for _, want := range []string{"0 failed", "ring default: 4096 slots with 3 replicas on distinct nodes", "equal on all nodes", "3, all heard; 1 more may fail", "cluster version 2, software test"} {
		require.Contains(t, text, want)
	}
	require.Equal(t, 3, strings.Count(b.cli(0, "cluster", "status"), "active"))
	b.stop(2)
	b.eventually("the one that is gone is missed", func() error {
		out, _, code := b.try(0, "cluster", "verify")
		if code != exitUnhealthy || !strings.Contains(out, "n3 was last heard") {
			return fmt.Errorf("exit %d: %s", code, out)
		}
		return nil
	})
	failed := look(0, exitUnhealthy)
	require.Contains(t, failed, "contact")
	require.Contains(t, failed["voters"], "2 of 3 voters are heard")
	b.stop(1)
	b.eventually("the leader is missed", func() error {
		out, _, code := b.try(0, "cluster", "verify")
		if code != exitUnhealthy || !strings.Contains(out, "recover --plan") {
			return fmt.Errorf("exit %d: %s", code, out)
		}
		return nil
	})
}
