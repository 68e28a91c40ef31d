package cluster

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// A snapshot is a stream of records, each after its length as a varint:
//
//	header   format 1, revision
//	cluster  settings  members by name  removed members by name
//	stores by number  rings by id, with their tables
//	tenants and tombstones by id  tokens by id
//	events and remembered requests by revision
//	footer   number of records before it, State.Hash of what they hold
//
// Equal states have equal bytes.

const (
	snapshotFormat = 1
	// maxRecord bounds a record in bytes: a ring with the most slots and the
	// most ended epochs stays below it.
	maxRecord = 256 << 20
)

// ErrSnapshot means that a snapshot is damaged, cut short or of another format.
var ErrSnapshot = errors.New("not a whole snapshot")

// WriteTo writes a snapshot of the state, and says how many bytes it took.
func (s *State) WriteTo(w io.Writer) (int64, error) {
	out := &recordWriter{w: bufio.NewWriterSize(w, 64<<10)}
	out.write(&clusterpb.Record{Of: &clusterpb.Record_Header{Header: &clusterpb.SnapshotHeader{Format: snapshotFormat, Revision: s.revision}}})
	s.records(out.write)
	out.write(&clusterpb.Record{Of: &clusterpb.Record_Footer{Footer: &clusterpb.SnapshotFooter{Records: out.records, Hash: s.Hash()}}})
	if out.err == nil {
		out.err = out.w.Flush()
	}
	if out.err != nil {
		return out.bytes, fmt.Errorf("write snapshot: %w", out.err)
	}
	return out.bytes, nil
}

// records calls f with each object of the state, in the order of a snapshot.
func (s *State) records(f func(*clusterpb.Record)) {
	if s.cluster != nil {
		f(&clusterpb.Record{Of: &clusterpb.Record_Cluster{Cluster: s.cluster}})
	}
	if s.settings != nil {
		f(&clusterpb.Record{Of: &clusterpb.Record_Settings{Settings: s.settings}})
	}
	for _, m := range s.members {
		f(&clusterpb.Record{Of: &clusterpb.Record_Member{Member: m}})
	}
	for _, m := range s.removed {
		f(&clusterpb.Record{Of: &clusterpb.Record_Removed{Removed: m}})
	}
	for _, st := range s.stores {
		f(&clusterpb.Record{Of: &clusterpb.Record_Store{Store: st}})
	}
	for _, r := range s.rings {
		f(&clusterpb.Record{Of: &clusterpb.Record_Ring{Ring: r.record()}})
	}
	s.WalkTenants("", func(t *clusterpb.Tenant) bool {
		f(&clusterpb.Record{Of: &clusterpb.Record_Tenant{Tenant: t}})
		return true
	})
	s.WalkTombstones(func(t *clusterpb.Tombstone) bool {
		f(&clusterpb.Record{Of: &clusterpb.Record_Tombstone{Tombstone: t}})
		return true
	})
	for _, t := range s.Tokens() {
		f(&clusterpb.Record{Of: &clusterpb.Record_Token{Token: t}})
	}
	for _, e := range s.Events(0) {
		f(&clusterpb.Record{Of: &clusterpb.Record_Event{Event: e}})
	}
	it := s.answered.Root().Iterator()
	for _, r, ok := it.Next(); ok; _, r, ok = it.Next() {
		f(&clusterpb.Record{Of: &clusterpb.Record_Request{Request: r}})
	}
}

// recordWriter writes records until the first error.
type recordWriter struct {
	w       *bufio.Writer
	buf     []byte
	records uint64
	bytes   int64
	err     error
}

func (o *recordWriter) write(r *clusterpb.Record) {
	if o.err != nil {
		return
	}
	size := r.SizeVT()
	if size > maxRecord {
		o.err = fmt.Errorf("a record of %d bytes", size)
		return
	}
	o.buf = binary.AppendUvarint(o.buf[:0], uint64(size))
	n := len(o.buf)
	o.buf = append(o.buf, make([]byte, size)...)
	if _, o.err = r.MarshalToSizedBufferVT(o.buf[n:]); o.err != nil {
		return
	}
	var wrote int
	wrote, o.err = o.w.Write(o.buf)
	o.bytes += int64(wrote)
	o.records++
}
