package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheAPIsDocumentRuns: what docs/api.md shows is typed as it stands there.
func TestTheAPIsDocumentRuns(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl")
	}
	text, err := os.ReadFile("../../docs/api.md")
	require.NoError(t, err)
	b := newBed(t, 1, 1)
	script := "set -eu\n"
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(block[1]) {
			if refused, ok := strings.CutPrefix(line, "! "); ok { // `set -e` looks at no negated command
				line = "if " + strings.TrimSpace(refused) + "; then echo not refused; exit 1; fi\n"
			}
			script += line
		}
	}
	cmd := exec.Command("bash", "-xc", script)
	cmd.Env = append(os.Environ(), "MUSTER_DATA_DIR="+b.nodes[0].cfg.DataDir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, b.cli(0, "tenant", "show", "doc-a"), `"15d"`)
}
