package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"
)

// TestAWipedNodeIsReplacedByItself: a node whose data folder is gone comes back
// under its name, with a new store. Nothing that was acknowledged is missing, and
// the old folder, found again, stays out.
func TestAWipedNodeIsReplacedByItself(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		now := time.Now().UnixMilli()
		last := len(b.nodes) - 1
		name := b.nodes[last].cfg.Name
		b.write(last, "a", batch("m", 300, now)...)
		lost := b.nodes[0].node.cluster.State().Member(name).GetStore()
		b.stop(last)
		b.write(0, "a", batch("m", 300, now+1)...)
		dir := b.nodes[last].cfg.DataDir
		require.NoError(t, os.Rename(dir, dir+".lost"))
		b.start(last)
		address := b.nodes[0].node.door.Addr().String()
		token := strings.TrimSpace(b.cli(0, "token", "create", "--role", "node"))
		_, msg, code := b.try(last, "cluster", "join", "--token", token, address)
		require.Equal(t, exitConflict, code, msg)
		require.Contains(t, msg, "muster cluster join --replace --token T HOST:PORT")
		text := b.transcript(last, []string{"cluster", "join", "--token", token, address}) +
			b.transcript(last, []string{"cluster", "join", "--replace", "--token", token, address})
		golden(t, "join_replace", strings.NewReplacer(token, "T", name, "NODE", address, "HOST:PORT", "(store 3)", "(store N)", "(store 5)", "(store N)").Replace(text))
		b.settle()
		for i := range b.nodes {
			b.write(i, "a", batch("m", 300, now+10+int64(i))...)
		}
		want := float64(300 * (2 + len(b.nodes)))
		for i := range b.nodes {
			require.Equal(t, want, b.queryCount(t, i, now), "on n%d", i+1)
		}
		st := b.nodes[0].node.cluster.State()
		for _, s := range st.Stores() {
			require.Equal(t, s.GetNumber() == lost, s.GetLost() != 0, "store %d", s.GetNumber())
		}
		// Somebody finds the old disk and starts it.
		b.stop(last)
		require.NoError(t, os.Rename(dir, dir+".new"))
		require.NoError(t, os.Rename(dir+".lost", dir))
		b.start(last)
		b.knowsItIsOut(t, last, "this data directory of "+name+" was replaced by another in cluster test at revision")
		b.stop(last)
		require.NoError(t, os.Rename(dir, dir+".lost"))
		require.NoError(t, os.Rename(dir+".new", dir))
		b.start(last)
		b.settle()
	})
}

// TestAllNodesMoveAtOnce: the machines got other addresses. --join says where one
// of them is now.
func TestAllNodesMoveAtOnce(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		now := time.Now().UnixMilli()
		b.write(0, "a", batch("m", 100, now)...)
		for i := range b.nodes {
			b.stop(i)
		}
		for i, r := range b.nodes {
			r.cfg.Advertise = fmt.Sprintf("%s.%d", b.net, 100+i)
			any := r.cfg.Advertise + ":0"
			r.cfg.Write, r.cfg.HTTP, r.cfg.GRPC, r.cfg.Peer = any, any, any, any
			if i > 0 {
				r.cfg.Join = b.nodes[0].node.door.Addr().String()
			}
			b.start(i)
		}
		b.settle()
		for i := range b.nodes {
			b.write(i, "a", batch("m", 100, now+1+int64(i))...)
		}
		require.InDelta(t, 100*(1+len(b.nodes)), b.queryCount(t, 1, now), 0)
		b.eventually("the status shows where they are", func() error {
			var st statusAnswer
			if err := json.Unmarshal([]byte(b.cli(0, "cluster", "status", "-o", "json")), &st); err != nil {
				return err
			}
			for i, n := range st.Nodes {
				if want := b.nodes[i].node.door.Addr().String(); n.Address != want {
					return fmt.Errorf("%s is shown at %s, it is at %s", n.Name, n.Address, want)
				}
			}
			return nil
		})
	})
}

// TestANodeThatCannotBeReachedDoesNotJoin: the error says who cannot reach whom,
// and nothing is left behind.
func TestANodeThatCannotBeReachedDoesNotJoin(t *testing.T) {
	t.Parallel()
	b := emptyBed(t, 2)
	b.nodes[1].cfg.Advertise = b.net + ".77" // nobody listens there
	b.start(0)
	b.start(1)
	var made initAnswer
	require.NoError(t, json.Unmarshal([]byte(b.cli(0, "cluster", "init", "--name", "test", "-o", "json")), &made))
	through := b.nodes[0].node.door.Addr().String()
	revision := b.nodes[0].node.cluster.State().Revision()
	_, msg, code := b.try(1, "cluster", "join", "--token", made.JoinTokens[0], through)
	require.Equal(t, exitConflict, code, msg)
	require.Contains(t, msg, "n2 has reached n1, but n1 cannot reach n2 back at \""+b.net+".77:")
	require.Contains(t, msg, "connection refused")
	require.Contains(t, msg, "--advertise-address")
	_, msg, code = b.try(1, "cluster", "join", "--token", made.JoinTokens[0], b.net+".77:1")
	require.NotZero(t, code, msg)
	require.Contains(t, msg, "n2 cannot reach the member at "+b.net+".77:1")
	text := b.transcript(1, []string{"cluster", "join", "--token", made.JoinTokens[0], through}) +
		b.transcript(1, []string{"cluster", "join", "--token", made.JoinTokens[0], b.net + ".77:1"}) +
		b.transcript(1, []string{"cluster", "join", "--token", made.JoinTokens[0], through, "-o", "json"})
	golden(t, "join_errors", strings.NewReplacer(made.JoinTokens[0], "T", through, "HOST:PORT", b.net+".77:1\n", "UNREACHABLE\n").Replace(text))
	require.Equal(t, revision, b.nodes[0].node.cluster.State().Revision(), "nothing is in the log")
	require.Nil(t, b.nodes[0].node.cluster.State().Member("n2"))
}

// knowsItIsOut waits until node i says so, and looks at everything that it says.
func (b *bed) knowsItIsOut(t *testing.T, i int, says string) {
	t.Helper()
	b.eventually("it is told", func() error {
		if lines := b.nodes[i].node.ready.failed(); len(lines) == 0 || !strings.HasPrefix(lines[0], says) {
			return fmt.Errorf("%q", lines)
		}
		return nil
	})
	code, text := b.get(t, "http://"+b.nodes[i].cfg.HTTP+"/-/ready")
	require.Equal(t, 503, code, text)
	require.Contains(t, text, "takes no part any more. Next: ")
	now := time.Now().UnixMilli()
	status, answer := b.post(i, "a", snappy.Encode(nil, body(batch("m", 1, now)...)))
	require.Equal(t, 503, status, answer)
	require.Contains(t, answer, says)
	out, msg, exit := b.try(i, "cluster", "status")
	require.Equal(t, exitUnhealthy, exit, msg)
	require.Contains(t, out, says)
	_, msg, exit = b.try(i, "tenant", "create", "by-who-is-out")
	require.Equal(t, exitDenied, exit, msg)
	require.Contains(t, msg, says)
	_, msg, exit = b.try(i, "tenant", "create", "by-who-is-out", "-o", "json")
	require.Equal(t, exitDenied, exit, msg)
	require.Contains(t, msg, `"next":"stop this server, move its data directory away`)
	first, _, _ := strings.Cut(text, "\n")
	golden(t, "dismissed_"+strings.Fields(says)[1], strings.ReplaceAll(b.transcript(i, []string{"tenant", "create", "by-who-is-out"})+
		b.transcript(i, []string{"cluster", "transfer-leader"})+first+"\n", b.nodes[i].cfg.Name, "NODE"))
}

func (b *bed) get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

// TestANodeThatIsRemovedWhileItRunsLearnsOfIt: it was cut off for a while and never
// stopped; nothing in its own state says that it is out. One copy is enough to
// its ring, so that it needs nobody for an acknowledgement.
func TestANodeThatIsRemovedWhileItRunsLearnsOfIt(t *testing.T) {
	t.Parallel()
	beds(t, func(t *testing.T, b *bed) {
		last := len(b.nodes) - 1
		name := b.nodes[last].cfg.Name
		b.cli(0, "ring", "create", "own", "--tenants", "a", "--nodes", name+",n1", "--replication-factor", "1", "--slots", "8")
		b.settle()
		door := b.nodes[last].node.door
		credentials := door.Credentials()
		door.SetIdentity(nil) // whoever comes is sent away, and whoever is dialled
		b.eventually(name+" is removed", func() error {
			_, msg, code := b.try(0, "cluster", "remove", name, "--force")
			if code != 0 {
				return fmt.Errorf("exit %d: %s", code, msg)
			}
			return nil
		})
		require.NoError(t, b.nodes[last].node.ready.err(), "it knows of nothing")
		door.SetIdentity(credentials)
		b.knowsItIsOut(t, last, name+" was removed from cluster test by force at revision")
		// Where it reaches nobody, and its state says that it is a member, it stays out.
		for i := range b.nodes {
			b.stop(i)
		}
		b.start(last)
		b.knowsItIsOut(t, last, name+" was removed from cluster test by force at revision")
		b.stop(last)
		for i := range last {
			b.start(i)
		}
		b.eventually("the others go on", func() error {
			status, text := b.post(0, "other", snappy.Encode(nil, body(batch("m", 20, time.Now().UnixMilli())...)))
			if status/100 != 2 {
				return fmt.Errorf("%d %s", status, text)
			}
			return nil
		})
	})
}
