package ingest

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

// sendTo sends a share of n series from the first node to another.
func sendTo(b *bed, to *node, n int) answer {
	batch := walked(b.t, samplesOf(n, now(), 1))
	id := to.id()
	buf := newBuffer(len(batch.Frames))
	buf.b = append(buf.b, batch.Frames...)
	done := make(chan answer, 1)
	b.nodes[0].ing.peers.send(to.store, Peer{to.name, id}, &peerpb.Share{
		Tenant: tenantID, Incarnation: 1, Ring: 1, Store: id[:], Seen: 10, Need: 5, Series: uint32(n), Samples: uint32(n),
	}, buf.b, buf, time.Time{}, func(a answer) { done <- a })
	return <-done
}

func TestALaneComesBackAfterItsPeer(t *testing.T) {
	b := newBed(t, 2, nil)
	b.show(10, tableOf(t, 64, 2, 2, 1, 5))
	to := b.nodes[1]
	if a := sendTo(b, to, 10); a.err != nil || a.res.Status != peerpb.Status_DONE {
		t.Fatal(a)
	}
	to.kill()
	eventually(t, "a dead peer fails", func() bool { return sendTo(b, to, 10).err != nil })
	to.listen(to.address)
	eventually(t, "it is back", func() bool { return sendTo(b, to, 10).err == nil })
}

func TestAStoreThatIsNoMoreIsForgotten(t *testing.T) {
	b := newBed(t, 2, nil)
	b.show(10, tableOf(t, 64, 2, 2, 1, 5))
	sendTo(b, b.nodes[1], 1)
	b.nodes[0].ing.peers.sweep(func(s ring.Store) bool { return s != 2 })
	if b.nodes[0].way(2) != nil {
		t.Error("the way to a store that is no more is kept")
	}
	b.nodes[0].ing.Close()
	b.nodes[0].ing.Close()
	if a := sendTo(b, b.nodes[1], 1); !errors.Is(a.err, errClosed) {
		t.Errorf("after Close: %v", a)
	}
}

// TestOneTenantCannotFillTheWayToAPeer has one tenant's storage hang at the
// peer: others still get through.
func TestOneTenantCannotFillTheWayToAPeer(t *testing.T) {
	p := &peer{tenants: map[string]int64{}}
	parcelOf := func(tenant string, n int) *parcel {
		buf := newBuffer(n)
		return &parcel{share: &peerpb.Share{Tenant: tenant}, frames: buf.b[:n], buf: buf}
	}
	var taken []*parcel
	for _, tenant := range []string{"a", "a", "a", "b", "c", "d", "e"} {
		if c := parcelOf(tenant, 10); p.take(80, c) {
			taken = append(taken, c)
		} else {
			c.buf.release()
		}
	}
	var who []string
	for _, c := range taken {
		who = append(who, c.share.Tenant)
		p.drop(c)
	}
	if !slices.Equal(who, []string{"a", "a", "b", "c", "d", "e"}) || p.load() != 0 || len(p.tenants) != 0 {
		t.Errorf("took %v, %d bytes left of %v", who, p.load(), p.tenants)
	}
}

func TestCodecCarriesSharesAsPlainProtobuf(t *testing.T) {
	for _, n := range []int{1, 2000} {
		batch := walked(t, samplesOf(n, 1_700_000_000_000, 1))
		buf := newBuffer(len(batch.Frames))
		buf.b = append(buf.b, batch.Frames...)
		out := &outgoing{
			share:  &peerpb.Share{Id: 9, Tenant: tenantID, Seen: 10, Need: 5, Samples: uint32(n), Repeat: true},
			frames: buf.b, buf: buf,
		}
		data, err := codec{}.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		var plain peerpb.Share
		if err := plain.UnmarshalVT(data.Materialize()); err != nil || !bytes.Equal(plain.Frames, batch.Frames) || plain.Id != 9 || !plain.Repeat {
			t.Fatalf("%d series: %v", n, err)
		}
		in := &incoming{}
		if err := (codec{}).Unmarshal(data, in); err != nil {
			t.Fatal(err)
		}
		data.Free()
		buf.release() // what was received does not depend on it
		if !bytes.Equal(in.Frames, batch.Frames) || in.Tenant != tenantID || int(in.Samples) != n {
			t.Errorf("%d series: %d bytes of frames arrived", n, len(in.Frames))
		}
		in.release()
		if in.Tenant != tenantID {
			t.Error("the tenant's name went with the buffer")
		}
	}
	if _, err := (codec{}).Marshal("text"); err == nil {
		t.Error("sends anything")
	}
	if err := (codec{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer("\xff")}, &incoming{}); err == nil {
		t.Error("takes anything")
	}
}

func TestBuffersComeBackWhenTheLastReaderIsDone(t *testing.T) {
	b := newBuffer(5000)
	if cap(b.b) < 5000 || len(b.b) != 0 {
		t.Fatalf("room for %d", cap(b.b))
	}
	b.b = append(b.b, "hello"...)
	seen := b.b
	b.retain()
	b.release()
	if string(seen) != "hello" {
		t.Fatal("released under a reader")
	}
	b.release()
	if string(seen) == "hello" {
		t.Error("not poisoned")
	}
	for name, f := range map[string]func(){"release": b.release, "retain": func() { b.retain() }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s after the last release goes unnoticed", name)
				}
			}()
			b.refs.Store(0)
			f()
		}()
	}
}
