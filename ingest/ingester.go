package ingest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
)

// Ingester takes writes, sends each replica its share, and stores the shares
// that other nodes send. It works from New on; Run only looks after it.
type Ingester struct {
	cfg     Config
	storage Storage
	annex   Annex // the storage, where it is one
	ensure  Ensurer
	log     *slog.Logger

	metrics    *metrics
	complaints complaints

	fence     *fence
	admission *admission
	peers     *peers
	own       backlog
	creating  creations
	told      *retold
	rates     *rates

	life context.Context // ends with Close
	end  context.CancelFunc
	// late ends when Close waits no longer for shares that have not begun.
	late  context.Context
	hurry context.CancelFunc

	mu     sync.Mutex
	closed bool
	work   sync.WaitGroup // appends that outlive their callers
}

var (
	errClosed       = errors.New("closing")
	errUnknownStore = errors.New("unknown store")
)

// New makes an Ingester that knows no view yet. ensure may be nil where no
// tenant is created by writing, log and reg may be nil.
func New(cfg Config, storage Storage, dialer Peers, ensure Ensurer, log *slog.Logger, reg prometheus.Registerer) *Ingester {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	cfg = cfg.withDefaults()
	i := &Ingester{
		cfg: cfg, storage: storage, ensure: ensure, log: log,
		metrics: newMetrics(reg), complaints: complaints{log: log}, fence: newFence(), admission: newAdmission(cfg), told: newRetold(),
		rates: newRates(cfg.Now),
	}
	i.admission.memory.log = log
	i.admission.register(reg)
	i.annex, _ = storage.(Annex)
	i.fence.keep, i.fence.tell = cfg.SettleWait, cfg.Settled
	i.life, i.end = context.WithCancel(context.Background())
	i.late, i.hurry = context.WithCancel(context.Background())
	i.peers = &peers{cfg: cfg, dialer: dialer, metrics: i.metrics, life: i.life, all: map[ring.Store]*peer{}}
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
	i.serve(w, r, tenant, messageOf)
}

// ServeOTLP takes OTLP metrics of a tenant that the caller has made sure of.
func (i *Ingester) ServeOTLP(w http.ResponseWriter, r *http.Request, tenant string) {
	e := &export{to: w, warnings: i.metrics.otlpWarnings}
	i.serve(e, r, tenant, e.message)
	e.end()
}

// Refused counts a write that was refused before it came here, for its
// credentials or its tenant, and logs it as all others.
func (i *Ingester) Refused(status int, why string) {
	i.metrics.requests.WithLabelValues(strconv.Itoa(status), "post", "").Inc()
	i.complaints.answered("", account{}, status, excerpt(why))
}

// RegisterReplication makes the other nodes' shares arrive here. The caller
// sees to it that only members reach the service.
func (i *Ingester) RegisterReplication(s grpc.ServiceRegistrar) {
	peerpb.RegisterReplicationServer(s, &server{ingester: i})
}

// Run looks after the Ingester until ctx ends: it watches the memory budget,
// forgets stores and tenants that are no more, and logs what writes were refused
// for.
func (i *Ingester) Run(ctx context.Context) error {
	var watch sync.WaitGroup
	defer watch.Wait()
	watch.Go(func() { i.admission.memory.run(ctx) })
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	tell := time.NewTicker(complaintEvery / 6)
	defer tell.Stop()
	for {
		select {
		case <-tick.C:
			i.sweep()
		case <-tell.C:
			i.complaints.sweep()
		case <-ctx.Done():
			return nil
		}
	}
}

func (i *Ingester) sweep() {
	v := i.fence.view.Load()
	if v == nil {
		return
	}
	i.peers.sweep(func(st ring.Store) bool { _, ok := v.Store(st); return ok })
	known := func(tenant string) bool { _, ok := v.Tenant(tenant); return ok }
	i.metrics.sweep(known)
	i.rates.sweep(known)
}

// begin runs f in a goroutine that Close waits for; false: too late for that.
func (i *Ingester) begin(f func()) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return false
	}
	i.work.Go(f)
	return true
}

// Close ends the streams to the peers and waits for what is being stored. Shares
// that still wait for this node's storage have a moment to begin: nobody needs
// them for a quorum any more, but this node lacks them afterwards. The doors in
// front of it are to be closed first.
func (i *Ingester) Close() {
	defer i.hurry()
	defer time.AfterFunc(i.cfg.CloseWait, i.hurry).Stop()
	i.end()
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	i.peers.close()
	i.work.Wait()
}
