package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/tsdb"
)

// Slots move in many steps, and a tenant's series are let go once after them.
func TestMovesComeToRestBeforeSeriesAreLetGo(t *testing.T) {
	began, key := time.Now(), tsdb.Key{Tenant: "a", Incarnation: 3}
	at := func(d time.Duration) time.Time { return began.Add(d) }
	r := rest{quiet: 30 * time.Second, longest: 10 * time.Minute, waits: map[tsdb.Key]*wait{}}
	due := func(d time.Duration, want bool) {
		t.Helper()
		keys := r.due(at(d))
		require.Equal(t, want, len(keys) == 1 && keys[0] == key, "after %v: %v", d, keys)
	}
	r.heard(key, mark{1, 1}, at(0))
	due(29*time.Second, false)
	r.heard(key, mark{1, 1}, at(29*time.Second)) // nothing new
	due(30*time.Second, true)
	r.failed(key, at(30*time.Second))
	due(31*time.Second, false)
	due(90*time.Second, true)
	r.done(key)
	due(time.Hour, false)

	// Moves that never end are not waited for longer than that.
	for n := range uint64(61) {
		d := time.Hour + time.Duration(n)*10*time.Second
		r.heard(key, mark{1, 2 + n}, at(d))
		due(d, n == 60)
	}
	r.done(key)
	due(3*time.Hour, false)
	r.heard(key, mark{9, 1}, at(4*time.Hour)) // another ring
	due(4*time.Hour, false)
	due(5*time.Hour, true)
	r.forget(map[tsdb.Key]bool{key: true})
	due(5*time.Hour, true)
	r.forget(nil) // it was deleted
	due(5*time.Hour, false)
}
