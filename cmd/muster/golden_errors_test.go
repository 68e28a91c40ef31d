package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// kind is one way in which a command fails: what is typed then, for one verb.
type kind struct {
	file  string // errors_FILE.golden
	codes []int
	lines func(mistake, leafVerb) []string
	// due says whether the kind applies to a verb by what the verb is. A line of
	// the table is then wanted.
	due func(mistake, leafVerb) bool
}

func split(lines string) []string {
	if lines == "" {
		return nil
	}
	return strings.Split(lines, "|")
}

func always(mistake, leafVerb) bool { return true }

func asksServer(m mistake, _ leafVerb) bool { return m.role != "" }

func goodLine(m mistake, _ leafVerb) []string { return []string{m.good} }

// kinds are all of them. What a verb is decides which of them it must have.
var kinds = map[string]kind{
	"usage":     {"usage", []int{exitUsage, exitFailed}, usageLines, always},
	"no server": {"noserver", []int{exitFailed}, goodLine, asksServer},
	"no cluster": {"nocluster", []int{exitFailed, exitUnhealthy}, goodLine, func(m mistake, v leafVerb) bool {
		return asksServer(m, v) && m.unformed == ""
	}},
	"not found": {"notfound", []int{exitFailed, exitUsage}, func(m mistake, _ leafVerb) []string { return split(m.none) }, func(_ mistake, v leafVerb) bool {
		return v.names()
	}},
	"exists": {"conflict", []int{exitConflict, exitUsage}, func(m mistake, _ leafVerb) []string { return split(m.there) }, func(m mistake, v leafVerb) bool {
		return strings.HasSuffix(v.verb, " create") && !strings.Contains(v.verb, "token") || v.verb == "cluster init" || v.verb == "cluster join"
	}},
	"stale": {"stale", []int{exitConflict}, func(m mistake, v leafVerb) []string {
		if !v.has("if-version") {
			return nil
		}
		return []string{m.good + " --if-version 1"}
	}, func(_ mistake, v leafVerb) bool { return v.has("if-version") }},
	"refused": {"refused", []int{exitUsage}, func(m mistake, _ leafVerb) []string { return split(m.refused) }, func(m mistake, v leafVerb) bool {
		return asksServer(m, v) && v.judged()
	}},
	"denied": {"denied", []int{exitDenied}, goodLine, asksServer},
	"no leader": {"noleader", []int{exitNoLeader}, goodLine, func(m mistake, v leafVerb) bool {
		return asksServer(m, v) && m.unled == ""
	}},
}

// usageLines are made of the verb's own flags and arguments.
func usageLines(m mistake, v leafVerb) []string {
	lines := []string{m.good + " --bogus"}
	if !strings.Contains(v.ArgsUsage, "...") {
		lines = append(lines, m.good+" one two three")
	}
	if v.ArgsUsage != "" && v.ArgsUsage[0] != '[' {
		lines = append(lines, "")
	}
	if f := v.counted(); f != "" {
		lines = append(lines, m.good+" "+f+" many")
	}
	if f := v.valued(); f != "" {
		lines = append(lines, m.good+" "+f)
	}
	return append(lines, split(m.wrong)...)
}

// everyMistake is the whole table with the commands it is about.
func everyMistake(t *testing.T) map[string]mistake {
	t.Helper()
	all := map[string]mistake{}
	for _, m := range append(append([]mistake{}, mistakes...), alone...) {
		require.NotContains(t, all, m.verb)
		all[m.verb] = m
	}
	return all
}

// errorsOf runs what one kind has for every verb, many at a time, and compares
// it with the kind's golden file. Each error is asked for as text and as JSON:
// both say the same, what is wrong and what to do.
func (b *bed) errorsOf(t *testing.T, name string, i int, before func(mistake) []string) {
	b.errorsWhile(t, name, i, false, before)
}

// errorsWhile is errorsOf; forming: of the verbs that make sense before there is a
// cluster, or of all others.
func (b *bed) errorsWhile(t *testing.T, name string, i int, forming bool, before func(mistake) []string) {
	t.Helper()
	k, all := kinds[name], everyMistake(t)
	if forming {
		k.file += "_forming"
	}
	type asked struct {
		args   []string
		golden string
	}
	var todo []*asked
	for _, v := range leafVerbs() {
		m := all[v.verb]
		if !k.due(m, v) && (name != "not found" && name != "exists" && name != "refused") {
			continue
		}
		if name == "refused" && (m.unformed != "") != forming {
			continue
		}
		for _, line := range k.lines(m, v) {
			args := wordsOf(v.verb + " " + strings.NewReplacer("DIR", b.dir, "JOIN", joinToken).Replace(line))
			todo = append(todo, &asked{args: append(args, before(m)...)})
		}
	}
	require.NotEmpty(t, todo)
	var wg sync.WaitGroup
	room := make(chan struct{}, 16)
	for _, a := range todo {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			a.golden = b.mistaken(t, i, a.args, k)
		})
	}
	wg.Wait()
	var text strings.Builder
	for _, a := range todo {
		text.WriteString(a.golden)
	}
	golden(t, "errors_"+k.file, text.String())
}

// mistaken is the transcript of one error, as text and as JSON.
func (b *bed) mistaken(t *testing.T, i int, args []string, k kind) string {
	said := strings.TrimSuffix(b.transcript(i, args), "\n")
	said = strings.NewReplacer("https://"+b.nodes[i].cfg.HTTP, "SERVER", joinToken, "TOKEN").Replace(said)
	if k.file == "usage" {
		b.asJSON(t, i, args, said, k)
		return said + "\n"
	}
	return said + b.asJSON(t, i, args, said, k) + "\n"
}

func (b *bed) asJSON(t *testing.T, i int, args []string, said string, k kind) string {
	// Before the words that are wrong: a flag without its value would take it.
	out, msg, code := b.try(i, append([]string{"-o", "json"}, args...)...)
	lines := strings.Split(strings.TrimSpace(msg), "\n")
	last := lines[len(lines)-1] // progress stands before
	var f failure
	if !assert.NoError(t, json.Unmarshal([]byte(last), &f), "%v: %s%s", args, out, msg) {
		return ""
	}
	assert.Empty(t, out, "%v: errors go to stderr", args)
	assert.Contains(t, k.codes, code, "%v: %s", args, msg)
	assert.NotEmpty(t, f.Next, "%v: what to do about: %s", args, f.Text)
	assert.NotEmpty(t, f.Text, "%v", args)
	assert.Contains(t, scrub(said), fmt.Sprintf("exit %d\n", code), "%v", args)
	assert.Contains(t, scrub(said), strings.TrimSpace(scrub("2> muster: " + strings.ReplaceAll(f.Text, b.dir, "DIR")))[len("2> muster: "):], "%v", args)
	return "2> " + strings.ReplaceAll(last, b.dir, "DIR") + "\n"
}

// joinToken looks like one.
var joinToken = "MUSTER1." + strings.Repeat("0a", 32) + ".abcdefgh." + strings.Repeat("S", 42) + "A"

func noMore(mistake) []string { return nil }

// files lay down what the lines of the table name.
func (b *bed) files(t *testing.T) {
	t.Helper()
	for name, text := range map[string]string{
		"norule.yaml": "- action: shout\n", "tenants.yaml": "- id: team-a\n  retention: 30d\n", "field.yaml": "- id: team-a\n  retentoin: 30d\n", "twice.yaml": "- id: team-a\n- id: team-a\n",
		"value.yaml": "id: team-a\nretention: -1\n", "empty.yaml": "", "empty.json": "[]", "taken.key": "a key\n",
		"hashrings.json":   `[{"hashring":"imported","tenants":["imported"],"endpoints":["10.0.0.1:19391"]}]`,
		"foreign.snapshot": string(foreign(t)),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(b.dir, "keys"), 0o700))
}

// TestWhatCommandsSayWhenTheyAreMistyped needs no server.
func TestWhatCommandsSayWhenTheyAreMistyped(t *testing.T) {
	t.Parallel()
	b := emptyBed(t, 1)
	b.files(t)
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "a.snapshot"), foreign(t), 0o600))
	b.errorsOf(t, "usage", 0, noMore)
	b.errorsOf(t, "no server", 0, noMore)
	b.start(0)
	b.errorsOf(t, "no cluster", 0, noMore)
	b.errorsWhile(t, "refused", 0, true, noMore)
}

// TestWhatTheClusterRefuses asks one node for what it cannot or must not do.
func TestWhatTheClusterRefuses(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, 1)
	b.files(t)
	b.cli(0, "tenant", "create", "team-a")
	b.cli(0, "ring", "create", "hard", "--tenants", "team-a", "--replication-factor", "1", "--slots", "8")
	b.cli(0, "snapshot", "save", filepath.Join(b.dir, "a.snapshot"))
	b.settle()
	for _, name := range []string{"not found", "exists", "stale", "refused"} {
		b.errorsOf(t, name, 0, noMore)
	}

	// A token of the role just below, and for who reads one that was revoked.
	files := map[string]string{}
	for need, role := range map[string]string{"viewer": "viewer", "operator": "viewer", "admin": "operator"} {
		text := b.cli(0, "token", "create", "--role", role, "-o", "json")
		var made struct{ ID, Token string }
		require.NoError(t, json.Unmarshal([]byte(text), &made))
		files[need] = filepath.Join(b.dir, "below-"+need)
		require.NoError(t, os.WriteFile(files[need], []byte(made.Token), 0o600))
		if need == role {
			b.cli(0, "token", "revoke", made.ID)
		}
	}
	b.errorsOf(t, "denied", 0, func(m mistake) []string {
		return []string{"--server", "https://" + b.nodes[0].cfg.HTTP, "--token-file", files[m.role]}
	})
	// Nothing of it was done.
	require.Equal(t, 1, strings.Count(b.cli(0, "tenant", "list"), "team-a"))
	require.Equal(t, "1", regexp.MustCompile(`\b\d+\b`).FindString(b.cli(0, "query", "--all-tenants", "vector(1)")))
}

// TestWhatCommandsSayWithoutALeader: one of two voters is gone.
func TestWhatCommandsSayWithoutALeader(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2, 2)
	b.files(t)
	b.cli(0, "tenant", "create", "team-a")
	b.cli(0, "snapshot", "save", filepath.Join(b.dir, "a.snapshot"))
	b.settle()
	b.stop(1)
	b.eventually("the leader is missed", func() error {
		if _, msg, code := b.try(0, "tenant", "list"); code != exitNoLeader {
			return fmt.Errorf("exit %d: %s", code, msg)
		}
		return nil
	})
	b.errorsOf(t, "no leader", 0, noMore)
}

// TestEveryVerbHasItsErrorsInAGoldenFile walks the commands: whatever kind of
// error a verb can have by what it is, its golden file has it.
func TestEveryVerbHasItsErrorsInAGoldenFile(t *testing.T) {
	all, verbs := everyMistake(t), leafVerbs()
	known := map[string]bool{}
	for _, v := range verbs {
		known[v.verb] = true
		m, ok := all[v.verb]
		if !assert.True(t, ok, "%s: which mistakes can one make? say so in the table", v.verb) {
			continue
		}
		for name, k := range kinds {
			lines := k.lines(m, v)
			if !k.due(m, v) && len(lines) == 0 {
				continue
			}
			if k.due(m, v) {
				assert.NotEmpty(t, lines, "%s: the table has no line for: %s", v.verb, name)
			}
		}
		if ask := v.has("dry-run"); ask {
			assert.NotEmpty(t, m.role, "%s changes something: which role may?", v.verb)
		}
		for name, k := range kinds {
			if !k.due(m, v) {
				continue
			}
			file := "errors_" + k.file
			if name == "refused" && m.unformed != "" {
				file += "_forming"
			}
			raw, err := os.ReadFile(filepath.Join("testdata", file+".golden"))
			require.NoError(t, err)
			assert.Regexp(t, `(?m)^\$ muster `+regexp.QuoteMeta(v.verb)+`( .*)?\n(2> .*\n)+exit [1-6]$`, string(raw), "%s: no golden for: %s", v.verb, name)
		}
	}
	for verb := range all {
		assert.True(t, known[verb], "%s is no verb", verb)
	}
}
