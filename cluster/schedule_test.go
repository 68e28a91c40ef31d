package cluster

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// shelf is a bucket in memory.
type shelf struct {
	mu   sync.Mutex
	kept map[string]string
	down bool
}

func (s *shelf) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

func (s *shelf) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *shelf) Put(_ context.Context, name string, r io.Reader) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := io.ReadAll(r)
	if s.down {
		return errors.New("the bucket is away")
	}
	s.kept[name] = string(text)
	return err
}

func (s *shelf) List(_ context.Context, cluster string) (names []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.kept {
		if path.Dir(name) == cluster {
			names = append(names, path.Base(name))
		}
	}
	return names, nil
}

func (s *shelf) Delete(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, name)
	return nil
}

func TestSnapshotsAreTakenDailyAndTheNewestKept(t *testing.T) {
	st := smallStory(t)
	dir := filepath.Join(t.TempDir(), "snapshots")
	bucket := &shelf{kept: map[string]string{"id/somebody's": ""}}
	synctest.Test(t, func(t *testing.T) {
		var exists, leads atomic.Bool
		write := func(w io.Writer) error { _, err := st.WriteArchive(w, ArchiveHeader{Time: time.Now()}); return err }
		begin := func() (*schedule, func()) {
			s := newSchedule(dir, bucket, write, func() (string, bool) {
				if !exists.Load() {
					return "", false
				}
				return "id", leads.Load()
			}, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { s.Run(ctx); close(done) }()
			return s, func() { cancel(); <-done }
		}
		files := func() int {
			found, err := filepath.Glob(filepath.Join(dir, "*"+archiveSuffix))
			if err != nil {
				t.Fatal(err)
			}
			return len(found)
		}
		pass := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		want := func(what string, local, shelved int) {
			t.Helper()
			if files() != local || bucket.len()-1 != shelved {
				t.Errorf("%s: %d here and %d in the bucket, want %d and %d", what, files(), bucket.len()-1, local, shelved)
			}
		}
		s, stop := begin()
		pass(48 * time.Hour)
		want("without a cluster", 0, 0)
		exists.Store(true)
		pass(2 * time.Minute)
		want("at once where there is none, and the bucket's by the leader only", 1, 0)
		leads.Store(true)
		pass(2 * time.Minute)
		want("the leader's", 1, 1)
		pass(23 * time.Hour)
		want("before a day is over", 1, 1)
		pass(time.Hour)
		want("after a day", 2, 2)
		if local, there := s.Last(); time.Since(local) > time.Hour || time.Since(there) > time.Hour {
			t.Errorf("the last were taken %v and %v", local, there)
		}
		stop()
		time.Sleep(time.Hour)
		_, stop = begin()
		pass(5 * time.Minute)
		want("after a restart within the day", 2, 2)
		stop()
		time.Sleep(72 * time.Hour)
		s, stop = begin()
		pass(5 * time.Minute)
		want("what was missed is made up for, once", 3, 3)
		bucket.setDown(true)
		pass(24 * time.Hour)
		want("without the bucket", 4, 3)
		if local, there := s.Failures(); local != 0 || there == 0 {
			t.Errorf("failed %d times here and %d times in the bucket", local, there)
		}
		bucket.setDown(false)
		pass(15 * time.Minute)
		want("as soon as it is back", 4, 4)
		pass(20 * 24 * time.Hour)
		want("the newest fourteen", scheduleKeep, scheduleKeep)
		stop()
	})
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := OpenArchive(filepath.Join(dir, e.Name())); err != nil {
			t.Error(err)
		}
		if st, _ := e.Info(); st.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v", e.Name(), st.Mode())
		}
	}
	if d, err := os.Stat(dir); err != nil || d.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v %v", d, err)
	}
	if _, ok := bucket.kept["id/somebody's"]; !ok {
		t.Error("what somebody else has put there is gone")
	}
}
