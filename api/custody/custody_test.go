package custody

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/tsdb"
)

func (b *bed) emptied() bool { return b.see().Store(3).GetEmptied() != 0 }

func (b *bed) progress() string {
	_, text := b.leaver.Progress()
	return text
}

func TestALeaverIsEmptiedIntoACustodian(t *testing.T) {
	b := newBed(t)
	want := b.write()
	b.leaver.look(t.Context())
	require.Empty(t, b.progress(), "a node that stays does nothing")
	require.Empty(t, b.see().Store(3).GetCustodians())
	b.remove()
	b.leaver.look(t.Context())
	require.True(t, b.emptied(), b.progress())
	require.Equal(t, want, b.kept("n2"))
	require.Empty(t, b.kept("n1"))
	keeping := b.nodes["n2"].taker.Answering()
	require.Len(t, keeping, 1)
	b.leaver.look(t.Context())
	emptied, text := b.leaver.Progress()
	require.True(t, emptied)
	require.Contains(t, text, "kept by n2")

	// Taken back, the custodian is none any more, and what it had goes.
	b.do(&clusterpb.Command{Change: &clusterpb.Command_BeginRemoval{BeginRemoval: &clusterpb.BeginRemoval{Name: "n3", Cancel: true}}})
	require.Empty(t, b.nodes["n2"].taker.Answering())
	require.NoError(t, b.nodes["n2"].taker.Tidy(t.Context()))
	require.Empty(t, b.nodes["n2"].adopted.Stores())
	b.leaver.look(t.Context())
	emptied, text = b.leaver.Progress()
	require.False(t, emptied)
	require.Empty(t, text)
}

// TestACustodianThatIsNamedAgainKeepsWhatItSealed: it tidies by a state that was
// overtaken while it did.
func TestACustodianThatIsNamedAgainKeepsWhatItSealed(t *testing.T) {
	b := newBed(t)
	want := b.write()
	b.remove()
	b.leaver.look(t.Context())
	require.True(t, b.emptied(), b.progress())
	b.do(&clusterpb.Command{Change: &clusterpb.Command_BeginRemoval{BeginRemoval: &clusterpb.BeginRemoval{Name: "n3", Cancel: true}}})
	cancelled := b.see()
	b.remove()
	b.leaver.look(t.Context())
	require.True(t, b.emptied(), b.progress())
	taker := b.nodes["n2"].taker
	now, looks := taker.cfg.State, 0
	taker.cfg.State = func() *cluster.State {
		if looks++; looks == 1 {
			return cancelled
		}
		return now()
	}
	require.NoError(t, taker.Tidy(t.Context()))
	require.Equal(t, want, b.kept("n2"))
	require.Len(t, taker.Answering(), 1)
}

// TestAGivingThatIsCutOffGoesOn cuts the stream before each of its messages,
// with a leaver that knows nothing of the attempts before it: the custodian
// answers for the store only when all has arrived.
func TestAGivingThatIsCutOffGoesOn(t *testing.T) {
	b := newBed(t)
	want := b.write()
	b.remove()
	cut := errors.New("cut off")
	attempts := 0
	for stop := 0; !b.emptied(); stop++ {
		require.Empty(t, b.nodes["n2"].taker.Answering())
		require.Less(t, stop, 100)
		sent := 0
		b.tamper = func(*peerpb.HandRequest) error {
			if sent++; sent > stop {
				return cut
			}
			return nil
		}
		b.leaver = NewLeaver(b.cfg) // another process
		b.leaver.look(t.Context())
		attempts++
	}
	require.Greater(t, attempts, 4)
	require.Equal(t, want, b.kept("n2"))
}

func TestASpoiledPieceIsNotTaken(t *testing.T) {
	for name, fix := range map[string]bool{"on its way": false, "on the giver's disk": true} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			want := b.write()
			b.remove()
			spoiled := 0
			b.tamper = func(req *peerpb.HandRequest) error {
				if p := req.GetPiece(); p != nil && spoiled == 0 {
					spoiled++
					data := append([]byte(nil), p.GetData()...)
					data[len(data)/2] ^= 1
					p.Data = data
					if fix {
						p.Checksum = tsdb.Checksum(data)
					}
				}
				return nil
			}
			b.leaver.look(t.Context())
			require.False(t, b.emptied())
			require.Contains(t, b.progress(), "DataLoss")
			require.Contains(t, b.progress(), "tenant acme")
			require.Empty(t, b.nodes["n2"].taker.Answering())
			b.leaver.look(t.Context())
			require.True(t, b.emptied(), b.progress())
			require.Equal(t, want, b.kept("n2"))
		})
	}
}

func TestALeaverSaysWhatItWaitsFor(t *testing.T) {
	b := newBed(t)
	b.write()
	b.remove()
	current, announced := false, uint64(0)
	b.cfg.Current = func() bool { return current }
	b.cfg.Announced = func() uint64 { return announced }
	bucket := &fake{err: errors.New("no route to host")}
	b.cfg.Bucket = bucket
	b.leaver = NewLeaver(b.cfg)
	for _, step := range []struct {
		say string
		do  func()
	}{
		{"for a leader to confirm", func() { current = true }},
		{"for appends that began before revision", func() { announced = b.see().Revision() }},
		{"blocks are not in the bucket", func() { b.now = b.now.Add(time.Hour) }},
		{"no route to host (failing since " + base.Format(time.RFC3339) + ")", func() { bucket.err, bucket.safe, b.free = nil, true, 1<<20 }},
		{"no live node has room for", func() { b.free = 1 << 40; b.silent["n1"], b.silent["n2"] = true, true }},
		{"no live node has room for", func() { clear(b.silent) }},
	} {
		b.leaver.look(t.Context())
		require.Contains(t, b.progress(), step.say)
		require.False(t, b.emptied())
		step.do()
	}
	announced = 1 << 60
	b.leaver.look(t.Context())
	require.True(t, b.emptied(), b.progress())
	require.True(t, b.see().Store(3).GetInBucket())
	require.Len(t, b.see().Store(3).GetCustodians(), 1)
}

func TestTheBucketAloneIsEnoughWhereItHasAll(t *testing.T) {
	b := newBed(t)
	b.write()
	b.remove()
	b.cfg.BucketIsEnough = func(*clusterpb.Member) bool { return true }
	bucket := &fake{}
	b.cfg.Bucket = bucket
	b.leaver = NewLeaver(b.cfg)
	b.leaver.look(t.Context())
	require.False(t, b.emptied())
	require.Contains(t, b.progress(), "not in the bucket")
	bucket.safe = true
	b.leaver.look(t.Context())
	require.True(t, b.emptied(), b.progress())
	require.Empty(t, b.see().Store(3).GetCustodians())
}

// TestASilentCustodianIsReplaced: the one that was named may come back for a
// while; then another one takes its place, and it drops what it has.
func TestASilentCustodianIsReplaced(t *testing.T) {
	b := newBed(t)
	want := b.write()
	b.remove()
	b.tamper = func(req *peerpb.HandRequest) error {
		if req.GetEnd() {
			return errors.New("it fell silent")
		}
		return nil
	}
	b.leaver.look(t.Context())
	require.Equal(t, []uint32{2}, b.see().Store(3).GetCustodians())
	b.silent["n2"], b.tamper = true, nil
	b.leaver.look(t.Context())
	require.Contains(t, b.progress(), "custodian n2 does not answer")
	b.now = b.now.Add(6 * time.Minute)
	b.leaver.look(t.Context())
	require.True(t, b.emptied(), b.progress())
	require.Equal(t, []uint32{1}, b.see().Store(3).GetCustodians())
	require.Equal(t, want, b.kept("n1"))
	require.Len(t, b.nodes["n2"].adopted.Stores(), 1)
	require.NoError(t, b.nodes["n2"].taker.Tidy(t.Context()))
	require.Empty(t, b.nodes["n2"].adopted.Stores())
}

func TestACustodianTakesFromNobodyElse(t *testing.T) {
	b := newBed(t)
	b.write()
	b.remove()
	b.leaver.look(t.Context())
	own := b.nodes["n3"].storeID()
	since := b.see().Store(3).GetCustody()[0]
	taker := b.nodes["n2"].taker
	seal := func(caller string, store []byte, custody uint64) codes.Code {
		taker.cfg.Caller = func(context.Context) (string, bool) { return caller, caller != "" }
		_, err := taker.Seal(t.Context(), &peerpb.SealRequest{Store: store, Custody: custody})
		return status.Code(err)
	}
	require.Equal(t, codes.PermissionDenied, seal("n1", own, since), "a member that has not the store")
	require.Equal(t, codes.PermissionDenied, seal("", own, since), "nobody")
	require.Equal(t, codes.FailedPrecondition, seal("n3", own, since-1), "an earlier custody")
	require.Equal(t, codes.Unavailable, seal("n3", own, 1<<40), "one that this node has not seen")
	require.Equal(t, codes.FailedPrecondition, seal("n3", b.nodes["n1"].storeID(), since), "another store")
	require.Equal(t, codes.InvalidArgument, seal("n3", own[:3], since))
	taker.cfg.Caller = callerOf
	_, err := taker.Seal(t.Context(), &peerpb.SealRequest{Store: own, Custody: since})
	require.Equal(t, codes.PermissionDenied, status.Code(err), "a connection without a member's certificate")
}

// TestACustodyEndsWithItsLastBlock: nothing is left that a read could ask for.
func TestACustodyEndsWithItsLastBlock(t *testing.T) {
	b := newBed(t)
	b.write()
	b.remove()
	b.leaver.look(t.Context())
	require.True(t, b.emptied())
	b.do(&clusterpb.Command{Change: &clusterpb.Command_RemoveMember{RemoveMember: &clusterpb.RemoveMember{Name: "n3"}}})
	taker := b.nodes["n2"].taker
	require.NoError(t, taker.Tidy(t.Context()))
	require.Len(t, b.see().InCustody(2), 1)
	b.do(&clusterpb.Command{Change: &clusterpb.Command_DeleteTenant{DeleteTenant: &clusterpb.DeleteTenant{Id: "acme"}}})
	require.NoError(t, taker.Tidy(t.Context()))
	require.Empty(t, b.see().InCustody(2))
	require.NoError(t, taker.Tidy(t.Context()))
	require.Empty(t, taker.Stores())
}
