package cluster

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// serverID is Raft's name for a node: its name and its store, since the log and
// the vote lie in the data directory. A node that comes back with an empty one
// is another server to Raft, and does not vote with a memory that it lost.
//
// Nor does one that gave its control state up and kept its samples: generation
// tells it apart, 0 is not written.
func serverID(name string, store []byte, generation uint64) raft.ServerID {
	id := name + "/" + hex.EncodeToString(store)
	if generation > 0 {
		id += "/" + strconv.FormatUint(generation, 10)
	}
	return raft.ServerID(id)
}

// nodeOf is the node's name in a server's id.
func nodeOf(id raft.ServerID) string {
	name, _, _ := strings.Cut(string(id), "/")
	return name
}

// serverOf is the id of the member's server; it has one for as long as it has
// a store.
func serverOf(st *State, m *clusterpb.Member) raft.ServerID {
	return serverID(m.GetName(), st.Store(storeOf(m.GetStore())).GetId(), m.GetServer())
}
