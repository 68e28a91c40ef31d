package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// connectWait is how long a stream may take to come up.
const connectWait = 3 * time.Second

var errSilent = errors.New("no answer")

// session is the life of one stream: it comes up, carries shares and answers,
// and breaks.
func (l *lane) session(ctx context.Context) (up bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := time.AfterFunc(connectWait, func() { cancel(fmt.Errorf("not connected after %s", connectWait)) })
	defer slow.Stop()
	stream, err := l.connect(ctx)
	if err != nil {
		return false, cmp.Or(context.Cause(ctx), err)
	}
	if !slow.Stop() {
		return false, context.Cause(ctx)
	}
	var both sync.WaitGroup
	both.Go(func() { cancel(l.receive(stream)) })
	both.Go(func() { cancel(l.transmit(ctx, stream)) })
	l.watch(ctx, cancel)
	both.Wait()
	return true, context.Cause(ctx)
}

func (l *lane) connect(ctx context.Context) (grpc.ClientStream, error) {
	conn, err := l.peers.dialer.Dial(ctx, l.peer.node)
	if err != nil {
		return nil, err
	}
	desc := &peerpb.Replication_ServiceDesc.Streams[0]
	stream, err := conn.NewStream(ctx, desc, peerpb.Replication_Shares_FullMethodName, grpc.CallContentSubtype(codecName))
	if err != nil {
		return nil, err
	}
	// The other side answers with its header before it takes anything.
	head, err := stream.Header()
	if err != nil {
		return nil, err
	}
	if head == nil { // it ended without one, and says why
		return nil, cmp.Or(stream.RecvMsg(&peerpb.ShareResult{}), io.ErrUnexpectedEOF)
	}
	return stream, nil
}

// transmit sends what is queued, in order.
func (l *lane) transmit(ctx context.Context, stream grpc.ClientStream) error {
	for {
		out, ok := l.pop()
		if !ok {
			select {
			case <-l.wake:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err := stream.SendMsg(out)
		out.buf.release()
		if err != nil {
			// The reason is what the stream says to its reader.
			<-ctx.Done()
			return err
		}
	}
}

// receive takes the answers.
func (l *lane) receive(stream grpc.ClientStream) error {
	for {
		res := &peerpb.ShareResult{}
		if err := stream.RecvMsg(res); err != nil {
			return err
		}
		l.answered(res)
	}
}

// watch lets what was missed go again when it is due, and breaks a stream that
// has not answered a share for too long.
func (l *lane) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(min(missedWait/2, l.peers.cfg.PeerAge/4))
	defer tick.Stop()
	for {
		l.expire()
		l.promote()
		l.requeue()
		if l.silent() {
			cancel(fmt.Errorf("%w for %s", errSilent, l.peers.cfg.PeerAge))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *lane) silent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := time.Now().Add(-l.peers.cfg.PeerAge)
	for _, c := range l.pending {
		if c.since.Before(limit) {
			return true
		}
	}
	return len(l.queue) > 0 && l.queue[0].since.Before(limit)
}
