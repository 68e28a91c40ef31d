package robust

import (
	"cmp"
	"fmt"
	"slices"
)

// maxFindings bounds a report: the first few tell enough.
const maxFindings = 20

// revisionsHold judges the history by the revisions that its answers name. It
// sees what lies between tenants, and does so in one pass: a call that began
// after another was answered has no smaller revision, a read shows what stood at
// its revision, and no value was written twice.
func revisionsHold(ops []Op) []string {
	found := inRealTime(ops)
	byTenant := map[string][]Op{}
	for _, op := range ops {
		byTenant[op.Tenant] = append(byTenant[op.Tenant], op)
	}
	for name, of := range byTenant {
		found = append(found, timeline(name, of)...)
	}
	return found[:min(len(found), maxFindings)]
}

// inRealTime finds calls that saw less than what was answered before they began.
func inRealTime(ops []Op) []string {
	var named []Op
	for _, op := range ops {
		if op.Revision != 0 && op.Outcome == OK {
			named = append(named, op)
		}
	}
	ended := slices.Clone(named)
	slices.SortFunc(named, func(a, b Op) int { return cmp.Compare(a.Call, b.Call) })
	slices.SortFunc(ended, func(a, b Op) int { return cmp.Compare(a.Return, b.Return) })
	var found []string
	var newest Op
	i := 0
	for _, op := range named {
		for ; i < len(ended) && ended[i].Return < op.Call; i++ {
			if ended[i].Revision > newest.Revision {
				newest = ended[i]
			}
		}
		if op.Revision < newest.Revision || op.Kind != Read && op.Revision == newest.Revision {
			found = append(found, fmt.Sprintf("%v: began after %v", op, newest))
		}
	}
	return found
}

// change is a value that a tenant had from a revision on; 0: it was deleted.
type change struct {
	revision uint64
	value    int64
}

// timeline finds reads of a tenant that do not fit what is known to have stood
// at their revisions.
func timeline(name string, ops []Op) []string {
	var found []string
	at, of := map[uint64]int64{}, map[int64]uint64{}
	var maybeDeleted []Op
	written := map[int64]bool{}
	for _, op := range ops {
		if op.Kind == Put {
			written[op.Value] = true
		}
		switch {
		case op.Outcome == Unknown && op.Kind == Delete:
			maybeDeleted = append(maybeDeleted, op)
		case op.Outcome != OK || op.Kind == Read && op.Value == 0:
		case op.Kind == Delete:
			at[op.Revision] = 0
		default:
			if v, ok := at[op.Version]; ok && v != op.Value {
				found = append(found, fmt.Sprintf("tenant %s had %d and %d at version %d", name, v, op.Value, op.Version))
			}
			if v, ok := of[op.Value]; ok && v != op.Version {
				found = append(found, fmt.Sprintf("tenant %s was given %d twice, at %d and at %d", name, op.Value, v, op.Version))
			}
			at[op.Version], of[op.Value] = op.Value, op.Version
		}
	}
	changes := make([]change, 0, len(at))
	for r, v := range at {
		changes = append(changes, change{r, v})
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.revision, b.revision) })
	for _, op := range ops {
		if op.Kind != Read || op.Outcome != OK {
			continue
		}
		i, exact := slices.BinarySearchFunc(changes, op.Revision, func(c change, r uint64) int { return cmp.Compare(c.revision, r) })
		if !exact {
			i--
		}
		last := change{}
		if i >= 0 {
			last = changes[i]
		}
		switch {
		case op.Value != 0 && !written[op.Value]:
			found = append(found, fmt.Sprintf("%v: nobody wrote that, or who did was told that it was not done", op))
		case op.Value != 0 && (op.Version != last.revision || op.Version > op.Revision):
			found = append(found, fmt.Sprintf("%v: %d stood there since %d", op, last.value, last.revision))
		case op.Value == 0 && last.value != 0 && !slices.ContainsFunc(maybeDeleted, func(d Op) bool { return d.Call < op.Return }):
			found = append(found, fmt.Sprintf("%v: %d stood there since %d", op, last.value, last.revision))
		}
	}
	return found
}
