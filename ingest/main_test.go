package ingest

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain has every test see who reads released bytes, or leaves goroutines.
func TestMain(m *testing.M) {
	poison.Store(true)
	goleak.VerifyTestMain(m)
}
