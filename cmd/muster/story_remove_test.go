package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/ring"
)

// TestRemoveUnderWrites: a live node, the leader even, is removed while the
// others take writes. The command is cut off once and typed again, leadership
// changes in the middle. No write is refused, and no acknowledged sample is
// missing afterwards.
func TestRemoveUnderWrites(t *testing.T) {
	t.Parallel()
	sizes(t, []int{4, 5}, removeUnderWrites)
}

func removeUnderWrites(t *testing.T, b *bed) {
	last := len(b.nodes) - 1
	name := b.nodes[last].cfg.Name
	_, _, _ = b.try(0, "cluster", "transfer-leader", name) // if it has a vote
	p := b.pen("a", 30, 0, 1, 2)
	defer p.halt()
	p.wrote(10)
	require.Contains(t, b.cli(1, "cluster", "remove", name, "--dry-run"), "would move")
	require.Equal(t, "active", b.member(0, name).State)

	_, msg, code := b.try(1, "cluster", "remove", name, "--reason", "old", "--timeout", "50ms")
	if code != 0 { // it may have been that quick
		require.Contains(t, msg, "goes on without this command")
		require.Contains(t, msg, "muster cluster remove "+name)
		if now := b.member(0, name); now.State != "" {
			require.Equal(t, "removing", now.State)
		}
		_, _, _ = b.try(0, "cluster", "transfer-leader") // if somebody is fit, and none is under way
		at := 2
		if last == 3 {
			at = last // on the leaver itself
		}
		b.eventually(name+" is out", func() error {
			_, msg, code := b.try(at, "cluster", "remove", name)
			if code != 0 && !strings.Contains(msg, "was removed ") { // who is out already hears of it in a moment
				return fmt.Errorf("exit %d: %s", code, msg)
			}
			return nil
		})
	}
	p.wrote(10)
	p.end()
	b.stop(last)
	b.settle()
	require.NotContains(t, b.cli(1, "cluster", "status"), name+" ")
	require.Contains(t, b.cli(0, "cluster", "events"), "member removal begun")
	for i := range last {
		st := b.nodes[i].node.cluster.State()
		own := st.StoreByID(b.nodes[last].cfg.storeID(t))
		require.False(t, st.Lost(ring.Store(own.GetNumber())), "n%d takes its store for lost", i+1)
		p.complete(i)
	}
}

// member is what node i says of another; nothing where that is no member.
func (b *bed) member(i int, name string) leavingMember {
	b.t.Helper()
	var m leavingMember
	st := b.nodes[i].node.cluster.State()
	if st.Member(name) != nil {
		m.State = strings.ToLower(st.Member(name).GetState().String())
	}
	return m
}

// TestRemoveWaitsAndSaysWhatFor: the node that is to go is stopped in the
// middle. The command tells so, any node shows it, and it is cancelled.
func TestRemoveWaitsAndSaysWhatFor(t *testing.T) {
	t.Parallel()
	b := slottedBed(t, 4, 3, fewSlots)
	b.write(0, "a", batch("m", 100, time.Now().UnixMilli())...)
	b.stop(2) // it shall take slots, and cannot
	b.eventually("a removal is refused for want of n3", func() error {
		_, msg, code := b.try(0, "cluster", "remove", "n4", "--dry-run")
		if code != exitConflict || !strings.Contains(msg, "2 are there: n3 was last heard") {
			return fmt.Errorf("exit %d: %s", code, msg)
		}
		return nil
	})
	require.Equal(t, "active", b.member(0, "n4").State)
	b.start(2)
	b.settle()

	b.eventually("the removal of a node that has just gone silent begins", func() error {
		require.NoError(t, b.nodes[3].node.cluster.Close()) // it is taken for live a moment longer
		out, msg, code := b.try(1, "cluster", "remove", "n4", "--timeout", "1ms")
		b.stop(3)
		if code == exitFailed && strings.Contains(msg, "goes on without this command") {
			return nil
		}
		b.start(3)
		return fmt.Errorf("exit %d: %s%s", code, out, msg)
	})
	b.eventually("every node says what the removal waits for", func() error {
		for i := range 3 {
			out, _, code := b.try(i, "cluster", "status")
			told := strings.Contains(out, "n4 has not been heard") || strings.Contains(out, "n4 was last heard")
			if code != exitUnhealthy || !strings.Contains(out, "n4 is being removed since ") || !told {
				return fmt.Errorf("n%d, exit %d: %s", i+1, code, out)
			}
		}
		return nil
	})
	b.cli(2, "cluster", "remove", "n4", "--cancel")
	b.start(3)
	b.settle()
	require.Equal(t, "active", b.member(0, "n4").State)
	require.NotZero(t, b.nodes[0].node.cluster.State().Duties(4).Slots)
}
