package prom

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/ring"
)

// lack is why an answer is not complete: slots of one ring for which too few
// stores answered, or whatever else the note says.
type lack struct {
	ring string
	ring.Missing
	note string
}

// maxLacks bounds the text: an operator needs the nodes, not every epoch.
const maxLacks = 8

// incomplete is what people read: ring, slots, missing stores and period.
func incomplete(st *cluster.State, all []lack) string {
	all = joined(all)
	var b strings.Builder
	b.WriteString("incomplete answer")
	for i, l := range all {
		if i == maxLacks {
			fmt.Fprintf(&b, "; and %d more", len(all)-i)
			break
		}
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		if l.note != "" {
			b.WriteString(sep + l.note)
			continue
		}
		fmt.Fprintf(&b, "%sring %q slots %s: %d of %d needed stores answered, missing %s, from %s to %s", sep,
			l.ring, ranges(l.Slots), l.Have, l.Need, names(st, l.Silent), timeText(l.Period.Begin), timeText(l.Period.End))
	}
	return b.String()
}

// joined puts together what misses the same stores: several selects of one
// query, and several epochs, differ in little else.
func joined(all []lack) []lack {
	var out []lack
next:
	for _, l := range all {
		for i := range out {
			o := &out[i]
			if l.note == "" && o.note == "" && o.ring == l.ring && o.Need == l.Need && o.Have == l.Have && slices.Equal(o.Silent, l.Silent) {
				o.Slots = append(slices.Clone(o.Slots), l.Slots...)
				o.Period = ring.Period{Begin: min(o.Period.Begin, l.Period.Begin), End: max(o.Period.End, l.Period.End)}
				continue next
			}
		}
		out = append(out, l)
	}
	return out
}

// ranges writes numbers like 0-3,7.
func ranges(slots []int) string {
	slots = slices.Clone(slots)
	slices.Sort(slots)
	slots = slices.Compact(slots)
	var parts []string
	for i := 0; i < len(slots); {
		j := i
		for j+1 < len(slots) && slots[j+1] == slots[j]+1 {
			j++
		}
		part := fmt.Sprint(slots[i])
		if j > i {
			part = fmt.Sprintf("%d-%d", slots[i], slots[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	if len(parts) > maxLacks {
		parts = append(parts[:maxLacks:maxLacks], fmt.Sprintf("… (%d slots)", len(slots)))
	}
	return strings.Join(parts, ",")
}

// names are the nodes of stores; a store whose node has another one now, or is
// no member any more, is named with its number and who has it instead.
func names(st *cluster.State, stores []ring.Store) string {
	parts := make([]string, 0, len(stores))
	for _, s := range stores {
		switch known := st.Store(s); {
		case known == nil:
			parts = append(parts, fmt.Sprintf("store %d", s))
		case st.Holder(s) != nil:
			parts = append(parts, known.GetNode())
		case known.GetLost() != 0:
			parts = append(parts, fmt.Sprintf("%s (its former store %d)", known.GetNode(), s))
		default:
			parts = append(parts, fmt.Sprintf("%s (its former store %d is %s)", known.GetNode(), s, st.Whereabouts(s)))
		}
	}
	return strings.Join(parts, ", ")
}

func timeText(ms int64) string {
	t := time.UnixMilli(ms).UTC()
	if y := t.Year(); y < 1 || y > 9999 {
		if ms < 0 {
			return "the beginning"
		}
		return "the end"
	}
	return t.Format(time.RFC3339)
}
