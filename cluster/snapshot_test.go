package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// smallStory ends in a state with an object of every kind. Its slots are moved
// by name, so that no planner has a say in what the golden files hold.
func smallStory(t testing.TB) *State {
	h := begin(t)
	c := initCluster("n1", 1)
	c.Slots = 2
	h.do(c)
	h.join("n2")
	r := h.state.Ring(DefaultRing)
	h.do(&clusterpb.MoveSlots{Ring: r.Spec.GetId(), Steps: []*clusterpb.SlotStep{{Slot: 1, Replicas: []uint32{2}, Quorum: 1, Base: r.Spec.GetId()}}})
	h.closeAll(h.state.Ring(DefaultRing))
	h.do(&clusterpb.PutTenant{Id: "a", Spec: &clusterpb.TenantSpec{RetentionMs: ref(day), Limits: &clusterpb.Limits{ActiveSeries: ref(int64(0))}}})
	h.do(&clusterpb.CreateTenantToken{Tenant: "a", Token: &clusterpb.TenantToken{Id: "t", Hash: hashOf("t")}})
	h.do(&clusterpb.PutTenant{Id: "b", Automatic: true})
	h.do(&clusterpb.DeleteTenant{Id: "b"})
	h.do(&clusterpb.PutRing{Name: "hard", Tenants: []string{"a", "c-*"}, ReplicationFactor: 1, Nodes: []string{"n1"}, Slots: 1})
	h.do(&clusterpb.RemoveMember{Name: "n2", Force: true})
	for i, tenant := range []string{"c", "not a tenant"} {
		cmd := command(&clusterpb.PutTenant{Id: tenant})
		cmd.RequestId = bytes.Repeat([]byte{byte(i + 1)}, requestIDLen)
		h.send(cmd)
	}
	return h.state
}

// TestSnapshotFormatIsKept reads a snapshot of an earlier build: it must give
// the state that it gave then, and the same story must still write it. With
// MUSTER_UPDATE_GOLDEN=1 the files are written anew, for a new format.
func TestSnapshotFormatIsKept(t *testing.T) {
	binaryFile, textFile := filepath.Join("testdata", "snapshot.bin"), filepath.Join("testdata", "snapshot.jsonl")
	s := smallStory(t)
	if os.Getenv("MUSTER_UPDATE_GOLDEN") != "" {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(binaryFile, encoded(t, s), 0o644), os.WriteFile(textFile, []byte(everyLine(s)), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(binaryFile)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(textFile)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ReadState(bytes.NewReader(golden))
	if err != nil {
		t.Fatalf("this version does not read what an earlier one wrote: %v", err)
	}
	if got := everyLine(old); got != string(text) {
		t.Errorf("read\n%s\nwant\n%s", got, text)
	}
	if got := everyLine(s); got != string(text) {
		t.Errorf("the story ends with\n%s\nwant\n%s", got, text)
	}
	if !bytes.Equal(encoded(t, s), golden) {
		t.Error("the same objects are encoded otherwise")
	}
}

// everyLine is all of a state as text, its revision and hash at the end.
func everyLine(s *State) string {
	var out strings.Builder
	s.records(func(r *clusterpb.Record) { out.WriteString(dump(r)) })
	fmt.Fprintf(&out, "revision %d hash %016x\n", s.Revision(), s.Hash())
	return out.String()
}

func TestRestoreGivesTheSameState(t *testing.T) {
	for name, s := range map[string]*State{"empty": EmptyState(), "small": smallStory(t), "with moves": created(t, 3, 5).state} {
		t.Run(name, func(t *testing.T) {
			b := encoded(t, s)
			got, err := ReadState(iotest.OneByteReader(bytes.NewReader(b)))
			if err != nil {
				t.Fatal(err)
			}
			checkSound(t, got)
			if got.Hash() != s.Hash() || got.Revision() != s.Revision() || !bytes.Equal(encoded(t, got), b) {
				t.Fatalf("restored\n%s\nof\n%s", everyLine(got), everyLine(s))
			}
		})
	}
}

func TestADamagedSnapshotIsRefused(t *testing.T) {
	whole := encoded(t, smallStory(t))
	for cut := range whole {
		if _, err := ReadState(bytes.NewReader(whole[:cut])); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 0x10
		// A number may be written in more ways than one: then the state is the same.
		s, err := ReadState(bytes.NewReader(b))
		if err == nil && bytes.Equal(encoded(t, s), whole) {
			continue
		}
		if !errors.Is(err, ErrSnapshot) {
			t.Fatalf("byte %d of %d changed: %v", i, len(b), err)
		}
	}
	if _, err := ReadState(bytes.NewReader(append(bytes.Clone(whole), 0))); !errors.Is(err, ErrSnapshot) {
		t.Fatalf("a byte more: %v", err)
	}
	if _, err := ReadState(bytes.NewReader(append(bytes.Clone(whole), whole...))); !errors.Is(err, ErrSnapshot) {
		t.Fatalf("two snapshots: %v", err)
	}
	huge := binary.AppendUvarint(nil, maxRecord+1)
	if _, err := ReadState(io.MultiReader(bytes.NewReader(huge), neverEnding{})); !errors.Is(err, ErrSnapshot) {
		t.Fatalf("a record without bounds: %v", err)
	}
}

type neverEnding struct{}

func (neverEnding) Read(b []byte) (int, error) { return len(b), nil }

func TestAWriterThatFailsIsHeard(t *testing.T) {
	s := smallStory(t)
	if _, err := s.WriteTo(failing{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("write: %v", err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// FuzzReadState reads arbitrary bytes; what it takes, it writes again as it was.
func FuzzReadState(f *testing.F) {
	f.Add(encoded(f, EmptyState()))
	f.Add(encoded(f, smallStory(f)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadState(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := ReadState(bytes.NewReader(encoded(t, s)))
		if err != nil || again.Hash() != s.Hash() {
			t.Fatalf("read again: %v", err)
		}
		for i, change := range everyChange() {
			s, _ = s.Apply(s.Revision()+1+uint64(i), withTime(command(change), testTime))
		}
	})
}
