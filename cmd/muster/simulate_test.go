package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// offline runs a command that needs no server.
func offline(t *testing.T, args ...string) (out, msg string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"muster"}, args...), stdio{&o, &e})
	return o.String(), e.String(), code
}

func TestRingSimulate(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for _, line := range []string{
		"ring simulate",
		"ring simulate --nodes 12 --weights 100,200 --add 2 --remove 1 --fail 2 --write-quorum all --replication-factor 2",
		"ring simulate --nodes 2",
		"ring simulate --nodes 300 --add 0 --fail 2",
		"ring simulate --nodes 2 --zones 3 --replication-factor 2",
		"ring simulate --zones 0",
		"ring simulate --zipf -1",
		"ring simulate --request-series 0",
		"ring simulate --fail 9",
		"ring simulate --remove 29",
		"ring simulate --slots 1000",
		"ring simulate --series many",
		"ring simulate --weights 100,0",
		"ring simulate now",
	} {
		out, msg, code := offline(t, strings.Fields(line)...)
		fmt.Fprintf(&text, "$ muster %s\n%s%sexit %d\n\n", line, out, msg, code)
	}
	golden(t, "ring_simulate", text.String())
}

func TestRingSimulateForPrograms(t *testing.T) {
	out, msg, code := offline(t, "ring", "simulate", "--nodes", "7", "--add", "2", "-o", "json")
	require.Zero(t, code, msg)
	var a struct {
		Placements []struct {
			PlacedBy    string    `json:"placed_by"`
			SeriesAfter []float64 `json:"series_after"`
			Moved       []float64 `json:"moved"`
			Losses      []struct {
				Any float64 `json:"any"`
			} `json:"losses"`
		} `json:"placements"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &a))
	require.Len(t, a.Placements, 5)
	for _, p := range a.Placements {
		require.Len(t, p.SeriesAfter, 9, p.PlacedBy)
		require.Len(t, p.Moved, 2, p.PlacedBy)
		require.Len(t, p.Losses, 3, p.PlacedBy)
		require.Zero(t, p.Losses[0].Any, p.PlacedBy)
		require.Positive(t, p.Losses[1].Any, p.PlacedBy)
	}
}

func TestRingSimulateDraws(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ring.svg")
	_, msg, code := offline(t, "ring", "simulate", "--svg", file)
	require.Zero(t, code, msg)
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	dots, d := 0, xml.NewDecoder(bytes.NewReader(raw))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			dots++
		}
	}
	require.Equal(t, 5*(30+31), dots, "a dot for each node, before and after, of each placement")
}
