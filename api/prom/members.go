package prom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// Dial gives the long-lived connection to a member's door.
type Dial func(ctx context.Context, node string) (*grpc.ClientConn, error)

// errSilent is a member that said nothing for the whole of its time.
var errSilent = errors.New("no answer in time")

// maxResponse bounds a response: one batch, and the last series in it.
const maxResponse = 64 << 20

// forgiveAfter is how long a member that was silent is given less time.
const forgiveAfter = 30 * time.Second

// members are the stores that can be asked: this node's own, and the others'.
type members struct {
	self    string
	local   *Reader
	dial    Dial
	timeout time.Duration
	now     func() time.Time

	mu     sync.Mutex
	silent map[string]time.Time // when a member last let a read time out
}

// patience is how long a member may say nothing. One that was silent a moment
// ago gets a tenth: a hung node shall not slow every query down.
func (m *members) patience(node string) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t, ok := m.silent[node]; ok && m.now().Sub(t) < forgiveAfter {
		return max(m.timeout/10, time.Millisecond)
	}
	return m.timeout
}

func (m *members) judge(node string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err == nil:
		delete(m.silent, node)
	case errors.Is(err, errSilent):
		if m.silent == nil {
			m.silent = map[string]time.Time{}
		}
		m.silent[node] = m.now()
	}
}

// ask calls take with every response of the node's store, in order. An error
// means that the answer is not whole.
func (m *members) ask(ctx context.Context, node string, req *peerpb.SelectRequest, take func(*peerpb.SelectResponse) error) error {
	if node == m.self {
		return m.local.read(ctx, req, take)
	}
	return m.watched(ctx, node, func(ctx context.Context, c peerpb.ReadClient, heard, wait func()) error {
		stream, err := c.Select(ctx, req, grpc.MaxCallRecvMsgSize(maxResponse))
		if err != nil {
			return err
		}
		return takeAll(stream.Recv, take, heard, wait)
	})
}

// takeAll calls take with every response of a stream, in order, until it ends.
func takeAll[T any](recv func() (T, error), take func(T) error, heard, wait func()) error {
	for {
		resp, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		heard()
		if err := take(resp); err != nil {
			return err
		}
		wait()
	}
}

// askLabels asks for names, or for the values of the request's name.
func (m *members) askLabels(ctx context.Context, node string, req *peerpb.LabelsRequest) (out *peerpb.LabelsResponse, err error) {
	if node == m.self {
		if req.Name == "" {
			return m.local.LabelNames(ctx, req)
		}
		return m.local.LabelValues(ctx, req)
	}
	err = m.watched(ctx, node, func(ctx context.Context, c peerpb.ReadClient, _, _ func()) error {
		call := c.LabelValues
		if req.Name == "" {
			call = c.LabelNames
		}
		out, err = call(ctx, req, grpc.MaxCallRecvMsgSize(maxResponse))
		return err
	})
	return out, err
}

// askExemplars calls take with every response of the node's store, in order. An
// error means that the answer is not whole.
func (m *members) askExemplars(ctx context.Context, node string, req *peerpb.ExemplarsRequest, take func(*peerpb.ExemplarsResponse) error) error {
	if node == m.self {
		return m.local.readExemplars(ctx, req, take)
	}
	return m.watched(ctx, node, func(ctx context.Context, c peerpb.ReadClient, heard, wait func()) error {
		stream, err := c.Exemplars(ctx, req, grpc.MaxCallRecvMsgSize(maxResponse))
		if err != nil {
			return err
		}
		return takeAll(stream.Recv, take, heard, wait)
	})
}

// askMetadata asks what the node knows of metric families.
func (m *members) askMetadata(ctx context.Context, node string, req *peerpb.MetadataRequest) (out *peerpb.MetadataResponse, err error) {
	if node == m.self {
		return m.local.Metadata(ctx, req)
	}
	err = m.watched(ctx, node, func(ctx context.Context, c peerpb.ReadClient, _, _ func()) error {
		out, err = c.Metadata(ctx, req, grpc.MaxCallRecvMsgSize(maxResponse))
		return err
	})
	return out, err
}

// watched runs f against a node and ends it when the node is silent for too
// long; f says when it has heard something and when it waits again.
func (m *members) watched(ctx context.Context, node string, f func(ctx context.Context, c peerpb.ReadClient, heard, wait func()) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := m.patience(node)
	watch := time.AfterFunc(patience, func() { cancel(errSilent) })
	defer watch.Stop()

	conn, err := m.dial(ctx, node)
	if err == nil {
		err = f(ctx, peerpb.NewReadClient(conn), func() { watch.Stop() }, func() { watch.Reset(patience) })
	}
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		err = errSilent
	}
	m.judge(node, err)
	if err != nil {
		return fmt.Errorf("read from %s: %w", node, err)
	}
	return nil
}
