package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/muster-metrics/muster/cluster"
)

// Exit codes of every command.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitUnhealthy = 3
	exitConflict  = 4
	exitDenied    = 5
	exitNoLeader  = 6
)

// stdio is where data and where errors and progress go.
type stdio struct{ out, err io.Writer }

func (s stdio) printf(format string, args ...any) { fmt.Fprintf(s.out, format, args...) }
func (s stdio) notef(format string, args ...any)  { fmt.Fprintf(s.err, format, args...) }

// json prints v as one indented document.
func (s stdio) json(v any) error {
	enc := json.NewEncoder(s.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table prints rows under a heading, in columns.
func (s stdio) table(heading []string, rows [][]string) {
	w := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heading, "\t"))
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	_ = w.Flush()
}

// failure is an error with what an operator needs to go on.
type failure struct {
	Code  int    `json:"-"`
	Text  string `json:"error"`
	Node  string `json:"node,omitempty"`
	Since string `json:"since,omitempty"`
	Next  string `json:"next,omitempty"`
	Field string `json:"field,omitempty"`
	// Without a leader: who could elect one, and who of them is not heard.
	Voters      []string      `json:"voters,omitempty"`
	Missing     []string      `json:"missing,omitempty"`
	Unreachable []unreachable `json:"unreachable,omitempty"`
	Serving     uint64        `json:"serving_revision,omitempty"`
	// RequestID is what to repeat a change with whose outcome is not known.
	RequestID string `json:"request_id,omitempty"`

	cause error
	// status of the answer it was; 0: none.
	status int
	// sent says that a server may have heard the request which has no answer.
	sent bool
}

func (f *failure) Error() string { return f.Text }
func (f *failure) Unwrap() error { return f.cause }

func usageError(err error) error {
	return &failure{Code: exitUsage, Text: err.Error(), cause: err}
}

// errQuiet ends a command with a code after it has said everything itself.
type errQuiet struct{ code int }

func (e errQuiet) Error() string { return fmt.Sprintf("exit %d", e.code) }

// report prints err to the person or program that asked and returns the code.
func report(std stdio, argv []string, err error) int {
	var quiet errQuiet
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &quiet):
		return quiet.code
	}
	f := &failure{Code: exitFailed, Text: err.Error()}
	errors.As(err, &f)
	if f.Next == "" {
		f.Next = nextAfter(f, err, argv)
	}
	if argsWantJSON(argv) {
		enc := json.NewEncoder(std.err)
		_ = enc.Encode(f)
		return f.Code
	}
	std.notef("muster: %s\n", f.Text)
	for _, line := range f.leaderless(time.Now()) {
		std.notef("  %s\n", line)
	}
	if f.Since != "" && !strings.Contains(f.Text, f.Since) {
		std.notef("  since: %s\n", f.Since)
	}
	if f.Next != "" {
		std.notef("  next:  %s\n", f.Next)
	}
	return f.Code
}

// nextAfter is what helps against an error that does not say so itself.
func nextAfter(f *failure, err error, argv []string) string {
	var file *fs.PathError
	switch {
	case f.Code == exitUsage:
		return "see `muster " + strings.TrimSpace(verbOf(argv)+" --help") + "`"
	case errors.Is(err, cluster.ErrArchive):
		return "take another one: the nodes keep theirs in DATA-DIR/snapshots, and `muster snapshot save` makes one"
	case errors.As(err, &file):
		return "look whether " + file.Path + " is there, and whether this user may use it"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return "look whether that folder is there, and whether this user may use it"
	default:
		return ""
	}
}

// verbOf are the words of a command line that are verbs.
func verbOf(argv []string) string {
	var verbs []string
	commands := newApp(stdio{io.Discard, io.Discard}).Commands
	for _, word := range argv[min(1, len(argv)):] {
		if next := find(commands, word); next != nil {
			verbs, commands = append(verbs, word), next.Subcommands
		}
	}
	return strings.Join(verbs, " ")
}

func wantsJSON(c *cli.Context) bool { return c.String("output") == "json" }

// argsWantJSON looks at the words themselves: errors in them must be told, too.
func argsWantJSON(argv []string) bool {
	for i, a := range argv {
		if slices.Contains([]string{"-o=json", "--o=json", "--output=json", "-output=json"}, a) {
			return true
		}
		if (a == "-o" || a == "--output" || a == "--o") && i+1 < len(argv) && argv[i+1] == "json" {
			return true
		}
	}
	return false
}
