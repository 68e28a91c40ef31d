package cluster

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestStrangersComeOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, begun := newStrangers(), time.Now()
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if err := s.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("one that has gone away: %v", err)
		}
		all.Wait()
		if took := time.Since(begun); took != 5*strangerEvery {
			t.Errorf("five took %v", took)
		}
	})
}
