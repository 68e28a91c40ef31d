package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWhatCertAndTokenCommandsPrint is the session of an operator, errors
// included.
func TestWhatCertAndTokenCommandsPrint(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, 1)
	b.cli(0, "tenant", "create", "team-a")
	session := func(name string, lines ...string) {
		t.Helper()
		var text strings.Builder
		for _, line := range lines {
			shown := b.transcript(0, wordsOf(strings.ReplaceAll(line, "OUT", b.dir)))
			for told := range strings.Lines(shown) {
				if !strings.HasPrefix(told, "2> The CA is being replaced") { // progress: as fast as it is
					text.WriteString(told)
				}
			}
		}
		golden(t, name, text.String())
	}
	session("cert",
		"cert show",
		"cert issue thanos",
		"cert issue --role node thanos --out OUT",
		"cert issue --role reader thanos --tenant nobody --out OUT",
		"cert issue --role reader thanos --ttl soon --out OUT",
		"cert issue --role reader thanos --tenant team-a --ttl 90d --out OUT --dry-run",
		"cert issue --role reader thanos --tenant team-a --ttl 90d --out OUT",
		"cert issue --role reader thanos --out OUT",
		"cert show",
		"cert revoke 0",
		"cert renew --dry-run",
		"cert renew",
		"cert rotate-ca --finish",
		"cert rotate-ca --dry-run",
		"cert rotate-ca",
		"cert rotate-ca",
		"cert show",
		"cert rotate-ca --finish",
		"cert show",
	)
	session("token",
		"token list",
		"token create",
		"token create --role king",
		"token create --role viewer --ttl soon",
		"token create --role operator --ttl 30d",
		"token list",
		"token revoke nobody",
		"tenant token create team-b",
		"tenant token create team-a --ttl 30d",
		"tenant token list team-a",
		"tenant token revoke team-a",
		"tenant token revoke team-a nobody",
	)
	// A request that was refused leaves no key behind.
	left, err := filepath.Glob(filepath.Join(b.dir, "*.key"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(b.dir, "thanos.key")}, left)
	st, err := os.Stat(left[0])
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
}
