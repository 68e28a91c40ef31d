package ring

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A sender that has seen the newest change is admitted by Held exactly where
// the fence itself admits it.
func TestHeldSaysWhatTheFenceSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := make([]Slot, 1<<rapid.IntRange(0, 8).Draw(t, "log slots"))
		for i := range slots {
			for range rapid.IntRange(0, MaxReplicas).Draw(t, "replicas") {
				slots[i].Replicas = slots[i].Replicas.With(Store(rapid.IntRange(1, 6).Draw(t, "store")))
			}
			slots[i].Changed = rapid.Uint64Range(1, 9).Draw(t, "changed")
		}
		table, err := New(slots, nil)
		require.NoError(t, err)
		self := Store(rapid.IntRange(1, 6).Draw(t, "self"))
		h := table.HeldBy(self)
		fence := Holding{Self: self, Table: table}
		for i := range slots {
			require.Equal(t, fence.Admits(i, h.Newest()), h.Has(i))
		}
		require.False(t, h.Has(len(slots)+64))
	})
}
