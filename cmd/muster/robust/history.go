package robust

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// Kind of an operation on a tenant.
type Kind int

// What clients do.
const (
	Read Kind = iota
	Put
	Delete
)

// Outcome of an operation, as far as its client knows.
type Outcome int

// What can have come of an operation. What was certainly not done is not in a
// history, but is promised not to show.
const (
	OK       Outcome = iota
	Conflict         // 412: the tenant was not what was expected
	Missing          // 404: there was no such tenant
	Unknown          // it may have been done, be done later, or never
)

// Expectation is what a change wants to find.
type Expectation struct {
	// Any expects nothing.
	Any bool
	// Value and Version of the tenant; both 0: none.
	Value   int64
	Version uint64
}

// Op is a call of the admin API with its answer. Times count from the beginning
// of the history.
type Op struct {
	Node, Tenant string
	Kind         Kind
	Expect       Expectation
	// Value is what a Put writes, never the same twice, or a Read found; 0: none.
	Value int64
	// Version of what was read or written, and the Revision of the answer; 0: it
	// named none.
	Version, Revision uint64
	Outcome           Outcome
	Call, Return      time.Duration
}

func (o Op) String() string {
	verb := [...]string{"read", "put", "delete"}[o.Kind]
	out := [...]string{"ok", "conflict", "missing", "unknown"}[o.Outcome]
	expect := ""
	if o.Kind != Read && !o.Expect.Any {
		expect = fmt.Sprintf(" if %d@%d", o.Expect.Value, o.Expect.Version)
	}
	return fmt.Sprintf("%s %s %d%s on %s: %s @%d rev %d [%.3fs, %.3fs]", verb, o.Tenant, o.Value, expect, o.Node, out, o.Version, o.Revision, o.Call.Seconds(), o.Return.Seconds())
}

// History is what clients saw.
type History struct {
	start time.Time

	mu     sync.Mutex
	ops    []Op
	undone int
	odd    []string
}

// NewHistory begins now.
func NewHistory() *History { return &History{start: time.Now()} }

// Now is the time since its beginning.
func (h *History) Now() time.Duration { return time.Since(h.start) }

// Add takes a call that has ended.
func (h *History) Add(op Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

// Undone counts a call that did nothing, by what its answer says.
func (h *History) Undone() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.undone++
}

// Odd notes an answer that nobody should get.
func (h *History) Odd(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.odd) < maxFindings {
		h.odd = append(h.odd, fmt.Sprintf(format, args...))
	}
}

// Ops are all calls so far.
func (h *History) Ops() []Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Op(nil), h.ops...)
}

// Tenants are those that calls were about, in the order of their first call.
func (h *History) Tenants() []string {
	seen := map[string]bool{}
	var out []string
	for _, op := range h.Ops() {
		if !seen[op.Tenant] {
			seen[op.Tenant] = true
			out = append(out, op.Tenant)
		}
	}
	return out
}

// Save writes the history to a file, a call a line, in the order of their
// beginnings.
func (h *History) Save(file string) error {
	ops := h.Ops()
	slices.SortFunc(ops, func(a, b Op) int { return cmp.Compare(a.Call, b.Call) })
	var text bytes.Buffer
	for _, op := range ops {
		fmt.Fprintln(&text, op)
	}
	return os.WriteFile(file, text.Bytes(), 0o600)
}
