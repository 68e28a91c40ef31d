package cluster

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// kind is the first byte of what is hashed of an object, so that two objects
// of different kinds with equal bytes differ. The numbers are the fields of
// clusterpb.Record.
type kind byte

const (
	kindHeader    kind = 1
	kindCluster   kind = 2
	kindSettings  kind = 3
	kindMember    kind = 4
	kindRemoved   kind = 5
	kindStore     kind = 6
	kindRing      kind = 7
	kindTenant    kind = 8
	kindTombstone kind = 9
	kindToken     kind = 10
	kindEvent     kind = 11
	kindRequest   kind = 12
)

// object is a message of the state: it has no maps, so that its encoding is
// the same on every node.
type object interface {
	comparable
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
}

// sumOf is the object's part of State.Hash. An object that cannot be encoded
// has the sum of its kind and size: apply lets none in.
func sumOf[M object](k kind, m M) uint64 {
	size := m.SizeVT()
	buf := make([]byte, 9+size)
	buf[0] = byte(k)
	binary.LittleEndian.PutUint64(buf[1:], uint64(size))
	if _, err := m.MarshalToSizedBufferVT(buf[9:]); err != nil {
		buf = buf[:9]
	}
	return xxhash.Sum64(buf)
}
