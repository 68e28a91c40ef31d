package robust

import (
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/anishathalye/porcupine"
)

// tenant is the whole truth about one tenant between two operations: no value,
// no tenant. Version 0 with a value is one that nobody was told.
type tenant struct {
	value   int64
	version uint64
}

func (t tenant) meets(e Expectation) bool {
	return e.Any || t.value == e.Value && (t.version == e.Version || t.version == 0)
}

// step says whether the operation may have come out as it did on t, and what
// is there afterwards.
func (t tenant) step(op Op) (bool, tenant) {
	if op.Kind == Read {
		if op.Value == 0 {
			return t.value == 0, t
		}
		return t.value == op.Value && (t.version == 0 || t.version == op.Version), tenant{op.Value, op.Version}
	}
	next := tenant{} // after a Delete
	if op.Kind == Put {
		next = tenant{op.Value, op.Version}
	}
	switch op.Outcome {
	case OK:
		there := op.Kind == Put || t.value != 0
		return there && t.meets(op.Expect) && op.Revision > t.version, next
	case Conflict:
		return !t.meets(op.Expect), t
	case Missing:
		return t.value == 0, t
	default: // it stands where it took effect, or after everything
		if t.meets(op.Expect) {
			return true, next
		}
		return true, t
	}
}

var model = porcupine.Model{
	Init: func() any { return tenant{} },
	Step: func(state, input, _ any) (bool, any) {
		return state.(tenant).step(input.(Op))
	},
	Equal:             func(a, b any) bool { return a == b },
	DescribeOperation: func(input, _ any) string { return input.(Op).String() },
	DescribeState: func(state any) string {
		t := state.(tenant)
		return fmt.Sprintf("%d@%d", t.value, t.version)
	},
}

// linearizable says of which tenants the calls cannot have happened one after
// the other, each at one moment between its call and its answer. A picture of
// each goes to dir, unless that is empty.
func linearizable(ops []Op, limit time.Duration, dir string) []string {
	byTenant := map[string][]porcupine.Operation{}
	for i, op := range ops {
		end := int64(op.Return)
		if op.Outcome == Unknown {
			if op.Kind == Read {
				continue
			}
			end = math.MaxInt64
		}
		byTenant[op.Tenant] = append(byTenant[op.Tenant], porcupine.Operation{
			ClientId: i, Input: op, Call: int64(op.Call), Output: op, Return: end,
		})
	}
	var found []string
	for name, history := range byTenant {
		result, info := porcupine.CheckOperationsVerbose(model, history, limit)
		switch result {
		case porcupine.Ok:
			continue
		case porcupine.Unknown:
			found = append(found, fmt.Sprintf("tenant %s: %d calls could not be judged in %v", name, len(history), limit))
			continue
		}
		line := fmt.Sprintf("tenant %s: its %d calls are not linearizable", name, len(history))
		if dir != "" {
			file := filepath.Join(dir, "history-"+name+".html")
			if err := porcupine.VisualizePath(model, info, file); err == nil {
				line += ", see " + file
			}
		}
		found = append(found, line)
	}
	return found
}
