package cluster

import (
	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// State is what the members agree on: a value that is never changed. Apply
// makes the next one and shares with it everything that stayed as it was, so
// that one tenant among 100,000 costs one path of a tree. What its methods
// return belongs to the state: nobody writes to it.
type State struct {
	revision uint64
	// sum is the sum of the objects' hashes, without the revision.
	sum uint64

	cluster  *clusterpb.Cluster
	settings *clusterpb.Settings

	members []*clusterpb.Member        // by name
	removed []*clusterpb.RemovedMember // by name
	stores  []*clusterpb.Store         // by number

	rings  []*Ring // by id, the deleted ones included
	claims *claims // derived from rings

	tenants      *iradix.Tree[*clusterpb.Tenant]    // by id
	tenantHashes *iradix.Tree[string]               // token hash -> tenant id, deleted ones included; derived
	tombstones   *iradix.Tree[*clusterpb.Tombstone] // by tenant id

	tokens      *iradix.Tree[*clusterpb.Token] // by id
	tokenHashes *iradix.Tree[string]           // hash -> token id; derived

	events *iradix.Tree[*clusterpb.Event] // by revision
	// eventBytes is how much memory they take, roughly; derived.
	eventBytes int
	requests   *iradix.Tree[*clusterpb.Request] // by request id
	answered   *iradix.Tree[*clusterpb.Request] // the same by revision; derived
}

// Keys names what a change touched, for those who derive something from the
// state and want to look only at the difference.
type Keys struct {
	// Tenants are the ids of the tenants that changed; AllTenants stands for
	// more than a list is worth.
	Tenants    []string
	AllTenants bool
	Rings      bool
	Members    bool
	Settings   bool
	Tokens     bool
}

// Result is the answer to a command.
type Result struct {
	// Version is the version of the object that was written; 0 where the
	// command left none behind.
	Version uint64
	// Revision is the one at which the command was applied: an earlier one
	// where a repeated request was answered from memory.
	Revision uint64
	// Refusal says why nothing was changed; nil where it was.
	Refusal *clusterpb.Refusal
	Changed Keys
	// Check asks for the hash of the state after the command.
	Check bool
}

// EmptyState is the state before a cluster was created, at revision 0.
func EmptyState() *State {
	return &State{
		claims:       &claims{},
		tenants:      iradix.New[*clusterpb.Tenant](),
		tenantHashes: iradix.New[string](),
		tombstones:   iradix.New[*clusterpb.Tombstone](),
		tokens:       iradix.New[*clusterpb.Token](),
		tokenHashes:  iradix.New[string](),
		events:       iradix.New[*clusterpb.Event](),
		requests:     iradix.New[*clusterpb.Request](),
		answered:     iradix.New[*clusterpb.Request](),
	}
}

// Revision is the Raft index of the last command that was applied, refused
// ones included; 0 before the first.
func (s *State) Revision() uint64 { return s.revision }

// Hash is equal on two nodes at one revision unless they have diverged: the
// wrapping sum of the hashes of all objects and of the revision.
func (s *State) Hash() uint64 {
	return s.sum + sumOf(kindHeader, &clusterpb.SnapshotHeader{Revision: s.revision})
}

// Cluster is the cluster's own object; nil before it was created.
func (s *State) Cluster() *clusterpb.Cluster { return s.cluster }

// WidestWindow is the largest out-of-order window plus future window that any
// tenant has had, in milliseconds: how far the time of a sample may lie from
// the time of its write, clocks and the way not counted.
func (s *State) WidestWindow() int64 { return s.cluster.GetWidestWindowMs() }

// numberKey is the key of n in a tree that is walked in the order of numbers.
func numberKey(n uint64) []byte {
	return []byte{
		byte(n >> 56), byte(n >> 48), byte(n >> 40), byte(n >> 32),
		byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n),
	}
}

// storeOf is the number as slot tables use it.
func storeOf(number uint32) ring.Store { return ring.Store(number) }
