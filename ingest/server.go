package ingest

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// server takes the shares of the other members.
type server struct {
	peerpb.UnimplementedReplicationServer
	ingester *Ingester
}

// streamShares is how many shares of a stream may wait for the storage. What
// a sender has on its way is bounded in bytes by itself; this bounds goroutines.
const streamShares = 256

// Shares stores the shares of one stream, several at a time, and answers each
// when it is done, in any order. A stream that ends does not end what it brought.
func (s *server) Shares(stream grpc.BidiStreamingServer[peerpb.Share, peerpb.ShareResult]) error {
	i := s.ingester
	// The sender waits for this: it proves that somebody is listening, and lets
	// gRPC stop keeping what it sent for a retry.
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	places := make(chan struct{}, streamShares)
	var answer sync.Mutex
	var work sync.WaitGroup
	defer work.Wait()
	for {
		in := &incoming{}
		if err := stream.RecvMsg(in); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		select {
		case places <- struct{}{}:
		case <-i.life.Done():
			in.release()
			return status.Error(codes.Unavailable, "closing")
		}
		work.Go(func() {
			defer func() { <-places }()
			res := i.storeFor(stream.Context(), in)
			answer.Lock()
			defer answer.Unlock()
			// A stream that is gone has told its sender already.
			_ = stream.SendMsg(res)
		})
	}
}

func (i *Ingester) storeFor(ctx context.Context, in *incoming) *peerpb.ShareResult {
	defer in.release()
	leave, err := i.admission.share(in.Tenant, int64(len(in.Frames)))
	if err != nil {
		i.metrics.refusedShare("overloaded")
		return &peerpb.ShareResult{Id: in.Id, Status: peerpb.Status_UNAVAILABLE, Detail: err.Error()}
	}
	defer leave()
	patience := i.cfg.PeerAge
	if in.TimeoutMs > 0 {
		patience = min(patience, time.Duration(in.TimeoutMs)*time.Millisecond)
	}
	// The sender may be gone; the samples are here all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return i.store(ctx, &in.Share, false)
}
