package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"
)

// TestEveryVerbIsInAGoldenFile: what each command prints is compared somewhere.
func TestEveryVerbIsInAGoldenFile(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.golden"))
	require.NoError(t, err)
	var all strings.Builder
	for _, f := range files {
		raw, err := os.ReadFile(f)
		require.NoError(t, err)
		all.Write(raw)
		all.WriteByte('\n')
	}
	verbs := 0
	var ask func(words string, commands []*cli.Command)
	ask = func(words string, commands []*cli.Command) {
		for _, c := range commands {
			at := words + " " + c.Name
			if len(c.VisibleCommands()) > 0 && c.Action == nil {
				ask(at, c.Subcommands)
				continue
			}
			if c.Hidden || c.Name == "help" {
				continue
			}
			verbs++
			assert.Regexp(t, `(?m)^\$ `+regexp.QuoteMeta(at)+`\b`, all.String(), "no golden file has `%s`", at)
		}
	}
	ask("muster", newApp(stdio{io.Discard, io.Discard}).Commands)
	require.Greater(t, verbs, 40)
}

// TestWhatQueriesAndChecksPrint has the verbs that read, on a node with samples
// at times that are taken out.
func TestWhatQueriesAndChecksPrint(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, 1)
	now := time.Now().Truncate(time.Minute)
	var samples []sample
	for i := range int64(3) {
		samples = append(samples, sample{labels.FromStrings("__name__", "m", "host", fmt.Sprint(i)), now.UnixMilli(), float64(i)})
	}
	b.write(0, "a", samples...)
	at := fmt.Sprint(now.Unix())
	times := strings.NewReplacer(at, "TIME", fmt.Sprint(now.Add(-time.Minute).Unix()), "BEFORE",
		now.UTC().Format(time.RFC3339), "TIME", now.Format(time.RFC3339), "TIME", now.Format("15:04:05"), "TIME")
	var text strings.Builder
	for _, line := range []string{
		"query -t a --time " + at + " m",
		"query -t a --time " + at + " count(m)",
		"query -t a --time " + at + " -o json sum(m)",
		"query --all-tenants --time " + at + " m",
		"query -t a --start " + at + " --end " + at + " --step 30s m",
		"query -t a --time " + at + " absent_metric",
		"query -t a m[",
		"query -t b m",
		"query m",
		"query -t a",
		"query -t a --time yesterday m",
		"cluster verify",
		"cluster verify now",
		"demo now",
		"demo --duration long",
		"selftest now",
		"server now",
		"server --tsdb.block-duration 1s",
		"version",
	} {
		text.WriteString(times.Replace(b.transcript(0, strings.Fields(line))))
	}
	sum := regexp.MustCompile(`heard: [0-9a-f]{16}`)
	golden(t, "reads", sum.ReplaceAllString(text.String(), "heard: SUM"))
}

func TestSelftest(t *testing.T) {
	t.Parallel()
	bin, err := built()
	require.NoError(t, err)
	var out, msg bytes.Buffer
	cmd := exec.Command(bin, "selftest")
	cmd.Stdout, cmd.Stderr = &out, &msg
	require.NoError(t, cmd.Run(), "%s%s", &out, &msg)
	took := regexp.MustCompile(`\([0-9.]+ s\)`)
	golden(t, "selftest", "$ muster selftest\n"+took.ReplaceAllString(out.String(), "(SECONDS)"))
}
