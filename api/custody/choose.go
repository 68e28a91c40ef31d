package custody

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/ring"
)

const (
	// freshMs is how long ago a live node was heard at most, milliseconds.
	freshMs = 3000
	// reserve is what a custodian's disk has left besides the blocks, bytes:
	// twice of what the TSDB wants to have free.
	reserve = 512 << 20
)

// custodian is the node that takes a store's blocks, named in the state: the one
// that was, as long as it can, else the next one.
func (l *Leaver) custodian(ctx context.Context, number uint32, need int64) (node string, since uint64, err error) {
	st := l.cfg.State()
	of := st.Store(ring.Store(number))
	own := uint32(numberOf(st, l.cfg.Store))
	var silent []uint32
	for _, c := range of.GetCustodians() {
		if c == own {
			continue
		}
		m := st.Holder(ring.Store(c))
		switch {
		case m.GetState() != clusterpb.MemberState_ACTIVE:
			silent = append(silent, c) // it leaves, too
		case l.live(m):
			delete(l.silent, c)
			since, _ = st.Custody(ring.Store(number), ring.Store(c))
			return m.GetName(), since, nil
		case l.patient(c):
			return "", 0, fmt.Errorf("custodian %s does not answer; after %v another one is named", m.GetName(), l.cfg.Patience)
		default:
			silent = append(silent, c)
		}
	}
	next, err := l.choose(st, number, need)
	if err != nil {
		return "", 0, err
	}
	named := slices.DeleteFunc(slices.Clone(of.GetCustodians()), func(c uint32) bool { return slices.Contains(silent, c) })
	l.say("naming a custodian", "%s for store %d", next.GetName(), number)
	err = propose(ctx, l.cfg.Propose, st, &clusterpb.Command{Change: &clusterpb.Command_SetCustodians{SetCustodians: &clusterpb.SetCustodians{
		Store: number, Custodians: append(named, next.GetStore()), Were: of.GetCustodians(),
	}}})
	if err != nil {
		return "", 0, err
	}
	since, _ = l.cfg.State().Custody(ring.Store(number), ring.Store(next.GetStore()))
	return next.GetName(), since, nil
}

// patient says whether a silent custodian is still waited for.
func (l *Leaver) patient(c uint32) bool {
	if l.silent[c].IsZero() {
		l.silent[c] = l.cfg.Now()
	}
	return l.cfg.Now().Sub(l.silent[c]) < l.cfg.Patience
}

func (l *Leaver) live(m *clusterpb.Member) bool {
	for _, h := range l.cfg.Health() {
		if h.GetReport().GetNode() == m.GetName() {
			return h.GetLastContactMs() >= 0 && h.GetLastContactMs() <= freshMs
		}
	}
	return false
}

// choose takes the live node with the most free disk, those first that share a
// ring with the leaver: their tenants are there already. Equal ones by name.
func (l *Leaver) choose(st *cluster.State, number uint32, need int64) (*clusterpb.Member, error) {
	type candidate struct {
		*clusterpb.Member
		shares bool
		free   int64
	}
	var all []candidate
	most := int64(0)
	for _, h := range l.cfg.Health() {
		m := st.Member(h.GetReport().GetNode())
		if m.GetState() != clusterpb.MemberState_ACTIVE || m.GetStore() == number || m.GetName() == l.cfg.Node ||
			h.GetLastContactMs() < 0 || h.GetLastContactMs() > freshMs {
			continue
		}
		free := h.GetReport().GetDiskFreeBytes()
		most = max(most, free)
		if free >= need+reserve {
			all = append(all, candidate{m, shareRing(st, ring.Store(number), ring.Store(m.GetStore())), free})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no live node has room for %s of blocks and %s besides; the most that one has free is %s",
			size(need), size(reserve), size(most))
	}
	best := slices.MinFunc(all, func(a, b candidate) int {
		return cmp.Or(-cmpBool(a.shares, b.shares), cmp.Compare(b.free, a.free), cmp.Compare(a.GetName(), b.GetName()))
	})
	return best.Member, nil
}

func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// shareRing says whether some ring in which the leaver was is the other's, too.
func shareRing(st *cluster.State, leaver, other ring.Store) bool {
	for _, r := range st.AllRings() {
		was := slices.ContainsFunc(r.Table.Past(), func(e ring.Epoch) bool { return e.Replicas.Has(leaver) })
		if was && r.Table.Held()[other] > 0 {
			return true
		}
	}
	return false
}

func size(n int64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
