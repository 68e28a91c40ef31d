package cluster

import (
	"fmt"
	"time"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

// absence is why a member does not count as one that stores writes, in words
// that follow its name; "" where it counts.
type absence func(*clusterpb.Member) string

// heardLately is how long ago a node was heard that counts as there.
const heardLately = 3 * time.Second

// absentBy judges the members by what the leader tells of them.
func absentBy(healths []*clusterpb.Health) absence {
	heard := map[string]*clusterpb.Health{}
	for _, h := range healths {
		heard[h.GetReport().GetNode()] = h
	}
	return func(m *clusterpb.Member) string {
		h := heard[m.GetName()]
		switch ms := h.GetLastContactMs(); {
		case h == nil || ms < 0:
			return "has not been heard by the leader"
		case ms > heardLately.Milliseconds():
			return fmt.Sprintf("was last heard %s ago", (time.Duration(ms) * time.Millisecond).Round(time.Second))
		case m.GetState() == clusterpb.MemberState_DRAINING:
			return "is draining"
		default:
			return ""
		}
	}
}

// drains counts only what the state knows: who drains already.
func drains(m *clusterpb.Member) string {
	if m.GetState() == clusterpb.MemberState_DRAINING {
		return "is draining"
	}
	return ""
}

// shortfall is slots of a ring that have too few replicas for a write.
type shortfall struct {
	ring *Ring
	// slots of it have at worst have replicas, and a write needs need.
	slots, have, need int
	// missing are those who are not there, with the reason.
	missing []string
}

// withoutNode says which slots of each ring could take no write if the member
// were away too.
func (s *State) withoutNode(gone *clusterpb.Member, absent absence) []shortfall {
	var out []shortfall
	st := storeOf(gone.GetStore())
	for _, r := range s.Rings() {
		f := shortfall{ring: r}
		seen := map[ring.Store]bool{}
		for i := range r.Table.Slots() {
			slot := r.Table.At(i)
			if !slot.Replicas.Has(st) {
				continue
			}
			have := s.present(slot.Replicas, st, absent)
			if have >= slot.Quorum {
				continue
			}
			if f.slots++; f.slots == 1 || have-slot.Quorum < f.have-f.need {
				f.have, f.need = have, slot.Quorum
			}
			f.note(s, slot.Replicas, st, absent, seen)
		}
		if f.slots > 0 {
			out = append(out, f)
		}
	}
	return out
}

// present counts the replicas that are there, without one store.
func (s *State) present(replicas ring.Set, without ring.Store, absent absence) int {
	have := 0
	for i := range replicas.Len() {
		if st := replicas.At(i); st != without {
			if m := s.Holder(st); m != nil && absent(m) == "" {
				have++
			}
		}
	}
	return have
}

// note adds those of a slot that are not there.
func (f *shortfall) note(s *State, replicas ring.Set, without ring.Store, absent absence, seen map[ring.Store]bool) {
	for i := range replicas.Len() {
		st := replicas.At(i)
		if st == without || seen[st] {
			continue
		}
		seen[st] = true
		if m := s.Holder(st); m == nil {
			f.missing = append(f.missing, fmt.Sprintf("store %d is lost", st))
		} else if why := absent(m); why != "" {
			f.missing = append(f.missing, m.GetName()+" "+why)
		}
	}
}
