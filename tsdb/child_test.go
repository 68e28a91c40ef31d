package tsdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"
)

const (
	childVar = "MUSTER_TSDB_TEST_CHILD"
	childAge = "MUSTER_TSDB_TEST_AGE" // how far back the child's samples begin
	childLet = "MUSTER_TSDB_TEST_LET" // set: the child lets series go all the time
)

func childDir() string { return os.Getenv(childVar) }

// runChild appends until it is killed, and prints each share that was stored.
func runChild() {
	db := New(Config{Dir: childDir(), BlockDuration: 10 * time.Second})
	db.SetTenants([]Settings{{Key: acme}}, nil)
	if err := db.Open(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() { _ = db.Run(context.Background()) }()
	if os.Getenv(childLet) != "" {
		go keepLettingGo(db)
	}
	age, err := time.ParseDuration(os.Getenv(childAge))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	base := time.Now().Add(-age).UnixMilli()
	for n := int64(0); ; n++ {
		at := base + n*10
		var all []series
		for i := range 50 {
			all = append(all, series{metric("up", "i", fmt.Sprint(i)), []sample{{at, float64(n)}}})
		}
		// Every third share also brings a sample that is out of order.
		if n%3 == 2 {
			all = append(all, series{metric("late"), []sample{{at, 1}}}, series{metric("late"), []sample{{at - 15, 1}}})
		}
		s := shareOf(all...)
		out := make([]Outcome, s.size())
		_, err := db.Append(context.Background(), acme, s, false, out)
		for errors.Is(err, errLateCut) { // the machine is slow: its sender sends it again
			_, err = db.Append(context.Background(), acme, s, true, out)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for _, o := range out {
			if o != Stored {
				fmt.Fprintln(os.Stderr, "outcome", o)
				os.Exit(1)
			}
		}
		fmt.Println(at)
	}
}

// keepLettingGo lets half of the series go, then all of them, and again; they all
// come back with the next share.
func keepLettingGo(db *DB) {
	for n := 0; ; n++ {
		_, err := db.LetGo(context.Background(), acme, 0, func(h uint64) bool { return n%2 == 0 || h%2 == 0 })
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	killOften(t, 3, 400)
}

func TestProcessKilledWhileItLetsGoLosesNothing(t *testing.T) {
	killOften(t, 4, 50, childLet+"=1")
}

// killOften starts a child again and again, and kills it after some shares, each
// time some more. Whatever it said was stored must be there, once.
func killOften(t *testing.T, rounds, shares int, env ...string) {
	if testing.Short() {
		t.Skip("starts a process")
	}
	dir, torn := t.TempDir(), false
	for round := range rounds {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childVar+"="+dir, fmt.Sprint(childAge, "=", time.Duration(rounds-round)*time.Minute))
		child.Env = append(child.Env, env...)
		child.Stderr = os.Stderr
		pipe, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		var acked []int64
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			var at int64
			if _, err := fmt.Sscan(lines.Text(), &at); err != nil {
				break // the line that the kill cut off
			}
			acked = append(acked, at)
			if len(acked) == shares*(round+1) {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = child.Wait() // killed
		if len(acked) < shares*(round+1) {
			t.Fatalf("the child ended by itself after %d shares", len(acked))
		}
		expectAcked(t, dir, acked, &torn)
	}
}

// expectAcked wants every acknowledged sample once, and no gap, unless a log was
// torn: a kill may end a write(2) between two pages of memory, once in hundreds of
// kills, and who finds half a record cannot know that nobody was told of it.
func expectAcked(t *testing.T, dir string, acked []int64, torn *bool) {
	t.Helper()
	db := New(Config{Dir: dir, BlockDuration: 10 * time.Second, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	db.SetTenants([]Settings{{Key: acme}}, nil)
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer closeDB(t, db)
	*torn = *torn || engineOf(t, db).news.repaired.Load()
	if s := db.Status(acme); !s.Replayed || len(s.Gaps) != 0 && !*torn {
		t.Fatalf("after the end of a process only: %+v", s)
	}
	all := held(t, db, acme)
	have := map[string]map[int64]bool{}
	for name, samples := range all {
		have[name] = map[int64]bool{}
		for i, s := range samples {
			if i > 0 && samples[i-1].t >= s.t {
				t.Fatalf("%s at %d is read after %d", name, s.t, samples[i-1].t)
			}
			have[name][s.t] = true
		}
	}
	for n, at := range acked {
		for i := range 50 {
			if name := fmt.Sprintf(`{__name__="up", i="%d"}`, i); !have[name][at] {
				t.Fatalf("share %d of %d: %s at %d is gone", n, len(acked), name, at)
			}
		}
		if late := `{__name__="late"}`; n%3 == 2 && (!have[late][at] || !have[late][at-15]) {
			t.Fatalf("share %d of %d: out-of-order sample at %d is gone", n, len(acked), at-15)
		}
	}
}
