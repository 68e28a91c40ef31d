package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"
)

// The child is this test binary once more: a node that ships what it has, and
// is killed with SIGKILL, by its own hand, at a chosen object.
const childEnv = "MUSTER_SHIP_CHILD" // bucket root, data directory, uploads log, kill at, how

func childMain() {
	args := strings.Split(os.Getenv(childEnv), "\n")
	n, err := strconv.Atoi(args[3])
	if err == nil {
		err = child(args[0], args[1], args[2], n, args[4])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(root, data, log string, killAt int, how string) error {
	inner, err := OpenBucket([]byte("type: FILESYSTEM\nconfig:\n  directory: "+root), nil, nil)
	if err != nil {
		return err
	}
	ledger, err := OpenLedger(filepath.Join(data, "ledger"))
	if err != nil {
		return err
	}
	src := Source{Tenant: "a", Incarnation: 1, Dir: filepath.Join(data, "a.1"), Labels: external("a")}
	s := New(Config{
		Bucket: &killer{Bucket: inner, log: log, left: killAt, how: how}, Ledger: ledger,
		Sources: func() []Source { return []Source{src} },
	})
	_, err = s.Sync(context.Background())
	return errors.Join(err, ledger.Close())
}

// killer writes the name of each uploaded object to a file, which outlives it,
// and dies in the middle of ("in"), or right after ("after"), the left-th one.
type killer struct {
	objstore.Bucket
	log  string
	left int
	how  string
}

func (k *killer) Upload(ctx context.Context, name string, r io.Reader, opts ...objstore.ObjectUploadOption) error {
	k.left--
	if k.left == 0 && k.how == "in" {
		r = io.MultiReader(io.LimitReader(r, 100), dying{})
	}
	if err := k.Bucket.Upload(ctx, name, r, opts...); err != nil {
		return err
	}
	f, err := os.OpenFile(k.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(name + "\n"); err != nil {
		return err
	}
	if k.left == 0 {
		die()
	}
	return f.Close()
}

type dying struct{}

func (dying) Read([]byte) (int, error) { die(); return 0, io.EOF }

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}

// TestKilledAtEveryObject kills the node in and after each object of an upload.
// At each time the bucket has the block whole or without meta.json; the next
// start completes it; meta.json is uploaded once.
func TestKilledAtEveryObject(t *testing.T) {
	template := t.TempDir()
	id := writeBlock(t, template, 0, 60)
	local, err := readLocal(filepath.Join(template, id.String()))
	must(t, err)
	m, err := metaOf(filepath.Join(template, id.String()), local, external("a"), local.ULID.Timestamp())
	must(t, err)
	objects := len(m.Thanos.Files)
	if objects < 4 {
		t.Fatalf("%d objects: the test wants several chunk files", objects)
	}
	for _, how := range []string{"in", "after"} {
		for n := 1; n <= objects; n++ {
			t.Run(fmt.Sprintf("%s %d", how, n), func(t *testing.T) {
				root, data := filepath.Join(t.TempDir(), "bucket"), t.TempDir()
				must(t, os.CopyFS(filepath.Join(data, "a.1"), os.DirFS(template)))
				log := filepath.Join(t.TempDir(), "log")

				if !runChild(t, root, data, log, n, how) {
					t.Fatal("the node was not killed")
				}
				whole := how == "after" && n == objects
				if inBucket(t, root, id) != whole {
					t.Fatalf("after the kill: meta.json is there: %v", !whole)
				}
				if whole {
					wantReadable(t, root, id)
				}
				if ledgerKnows(t, data, id) {
					t.Fatal("safe before it was verified")
				}

				for range 2 {
					if runChild(t, root, data, log, 0, "") {
						t.Fatal("killed without an order")
					}
					wantReadable(t, root, id)
					if !ledgerKnows(t, data, id) {
						t.Fatal("not safe after the restart")
					}
				}
				uploads, err := os.ReadFile(log)
				must(t, err)
				if got := strings.Count(string(uploads), "/"+metaName); got != 1 {
					t.Errorf("meta.json was uploaded %d times", got)
				}
				if left, err := filepath.Glob(filepath.Join(root, "*", "*.tmp")); err != nil || len(left) > 0 {
					t.Errorf("left behind: %v %v", left, err)
				}
			})
		}
	}
}

// runChild reports whether the node was killed; any other failure is the test's.
func runChild(t *testing.T, root, data, log string, n int, how string) (killed bool) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{root, data, log, strconv.Itoa(n), how}, "\n"))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL {
			return true
		}
	}
	t.Fatalf("node: %v\n%s", err, out)
	return false
}

func inBucket(t *testing.T, root string, id ulid.ULID) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(root, id.String(), metaName))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return err == nil
}

func wantReadable(t *testing.T, root string, id ulid.ULID) {
	t.Helper()
	if n := readable(t, root, id); n != 60*samples {
		t.Fatalf("the bucket's block has %d samples", n)
	}
}

func ledgerKnows(t *testing.T, data string, id ulid.ULID) bool {
	t.Helper()
	l, err := OpenLedger(filepath.Join(data, "ledger"))
	must(t, err)
	defer func() { must(t, l.Close()) }()
	return l.Safe("a", 1, id)
}
