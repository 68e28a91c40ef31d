package cluster

import (
	"context"
	"errors"
	"testing"
)

// unanswered is a future that Raft has forgotten.
type unanswered chan struct{}

func (u unanswered) Error() error { <-u; return nil }

// An engine that ends waits for no answer that will never come.
func TestEndingWaitsForNoForgottenFuture(t *testing.T) {
	future := make(unanswered)
	defer close(future)
	e := &engine{}
	e.ctx, e.end = context.WithCancel(t.Context())
	result := make(chan error)
	e.crew.Go(func() { result <- e.wait(context.WithoutCancel(t.Context()), future) })
	e.end()
	if err := <-result; !errors.Is(err, ErrUnknownOutcome) {
		t.Fatalf("waiting ended with %v, want an unknown outcome", err)
	}
	e.crew.Dismiss()
}
