package ring

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// The model explores every way in which one write, one history of changes and
// the nodes' lagging views can interleave, with the functions of this package
// deciding. One write is enough: shares of others could only hold back an
// announcement, which takes ways away and adds none.
//
// Revisions are the clock: what happens while revision r is the newest happens
// at time r, and a sample bears the time at which it was sent. There is no slack,
// and a read asks for that millisecond alone. A read hears every store but those
// that hold the sample: any other set of answers claims less or finds it.
//
// Three more reductions, each of which only adds ways. A node without a share
// of the write sees every revision at once. What a store announces is the most
// that it may; the leader commits a closing at any later time, or never. After
// the acknowledgement the shares that are left fail, and all nodes catch up.

// change is one step of slot 0. A forced one does not wait for the slot's last
// epoch to be closed, and gives a store up.
type change struct {
	set    Set
	quorum int
	lost   Store
}

// story is where slot 0 starts, and its changes.
type story struct {
	set     Set
	quorum  int
	changes []change
}

func (s story) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v q%d", s.set.Append(nil), s.quorum)
	for _, c := range s.changes {
		fmt.Fprintf(&b, " -> %v q%d", c.set.Append(nil), c.quorum)
		if c.lost != 0 {
			fmt.Fprintf(&b, " (%d lost)", c.lost)
		}
	}
	return b.String()
}

// rules are the decisions under test; the mutants replace one each.
type rules struct {
	fence    func(h Holding, c Claim, slot int) Verdict
	closable func(e Epoch, announced func(Store) uint64, lost func(Store) bool) bool
	// announce is the revision that a node at revision seen announces while the
	// oldest revision under which it admitted a share in flight is oldest.
	announce func(seen, oldest uint64) uint64
	complete func(t *Table, at Period, answered func(Store, Period) bool) bool
	// left says whether a store that announced a revision lets slot 0 go; nil: it is
	// not asked.
	left func(t *Table, st Store, announced uint64) bool
	// reader is the table that a read uses, of those committed by now.
	reader func(tables []*Table) *Table
}

func realRules() rules {
	return rules{
		fence: func(h Holding, c Claim, slot int) Verdict {
			if v := h.Judge(c); v != Pass {
				return v
			}
			if !h.Admits(slot, c.Seen) {
				return Stale
			}
			return Pass
		},
		closable: Epoch.Closable,
		announce: func(seen, oldest uint64) uint64 { return min(seen, oldest) },
		complete: func(t *Table, at Period, answered func(Store, Period) bool) bool {
			return len(t.Complete(at, 0, answered)) == 0
		},
		left:   func(t *Table, st Store, announced uint64) bool { return t.LeftBy(st, announced).Has(0) },
		reader: func(tables []*Table) *Table { return tables[len(tables)-1] },
	}
}

const (
	modelNodes = 5
	upToDate   = 0xff // a node's revision: whatever is the newest
	unsent     = 0
	notClosed  = 0xff
)

const (
	// A share's life; from admitted on, the revision under which it was.
	noShare uint8 = iota
	onTheWay
	failed
	stored
	admitted
)

// state is all that the future depends on.
type state struct {
	moment uint16
	node   [modelNodes]uint8 // revision of each
	from   uint8             // the sender's revision
	sent   uint8             // the newest revision at that time
	share  [modelNodes]uint8
	held   uint8 // who had stored when the write's epoch closed
	acked  bool
}

// moment is a history of commits; revision i+1 made tables[i].
type moment struct {
	id      uint16
	tables  []*Table
	changed []bool // whether the revision changed slot 0
	done    int    // changes so far
	lost    []Store
	next    map[EpochKey]*moment // by closing; the zero key is the next change
}

func (at *moment) now() uint64   { return uint64(len(at.tables)) }
func (at *moment) table() *Table { return at.tables[len(at.tables)-1] }

func (at *moment) isLost(st Store) bool { return slices.Contains(at.lost, st) }

type model struct {
	rules
	story
	everyRevision bool // nodes stop at closings as well, not only at changes
	lax           bool // the fence is judged by what it leads to alone
	moments       []*moment
	seen          map[state]struct{}
	path          []string
	used          [modelNodes]bool // stores of the story
}

// check explores a story. It returns how many states there were and, if one
// broke a promise, the way to it.
func (m *model) check(s story) (int, error) {
	m.story, m.moments, m.path, m.used = s, nil, nil, [modelNodes]bool{}
	m.seen = map[state]struct{}{}
	t, err := New([]Slot{
		{Replicas: s.set, Quorum: s.quorum, Changed: 1, Since: 1},
		{Replicas: s.set, Quorum: s.quorum, Changed: 1, Since: 1},
	}, nil)
	if err != nil {
		return 0, err
	}
	sets := []Set{s.set}
	for _, c := range s.changes {
		sets = append(sets, c.set)
	}
	for _, set := range sets {
		for _, st := range set.Append(nil) {
			m.used[st-1] = true
		}
	}
	first := m.add(&moment{tables: []*Table{t}, changed: []bool{true}})
	start := state{moment: first.id, held: notClosed}
	for i := range start.node {
		start.node[i] = 1
	}
	err = m.explore(start)
	if err != nil {
		slices.Reverse(m.path)
		err = fmt.Errorf("%v: %w\n  %s", s, err, strings.Join(m.path, "\n  "))
	}
	return len(m.seen), err
}

func (m *model) add(at *moment) *moment {
	at.id, at.next = uint16(len(m.moments)), map[EpochKey]*moment{}
	m.moments = append(m.moments, at)
	return at
}

// follow is the moment after one more commit; the zero key is the next change.
func (m *model) follow(at *moment, key EpochKey) (*moment, error) {
	if next, ok := at.next[key]; ok {
		return next, nil
	}
	rev, t := at.now()+1, at.table()
	next := &moment{done: at.done, lost: at.lost}
	if key == (EpochKey{}) {
		c := m.changes[at.done]
		var err error
		t, err = t.Apply([]Step{{Slot: 0, Replicas: c.set, Quorum: c.quorum, Base: t.Slot(0).Changed}}, rev, int64(rev))
		if err != nil {
			return nil, err
		}
		next.done++
		if c.lost != 0 {
			next.lost = append(slices.Clone(at.lost), c.lost)
		}
	} else {
		t = t.Close([]EpochKey{key}, rev, int64(rev))
	}
	next.tables = append(slices.Clone(at.tables), t)
	next.changed = append(slices.Clone(at.changed), key == EpochKey{})
	at.next[key] = m.add(next)
	if m.lax {
		return next, nil
	}
	return next, m.checkFence(next)
}

// explore goes every way on from s.
func (m *model) explore(s state) error {
	if s.from != unsent && !s.acked {
		s = m.settle(s)
		if !s.acked && m.hopeless(s) {
			return nil
		}
	}
	if _, known := m.seen[s]; known {
		return nil
	}
	m.seen[s] = struct{}{}
	if s.acked {
		if err := m.judge(s); err != nil {
			return err
		}
	}
	at := m.moments[s.moment]
	if err := m.lettingGo(s, at); err != nil {
		return err
	}
	if err := m.commits(s, at); err != nil {
		return err
	}
	if err := m.catchUps(s, at); err != nil {
		return err
	}
	if s.from == unsent {
		return m.sends(s, at)
	}
	return m.shares(s, at)
}

// went explores on from s, and on the way back from a broken promise says how
// it came there.
func (m *model) went(s state, format string, args ...any) error {
	err := m.explore(s)
	if err != nil {
		m.path = append(m.path, fmt.Sprintf(format, args...))
	}
	return err
}

func (m *model) commits(s state, at *moment) error {
	if at.done < len(m.changes) && (m.changes[at.done].lost != 0 || at.table().Settled(0)) {
		next, err := m.follow(at, EpochKey{})
		if err != nil {
			return err
		}
		to := s
		to.moment = next.id
		if err := m.went(to, "%d: %v commits", next.now(), m.changes[at.done].set.Append(nil)); err != nil {
			return err
		}
	}
	for _, e := range at.table().Open() {
		if !m.closable(e, m.announced(s, at), at.isLost) {
			continue
		}
		next, err := m.follow(at, EpochKey{e.Slot, e.To})
		if err != nil {
			return err
		}
		to := s
		to.moment = next.id
		if s.from != unsent && !s.acked && e.From == m.epochOf(s).Changed {
			to.held = m.holders(s)
		}
		if err := m.went(to, "%d: the epoch from %d to %d closes", next.now(), e.From, e.To); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) announced(s state, at *moment) func(Store) uint64 {
	return func(st Store) uint64 {
		i := st - 1
		seen, oldest := uint64(s.node[i]), ^uint64(0)
		if s.node[i] == upToDate {
			seen = at.now()
		}
		if s.share[i] >= admitted {
			oldest = uint64(s.share[i] - admitted)
		}
		return m.announce(seen, oldest)
	}
}

func (m *model) catchUps(s state, at *moment) error {
	for i := range s.node {
		if !m.used[i] || s.node[i] == upToDate {
			continue
		}
		rev := int(s.node[i]) + 1
		for rev <= len(at.tables) && !m.everyRevision && !at.changed[rev-1] {
			rev++
		}
		if rev > len(at.tables) {
			continue
		}
		to := s
		to.node[i] = uint8(rev)
		if err := m.went(to, "store %d sees %d", i+1, rev); err != nil {
			return err
		}
	}
	return nil
}

// sends writes the sample, by every view that a sender can have: of views of one
// epoch the first and the last.
func (m *model) sends(s state, at *moment) error {
	for from := 1; from <= len(at.tables); from++ {
		if !at.changed[from-1] && from < len(at.tables) && !at.changed[from] {
			continue
		}
		slot := at.tables[from-1].Slot(0)
		if slot.Replicas.Len() < slot.Quorum {
			continue
		}
		to := s
		to.from, to.sent = uint8(from), uint8(len(at.tables))
		for i := range to.node {
			if slot.Replicas.Has(Store(i + 1)) {
				to.share[i] = onTheWay
			} else {
				to.node[i] = upToDate
			}
		}
		for _, e := range at.table().Past() {
			if e.From == slot.Changed && e.Closed != 0 {
				to.held = 0
			}
		}
		if err := m.went(to, "at %d a sender that saw %d sends to %v", at.now(), from, slot.Replicas.Append(nil)); err != nil {
			return err
		}
	}
	return nil
}

// shares lets each share of the write go one step on.
func (m *model) shares(s state, at *moment) error {
	for i, life := range s.share {
		st := Store(i + 1)
		to := s
		switch {
		case life == onTheWay:
			rev := uint64(s.node[i])
			switch m.fence(holding(at, st, rev), claim(at, st, uint64(s.from), 0), 0) {
			case Pass:
				to.share[i] = admitted + uint8(rev)
			case Stale:
				to.share[i] = failed
			case Behind:
				continue
			}
			if err := m.went(to, "the share reaches store %d, which is at %d: admitted %t", st, rev, to.share[i] != failed); err != nil {
				return err
			}
		case life >= admitted:
			to.share[i] = stored
			if err := m.went(to, "store %d stores it", st); err != nil {
				return err
			}
			to.share[i] = failed
			if err := m.went(to, "store %d fails to store it", st); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *model) epochOf(s state) Slot { return m.moments[s.moment].tables[s.from-1].Slot(0) }

func (m *model) holders(s state) uint8 {
	var mask uint8
	for i, life := range s.share {
		if life == stored {
			mask |= 1 << i
		}
	}
	return mask
}

// settle acknowledges a write that has its quorum, at the first moment at which
// it can be.
func (m *model) settle(s state) state {
	if bits.OnesCount8(m.holders(s)) < m.epochOf(s).Quorum {
		return s
	}
	s.acked = true
	for i := range s.share {
		s.node[i] = upToDate
		if s.share[i] != stored {
			s.share[i] = noShare
		}
	}
	return s
}

// hopeless says whether the write can get its quorum no more.
func (m *model) hopeless(s state) bool {
	n := 0
	for _, life := range s.share {
		if life == onTheWay || life == stored || life >= admitted {
			n++
		}
	}
	return n < m.epochOf(s).Quorum
}
