package cluster

import (
	"testing"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// A leader that has just begun has heard nobody: that is no silence of theirs.
func TestSilenceTakesALeaderThatListened(t *testing.T) {
	h := newHealth(3 * time.Second)
	m := &clusterpb.Member{Name: "n2", Incarnation: 7}
	h.Forget()
	now := time.Now()
	if h.Silent(m, now) {
		t.Error("a leader of this moment calls a member silent")
	}
	if !h.Silent(m, now.Add(7*time.Second)) {
		t.Error("a member that was never heard is not called silent")
	}
	h.Put(&clusterpb.Report{Node: "n2", Incarnation: 7}, now.Add(6*time.Second), now)
	if h.Silent(m, now.Add(7*time.Second)) {
		t.Error("a member that was heard a second ago is called silent")
	}
}
