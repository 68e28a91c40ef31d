package main

import (
	"flag"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// golden compares a text with testdata/NAME.golden, after what differs from run
// to run was taken out (see scrub). Where a change of the text is meant,
//
//	go test ./cmd/muster -run TestThatUsesIt -update
//
// writes the file anew; its diff is then read like code. An own value that
// varies and that scrub cannot know is replaced before:
//
//	golden(t, "drain", strings.ReplaceAll(text, blockID, "BLOCK"))
func golden(t *testing.T, name, text string) {
	t.Helper()
	text = scrub(text)
	path := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "no golden file yet? go test ./cmd/muster -run '^%s$' -update", t.Name())
	require.Equal(t, string(want), text, "%s; where the change is meant: -update", path)
}

// golden runs one command against node i and compares what it printed on
// stdout and stderr, and its exit code, with testdata/NAME.golden:
//
//	b.golden(t, "tenant_list", 0, "tenant", "list")
func (b *bed) golden(t *testing.T, name string, i int, args ...string) {
	t.Helper()
	golden(t, name, b.transcript(i, args))
}

// story runs several command lines against node i, one after the other, and
// compares all of it with one golden file. It is the cheap way: one bed, one
// file that reads like a session. A word with spaces is quoted: 'a b'.
//
//	b.story(t, "tenant", 0,
//		"tenant create team-a --retention 30d",
//		"tenant show team-a",
//		"tenant show team-b", // an error is told in the file as well
//	)
func (b *bed) story(t *testing.T, name string, i int, lines ...string) {
	t.Helper()
	var text strings.Builder
	for _, line := range lines {
		text.WriteString(b.transcript(i, wordsOf(line)))
	}
	golden(t, name, text.String())
}

// transcript is what a person would see of one command, and its exit code
// where that is not 0.
func (b *bed) transcript(i int, args []string) string {
	out, msg, code := b.try(i, args...)
	shown := slices.Clone(args)
	for k, a := range shown {
		if strings.ContainsAny(a, " {}*") || a == "" {
			shown[k] = "'" + a + "'"
		}
	}
	text := "$ muster " + strings.Join(shown, " ") + "\n" + ended(out)
	for line := range strings.Lines(ended(msg)) {
		text += "2> " + line
	}
	if code != 0 {
		text += fmt.Sprintf("exit %d\n", code)
	}
	return strings.ReplaceAll(text, b.dir, "DIR") + "\n"
}

func ended(text string) string {
	if text == "" || strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

// wordsOf splits a command line at spaces, except within single quotes.
func wordsOf(line string) []string {
	var words []string
	for k, part := range strings.Split(line, "'") {
		if k%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

// varying are the columns of tables whose cells differ from run to run.
var varying = map[string]bool{
	"VERSION": true, "REVISION": true, "APPLIED": true, "LAG": true, "LAST CONTACT": true, "TIME": true, "STORE": true,
	"DISK FREE": true, "SERIES": true, "INCARNATION": true, "CREATED": true, "CHANGED": true, "EXPIRES": true, "ID": true,
	"CLOCK": true, "AGE": true, "CA": true, "RENEWS": true, "SIZE": true, "FILE": true, "INDEX": true, "TERM": true,
	"LAST TERM/INDEX": true, "EVENTS": true,
}

// fields of JSON documents with numbers that vary.
const fields = `version|revision|serving_revision|applied|announced|lag|last_contact_ms|series|disk_free_bytes|incarnation|changed|size|bytes|` +
	`state_hash|clock_offset_ms|index|term`

// scrubs are applied in this order.
var scrubs = []struct {
	is *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`\bMUSTER(T?)1\.[A-Za-z0-9_.-]+`), `MUSTER${1}1.SECRET`},
	{regexp.MustCompile(`\b127\.\d+\.\d+\.(\d+):\d+`), `n$1.test:PORT`},
	{regexp.MustCompile(`\b(?:10|172|192)\.\d+\.\d+\.\d+:\d+`), `HOST:PORT`},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?`), `TIME`},
	{regexp.MustCompile(`\b\d{8}T?-?\d{6}Z?\b`), `TIME`},
	{regexp.MustCompile(`\b[0-9a-f]{40,128}\b`), `HASH`},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), `HEX32`},
	{regexp.MustCompile(`\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b`), `UUID`},
	{regexp.MustCompile(`\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b`), `ULID`},
	{regexp.MustCompile(`"(` + fields + `)": ?-?\d+(?:\.\d+)?`), `"$1": N`},
	{regexp.MustCompile(`("[a-z_]*id": ?)"[a-z2-7]{8}"`), `$1"TOKENID"`},
	{regexp.MustCompile(`\b([Tt]oken) [a-z2-7]{8}\b`), `$1 TOKENID`},
	{regexp.MustCompile(`\b(revision|version|incarnation|uid|pid|process|index|term) \d+`), `$1 N`},
	{regexp.MustCompile(`\b(?:\d+[hm])*\d+(?:\.\d+)?(?:ns|µs|ms|s)\b`), `DURATION`},
	{regexp.MustCompile(`\b\d+ (?:ms|seconds?|s)\b`), `DURATION`},
	{regexp.MustCompile(`\b\d+(?:\.\d+)? [KMGT]i?B\b`), `SIZE`},
}

// oneself is the name under which events know who runs the tests.
var oneself = sync.OnceValue(func() *regexp.Regexp {
	u, err := user.Current()
	if err != nil {
		return regexp.MustCompile(`$^`)
	}
	return regexp.MustCompile(`\b` + regexp.QuoteMeta(u.Username) + `\b`)
})

// scrub replaces what differs from run to run: addresses and ports, times,
// durations with seconds in them, sizes, ids, tokens, revisions and versions,
// and in tables the cells of the columns in varying. Columns then stand two
// spaces apart, since their widths vary as well. Command lines stay.
func scrub(text string) string {
	var out strings.Builder
	for line := range strings.Lines(scrubTables(text)) {
		if !strings.HasPrefix(line, "$ ") {
			for _, s := range scrubs {
				line = s.is.ReplaceAllString(line, s.to)
			}
			line = oneself().ReplaceAllString(line, "local")
		}
		out.WriteString(line)
	}
	return out.String()
}

var (
	heading = regexp.MustCompile(`^[A-Z][A-Z/% ]*(?:  +[A-Z][A-Z/% ]*)+$`)
	column  = regexp.MustCompile(`[A-Z][A-Z/%]*(?: [A-Z][A-Z/%]*)*`)
)

// scrubTables finds tables by their headings in capitals.
func scrubTables(text string) string {
	var out strings.Builder
	var names []string
	var starts []int
	for line := range strings.Lines(text) {
		bare := strings.TrimRight(line, " \n")
		if heading.MatchString(bare) {
			names, starts = column.FindAllString(bare, -1), nil
			for _, at := range column.FindAllStringIndex(bare, -1) {
				starts = append(starts, at[0])
			}
			out.WriteString(strings.Join(names, "  ") + "\n")
			continue
		}
		cells := cellsOf([]rune(bare), starts)
		if cells == nil {
			names, starts = nil, nil
			out.WriteString(line)
			continue
		}
		for k, cell := range cells {
			if varying[names[k]] && cell != "" && cell != "-" {
				cells[k] = "*"
			}
		}
		out.WriteString(strings.TrimRight(strings.Join(cells, "  "), " ") + "\n")
	}
	return out.String()
}

// cellsOf cuts a row where its columns start; nil where it is none.
func cellsOf(row []rune, starts []int) []string {
	if len(starts) == 0 || len(row) == 0 {
		return nil
	}
	cells := make([]string, len(starts))
	for k, from := range starts {
		if from > len(row) {
			break
		}
		if from > 0 && (row[from-1] != ' ' || from > 1 && row[from-2] != ' ') {
			return nil
		}
		to := len(row)
		if k+1 < len(starts) {
			to = min(to, starts[k+1])
		}
		cells[k] = strings.TrimRight(string(row[from:to]), " ")
	}
	return cells
}

// TestScrubLeavesWhatDoesNotVary: golden files must be able to fail.
func TestScrubLeavesWhatDoesNotVary(t *testing.T) {
	for _, c := range [][2]string{
		{"NODE  ADDRESS      ROLE    LAST CONTACT  LAG  SLOTS\nn1    127.9.1.1:80  leader  -             0    4096\n", // too wide: no table
			"NODE  ADDRESS  ROLE  LAST CONTACT  LAG  SLOTS\nn1    n1.test:PORT  leader  -             0    4096\n"},
		{
			"NODE  ADDRESS       ROLE    LAST CONTACT  LAG  SLOTS\nn1    127.9.1.1:80  leader  -             0    4096\nn2                  voter   34 ms         12   4095\n",
			"NODE  ADDRESS  ROLE  LAST CONTACT  LAG  SLOTS\nn1  n1.test:PORT  leader  -  *  4096\nn2    voter  *  *  4095\n",
		},
		{"created ring hard at revision 41, applied on n1, n2\n", "created ring hard at revision N, applied on n1, n2\n"},
		{`{"version": 41,"slots": 4096, "id": "abcdefgh", "name": "replicas"}`, `{"version": N,"slots": 4096, "id": "TOKENID", "name": "replicas"}`},
		{"token abcdefgh, shown this once, until 2026-11-22T15:18:39Z:\nMUSTERT1.abc.def_-9\n", "token TOKENID, shown this once, until TIME:\nMUSTERT1.SECRET\n"},
		{"retention 15d or 10m; changed 12s ago by bob", "retention 15d or 10m; changed DURATION ago by bob"},
		{"81 GiB free, 1m12.5s, 64 slots, 0.5s", "SIZE free, DURATION, 64 slots, DURATION"},
	} {
		require.Equal(t, c[1], scrub(c[0]))
	}
}
