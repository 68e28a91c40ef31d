package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/thanos-io/objstore"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/api/custody"
	"github.com/muster-metrics/muster/api/prom"
	"github.com/muster-metrics/muster/api/store"
	"github.com/muster-metrics/muster/api/tenancy"
	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/ingest"
	"github.com/muster-metrics/muster/ship"
	"github.com/muster-metrics/muster/tsdb"
)

// nodeConfig is what the flags say.
type nodeConfig struct {
	DataDir, Name, Zone, Advertise string
	Write, HTTP, GRPC, Peer        string
	Bucket                         []byte // Thanos' YAML; empty: nothing is shipped
	BlockDuration, QuorumTimeout   time.Duration
	MaxRequestBytes                int64
	MaxDecodedBytes                int64
	MemoryBudget                   int64 // 0: none
	TenantHeader, WebConfig        string
	StoreTLS                       storeTLS
	Init                           bool
	Join, JoinTokenFile            string
	Version                        string
	Tracing                        *tracingConfig // nil: nothing is traced
	Log                            *slog.Logger
	// Timing is Raft's and the heartbeats'; zero is for production.
	Timing cluster.Timing
	// SettleWait is ingest's: how long the table before a change is written by.
	SettleWait time.Duration
	// LetGo is when moved series leave the memory; zero is for production.
	LetGo letGoConfig
}

// node is all rooms of one process, from the ground up.
//
//	folder ─ ledger, bucket ─ tsdb ─┐
//	member door ─ cluster ──────────┼─ ingest ─┐
//	                                └─ api ────┴─ doors
type node struct {
	cfg    nodeConfig
	log    *slog.Logger
	reg    *prometheus.Registry
	folder *folder

	bucket  objstore.Bucket
	ledger  *ship.Ledger
	shipper *ship.Shipper
	tsdb    *tsdb.DB
	adopted *tsdb.Adopted
	taker   *custody.Taker
	leaver  *custody.Leaver
	letGo   *letGo
	door    *door.Door
	cluster *cluster.Node
	ingest  *ingest.Ingester
	reader  *prom.Reader
	prom    *prom.API
	tenancy *tenancy.Tenancy
	store   *store.Server
	ready   *readiness
	quotas  *quotas
	views   *views
	tracing *tracing

	writeDoor, operatorDoor *http.Server
	// current is set once a leader has confirmed the state after the start.
	current               atomic.Bool
	listeners             map[string]net.Listener
	storeDoor, memberDoor *grpc.Server
}

// newNode makes the rooms; nothing runs yet. It takes the lock of the folder.
func newNode(cfg nodeConfig) (*node, error) {
	f, err := openFolder(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	n := &node{cfg: cfg, log: cfg.Log, folder: f, reg: prometheus.NewRegistry(), listeners: map[string]net.Listener{}}
	n.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	n.ready = &readiness{node: n}
	if err := errors.Join(n.newStorage(), n.newCluster()); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	n.newAPI()
	n.newDoors()
	n.reg.MustRegister(newRingMetrics(n))
	return n, nil
}

// newStorage makes what touches the disk and the bucket.
func (n *node) newStorage() (err error) {
	if n.ledger, err = ship.OpenLedger(n.folder.join("ledger")); err != nil {
		return err
	}
	n.quotas = newQuotas(n.folder.store, func() *cluster.State { return n.cluster.State() }, n.clusterTime)
	n.reg.MustRegister(limitUses{n})
	n.tsdb = tsdb.New(tsdb.Config{
		Dir: n.folder.join("tenants"), BlockDuration: n.cfg.BlockDuration, Ledger: n.ledger, Ship: len(n.cfg.Bucket) > 0,
		Quota: n.quotas.of, Place: placeOf,
		Log: n.log.With("room", "tsdb"), Reg: n.reg,
	})
	n.adopted = tsdb.NewAdopted(tsdb.Config{Dir: n.folder.join("adopted"), Log: n.log.With("room", "tsdb"), Reg: n.reg})
	if len(n.cfg.Bucket) == 0 {
		return nil
	}
	log := n.log.With("room", "ship")
	if n.bucket, err = ship.OpenBucket(n.cfg.Bucket, log, n.reg); err != nil {
		return err
	}
	n.shipper = ship.New(ship.Config{
		Bucket: n.bucket, Ledger: n.ledger, Sources: n.sources, Confirm: n.stillLives, Every: ship.Every(n.cfg.BlockDuration), Log: log, Reg: n.reg,
	})
	return nil
}

// sources are the tenants whose blocks leave this disk, under their labels:
// none before this node has heard, since its start, which tenants still live.
func (n *node) sources() []ship.Source {
	if !n.current.Load() {
		return nil
	}
	st := n.cluster.State()
	settings := st.Settings()
	var out []ship.Source
	for _, key := range n.tsdb.Keys() {
		if t := st.Tenant(key.Tenant); t == nil || t.GetIncarnation() != key.Incarnation {
			continue
		}
		out = append(out, ship.Source{
			Tenant: key.Tenant, Incarnation: key.Incarnation, Dir: n.tsdb.Path(key),
			Labels: labels.FromStrings(settings.GetTenantLabel(), key.Tenant, settings.GetReplicaLabel(), n.cfg.Name),
		})
	}
	return out
}

// newCluster makes the member door, this node's place in the cluster, and the
// write path, which hears of each change.
func (n *node) newCluster() (err error) {
	log := n.log.With("room", "cluster")
	n.door = door.New(door.Config{
		Addresses: func(name string) (string, bool) { return n.cluster.AddressOf(name) },
		Log:       log, Reg: n.reg,
	})
	var kept cluster.Shelf
	if n.bucket != nil {
		kept = shelf{n.bucket}
	}
	n.cluster, err = cluster.New(cluster.Config{
		Shelf: kept,
		Dir:   n.folder.path, Name: n.cfg.Name, Zone: n.cfg.Zone, StoreID: n.folder.store, Door: n.door,
		Advertise:    n.advertised("peer"),
		Hint:         n.cfg.Join,
		HTTPAddress:  n.advertised("http"),
		WriteAddress: n.advertised("write"),
		StoreAddress: n.advertised("grpc"),
		Local:        localReport{n}, Log: log, Reg: n.reg, Version: n.cfg.Version, Timing: n.cfg.Timing,
	})
	if err != nil {
		return err
	}
	if n.tracing, err = newTracing(n.cfg.Tracing, n.cfg.Name, n.cfg.Version, n.log); err != nil {
		return fmt.Errorf("--tracing.config: %w", err)
	}
	n.views = newViews(n.folder.store, n.cluster.ClockOffset, n.ready.refusesWrites)
	n.ingest = ingest.New(ingest.Config{
		MaxRequestBytes: n.cfg.MaxRequestBytes, MaxDecodedBytes: n.cfg.MaxDecodedBytes, QuorumTimeout: n.cfg.QuorumTimeout, Tracer: n.tracing.tracer(),
		MemoryBudget: n.cfg.MemoryBudget, SettleWait: n.cfg.SettleWait, Settled: n.cluster.Announced,
	}, storage{n.tsdb}, n.door, ensurer{n.cluster, n.cfg.Name}, n.log.With("room", "ingest"), n.reg)
	n.cluster.OnChange(n.changed)
	return nil
}

// newAPI makes what the doors serve besides writes.
func (n *node) newAPI() {
	log := n.log.With("room", "api")
	n.reader = prom.NewReader(n.folder.store, n.cluster.State, n.tsdb, log)
	n.newCustody()
	n.letGo = n.newLetGo()
	n.reader.Keep(n.taker)
	n.prom = prom.New(prom.Config{
		Self: n.cfg.Name, Local: n.reader, State: n.cluster.State, Dial: n.door.Dial, ReadPoint: n.cluster.Barrier,
		Version: n.cfg.Version, Log: log, Reg: n.reg,
	})
	n.store = store.New(store.Config{
		Node: n.cfg.Name, State: n.cluster.State, Ready: n.ready.err, TenantOf: boundTenant, Kept: n.taker,
	}, n.tsdb, log, n.reg)
	n.tenancy = tenancy.New(n.cluster.State, tenancy.Config{TenantHeader: n.cfg.TenantHeader, Refused: n.ingest.Refused, Reg: n.reg})
}

// changed hands a new state to the rooms. tsdb knows a tenant before the write
// path may ask for it.
func (n *node) changed(c cluster.Change) {
	n.tsdb.SetTenants(tenantChanges(c))
	n.ingest.SetView(n.views.of(c.New))
}

// clusterTime is the members' common time.
func (n *node) clusterTime() time.Time { return time.Now().Add(-n.cluster.ClockOffset()) }

// advertised is how the others reach a door of this node.
func (n *node) advertised(door string) func() string {
	return func() string {
		l := n.listeners[door]
		if door == "peer" {
			return n.withPort(n.door.Addr())
		}
		if l == nil {
			return ""
		}
		return n.withPort(l.Addr())
	}
}

func (n *node) withPort(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return ""
	}
	return net.JoinHostPort(n.cfg.Advertise, strconv.Itoa(tcp.Port))
}

// Open binds the doors and takes the place that this node had. It waits for no
// other node, and not for the tenants' logs.
func (n *node) Open(ctx context.Context) error {
	if err := n.bind(ctx); err != nil {
		return err
	}
	bound := n.addresses()
	if err := n.folder.saveAddresses(bound); err != nil {
		return err
	}
	if err := n.adopted.Open(); err != nil {
		return err
	}
	if err := n.cluster.Open(ctx); err != nil {
		return err
	}
	n.log.Info("node opened", "node", n.cfg.Name, "version", n.cfg.Version, "data", n.folder.path,
		"write", bound.Write, "http", bound.HTTP, "grpc", bound.GRPC, "peer", bound.Peer)
	if n.cluster.State().Cluster() == nil && !n.cfg.Init && n.cfg.Join == "" {
		n.log.Info("this node belongs to no cluster yet: it waits for init or join, writes get 503", "next", "muster cluster init, or muster cluster join --token T HOST:PORT")
	}
	return nil
}

// Run serves until ctx ends: then the doors close and drain first, and the
// rooms behind them end after that.
func (n *node) Run(ctx context.Context) error {
	rooms, endRooms := context.WithCancel(context.WithoutCancel(ctx))
	defer endRooms()
	g, doors := errgroup.WithContext(ctx)
	n.serveDoors(g)
	g.Go(func() error { return n.openTenants(doors) })
	g.Go(func() error { return n.form(doors) })
	behind, roomsCtx := errgroup.WithContext(rooms)
	behind.Go(func() error { return n.cluster.Run(roomsCtx) })
	behind.Go(func() error { return n.tsdb.Run(roomsCtx) })
	behind.Go(func() error { return n.ingest.Run(roomsCtx) })
	behind.Go(func() error { return n.taker.Run(roomsCtx) })
	behind.Go(func() error { return n.leaver.Run(roomsCtx) })
	behind.Go(func() error { return n.letGo.Run(roomsCtx) })
	behind.Go(func() error { n.awaitCurrent(roomsCtx); return nil })
	if n.shipper != nil {
		behind.Go(func() error { return n.shipper.Run(roomsCtx) })
	}
	g.Go(func() error {
		// A room that fails takes the doors along.
		select {
		case <-roomsCtx.Done():
			return errRoomEnded
		case <-doors.Done():
			return nil
		}
	})
	<-doors.Done()
	n.ready.setDraining()
	n.closeDoors()
	err := g.Wait()
	endRooms()
	if roomErr := behind.Wait(); roomErr != nil {
		return errors.Join(roomErr, ignore(err, errRoomEnded))
	}
	return err
}

// awaitCurrent asks for a read point until there is one, and says what it waits
// for where that takes long.
func (n *node) awaitCurrent(ctx context.Context) {
	told := ""
	for {
		_, err := n.cluster.Barrier(ctx)
		if err == nil {
			n.current.Store(true)
			n.removeDead()
			if told != "" {
				n.log.Info("a leader has confirmed this node's state", "revision", n.cluster.State().Revision())
			}
			return
		}
		var alone *cluster.NoLeaderError
		if errors.As(err, &alone) && alone.Error() != told {
			told = alone.Error()
			n.log.Warn("waiting for a leader; samples are taken and read meanwhile, nothing can be changed",
				"revision", alone.Revision, "err", told, "next", alone.Next())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

var errRoomEnded = errors.New("a room ended")

func ignore(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}

// openTenants replays the logs; the node answers meanwhile, and is not ready.
func (n *node) openTenants(ctx context.Context) error {
	began := time.Now()
	if err := n.tsdb.Open(ctx); err != nil {
		return unlessEnded(ctx, fmt.Errorf("open the tenants: %w", err))
	}
	n.ready.setReplayed()
	n.log.Info("tenants opened", "tenants", len(n.tsdb.Keys()), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// unlessEnded leaves out what fails because this node was told to stop.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // that it was told to stop is no failure
	}
	return err
}

// Close undoes what newNode and Open did, from the doors down.
func (n *node) Close() error {
	for _, l := range n.listeners {
		l.Close()
	}
	var errs []error
	if n.cluster != nil {
		errs = append(errs, n.cluster.Close())
	}
	if n.door != nil {
		n.door.Close()
	}
	if n.ingest != nil {
		n.ingest.Close()
	}
	n.tracing.close()
	if n.tsdb != nil {
		errs = append(errs, n.tsdb.Close())
	}
	if n.adopted != nil {
		errs = append(errs, n.adopted.Close())
	}
	if n.bucket != nil {
		errs = append(errs, n.bucket.Close())
	}
	if n.ledger != nil {
		errs = append(errs, n.ledger.Close())
	}
	n.folder.Close()
	return errors.Join(errs...)
}
