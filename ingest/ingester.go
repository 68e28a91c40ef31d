package ingest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// Ingester takes writes, sends each replica its share, and stores the shares
// that other nodes send. It works from New on; Run only looks after it.
type Ingester struct {
	cfg     Config
	storage Storage
	ensure  Ensurer
	log     *slog.Logger

	fence *fence

	life context.Context // ends with Close
	end  context.CancelFunc
	work sync.WaitGroup // goroutines of writes that outlive their callers
}

// New makes an Ingester that knows no view yet. ensure may be nil where no
// tenant is created by writing, log and reg may be nil.
func New(cfg Config, storage Storage, peers Peers, ensure Ensurer, log *slog.Logger, reg prometheus.Registerer) *Ingester {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	i := &Ingester{cfg: cfg.withDefaults(), storage: storage, ensure: ensure, log: log, fence: newFence()}
	i.life, i.end = context.WithCancel(context.Background())
	return i
}

// SetView gives the Ingester the view to work by from now on. An older one
// than it has is ignored.
func (i *Ingester) SetView(v *View) { i.fence.set(v) }

// Announced is the newest revision such that no share that was admitted here
// under an older one is still being stored; 0 before the first view. It is
// what this node tells in its heartbeats.
func (i *Ingester) Announced() uint64 { return i.fence.announced() }

// ServeWrite takes a remote write request of a tenant that the caller has
// made sure of.
func (i *Ingester) ServeWrite(w http.ResponseWriter, r *http.Request, tenant string) {
	i.serve(w, r, tenant)
}

// RegisterReplication makes the other nodes' shares arrive here. The caller
// sees to it that only members reach the service.
func (i *Ingester) RegisterReplication(s grpc.ServiceRegistrar) {
	peerpb.RegisterReplicationServer(s, &server{ingester: i})
}

// Run looks after the Ingester until ctx ends.
func (i *Ingester) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Close ends what goes on in the background and waits for it.
func (i *Ingester) Close() {
	i.end()
	i.work.Wait()
}

var errClosed = errors.New("ingester is closed")
