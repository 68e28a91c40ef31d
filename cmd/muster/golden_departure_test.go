package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// TestWhatDepartureCommandsPrint is how nodes are taken out of service, refusals
// included.
func TestWhatDepartureCommandsPrint(t *testing.T) {
	t.Parallel()
	b := newBed(t, 4, 3)
	b.eventually("n1 leads", func() error {
		if _, msg, code := b.try(0, "cluster", "transfer-leader", "n1"); code != 0 {
			return fmt.Errorf("exit %d: %s", code, msg)
		}
		return nil
	})
	b.settle()
	var text strings.Builder
	for _, line := range []string{
		"cluster drain",
		"cluster drain n9",
		"cluster drain n2 --if-version 1",
		"cluster drain n2 --dry-run",
		"cluster drain n2 --reason kernel",
		"cluster drain n2 --reason kernel -o json",
		"cluster drain n3",
		"cluster transfer-leader n2",
		"cluster transfer-leader n9",
		"cluster transfer-leader n1",
		"cluster transfer-leader n1 --dry-run",
		"cluster undrain n2",
		"cluster undrain n2 --dry-run",
		"cluster undrain n2 -o json",
		"cluster remove",
		"cluster remove n9",
		"cluster remove n4 --dry-run",
		"cluster remove n4 --dry-run -o json",
		"cluster remove n4 --bucket-is-enough",
		"cluster remove n4 --force",
		"cluster remove n4 --force --cancel",
		"cluster remove n4 --cancel",
		"ring set default --replication-factor 4",
		"cluster remove n4",
	} {
		text.WriteString(b.transcript(0, wordsOf(line)))
	}
	// Which neighbours a node's slots have is the planner's choice.
	golden(t, "departure", regexp.MustCompile(`\b\d{3,} of 4096 slots`).ReplaceAllString(text.String(), "SOME of 4096 slots"))
}
