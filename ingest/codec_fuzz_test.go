package ingest

import (
	"strings"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// FuzzShare holds our reading of a share, which copies nothing, against that of
// Go's own protobuf.
func FuzzShare(f *testing.F) {
	frames, n := framesOf(f, samplesOf(20, 1_700_000_000_000, 1))
	id := [16]byte{1, 2, 3}
	for _, s := range []*peerpb.Share{
		{},
		{Id: 7, Tenant: tenantID, Incarnation: 1, Ring: 2, Store: id[:], Seen: 9, Need: 5, Repeat: true, TimeoutMs: 4999, Series: 20, Samples: uint32(n), Frames: frames},
		{Tenant: "ü", Frames: frames[:1]},
	} {
		raw, err := proto.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte("\x0a\x01a"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		in := &incoming{}
		err := codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(raw)}, in)
		defer in.release()
		want := &peerpb.Share{}
		oracleErr := proto.Unmarshal(raw, want)
		switch {
		case err == nil && oracleErr != nil:
			// A tenant whose name is no UTF-8 is one that nobody knows, and groups of
			// fields that are not known are skipped without a closer look.
			if !strings.Contains(oracleErr.Error(), "invalid UTF-8") && len(in.ProtoReflect().GetUnknown()) == 0 {
				t.Fatalf("took what Go's protobuf refuses: %v", oracleErr)
			}
		case err != nil && oracleErr == nil:
			// It keeps what it does not know, a known number of another type included.
			if len(want.ProtoReflect().GetUnknown()) == 0 {
				t.Fatalf("refused what Go's protobuf takes: %v", err)
			}
		case err == nil && !equal(&in.Share, want):
			t.Fatalf("got %v, want %v", &in.Share, want)
		}
	})
}

// equal compares what is known: the rest is kept as it came, or written anew.
func equal(a, b *peerpb.Share) bool {
	a.ProtoReflect().SetUnknown(nil)
	b.ProtoReflect().SetUnknown(nil)
	return proto.Equal(a, b)
}
