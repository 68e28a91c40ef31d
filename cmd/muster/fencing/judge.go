package fencing

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// maxFindings of a kind tell enough.
const maxFindings = 5

// verdict is what a story came to.
type verdict struct {
	// Unaffected counts writes of series whose slots did not change, at nodes that
	// could reach a quorum; none of them may be refused.
	unaffected, unaffectedRefused int
	// Moving counts writes of series whose slots moved, at such nodes.
	moving, movingRefused int
	// partly counts refused requests of which all but the moved series were stored.
	partly int
	// closed counts writes that reached a former owner's or an unaware node's
	// epoch after it was closed, and were refused as they must be.
	closed   int
	findings []string
}

func (v *verdict) found(format string, args ...any) {
	if len(v.findings) < maxFindings {
		v.findings = append(v.findings, fmt.Sprintf(format, args...))
	}
}

var lacking = regexp.MustCompile(`^(\d+) of \d+ samples lack their quorum`)

// judgeWrites looks at every write of a story. before and after are the tables
// at its ends.
func judgeWrites(l *load, c chronicle, before, after table) verdict {
	var v verdict
	posts := l.ledger.all()
	for i := range posts {
		p := &posts[i]
		if p.which >= 0 {
			v.single(l, p, l.series[p.which].slot, before, after)
		} else {
			v.mixed(l, p, before, after)
		}
		v.judgeClosed(l, c, p)
	}
	return v
}

// reachable says whether a quorum of the slot, as it was before, could be
// reached all the while.
func reachable(l *ledger, p *post, s slot) bool {
	return l.reached(p.node, s.Replicas, p.began, p.ended) >= s.Quorum
}

func (v *verdict) single(l *load, p *post, n int, before, after table) {
	moved := before.Slots[n].Changed != after.Slots[n].Changed
	if !reachable(l.ledger, p, before.Slots[n]) || moved && !reachable(l.ledger, p, after.Slots[n]) {
		return
	}
	switch {
	case moved:
		if v.moving++; !p.acked() {
			v.movingRefused++
		}
	default:
		if v.unaffected++; !p.acked() {
			v.unaffectedRefused++
			v.found("%s refused a series of slot %d, which has not changed and whose quorum it could reach: %s after %v: %d %s", p.node, n,
				p.began.Format("15:04:05.000"), p.ended.Sub(p.began).Round(time.Millisecond), p.status, p.says)
		}
	}
}

// mixed judges a request with all series: what lacks its quorum are series that
// moved, or whose quorum could not be reached.
func (v *verdict) mixed(l *load, p *post, before, after table) {
	if p.acked() {
		return
	}
	excused := 0
	for _, s := range l.series {
		moved := before.Slots[s.slot].Changed != after.Slots[s.slot].Changed
		if moved || !reachable(l.ledger, p, before.Slots[s.slot]) {
			excused++
		}
	}
	if excused == len(l.series) {
		return
	}
	m := lacking.FindStringSubmatch(p.says)
	if m == nil {
		v.unaffectedRefused++
		v.found("%s refused %d series of slots that have not changed with the others: %s: %d %s", p.node, len(l.series)-excused,
			p.began.Format("15:04:05.000"), p.status, p.says)
		return
	}
	if n, _ := strconv.Atoi(m[1]); n > excused {
		v.unaffectedRefused++
		v.found("%s refused %d series where %d had moved or could not reach their quorum: %s: %s", p.node, n, excused, p.began.Format("15:04:05.000"), p.says)
		return
	}
	v.partly++
}

// judgeClosed looks at what a node did with slots whose change it could not have
// heard of, after their former epoch was seen closed.
func (v *verdict) judgeClosed(l *load, c chronicle, p *post) {
	until := l.ledger.unawareUntil(p.node, p.began)
	if until.IsZero() || !p.ended.Before(until) {
		return
	}
	for i, s := range l.series {
		if p.which >= 0 && p.which != i {
			continue
		}
		t := c.during(s.slot, p.began, p.ended)
		if t == nil || t.changed <= l.ledger.sinceOf(p.node, p.began) {
			continue
		}
		if !p.acked() {
			v.closed++
			continue
		}
		v.found("%s acknowledged a sample of slot %d at %s, though that had gone to %v at revision %d, of which it could not have heard, and its epoch was closed at %s",
			p.node, s.slot, p.began.Format("15:04:05.000"), t.replicas, t.changed, t.settled.Format("15:04:05.000"))
	}
}
