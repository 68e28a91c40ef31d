package fleet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Binary is the muster that tests run: the one that MUSTER_BINARY names, or one
// that is built now, below dir.
func Binary(ctx context.Context, dir string) (string, error) {
	if b := os.Getenv("MUSTER_BINARY"); b != "" {
		return b, nil
	}
	bin := filepath.Join(dir, "muster")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "github.com/muster-metrics/muster/cmd/muster").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return bin, nil
}
