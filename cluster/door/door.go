package door

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-metrics/muster/cluster/pki"
)

// Identity is who a peer is.
type Identity = pki.Identity

var (
	// ErrNoIdentity is returned while this node belongs to no cluster.
	ErrNoIdentity = errors.New("this node has no certificate: it belongs to no cluster yet")
	// ErrNoAddress is returned for a node whose address is not known.
	ErrNoAddress = errors.New("no address is known of this node")
	// ErrClosed is returned after Close. It is net.ErrClosed too.
	ErrClosed = fmt.Errorf("member door: %w", net.ErrClosed)
)

// Config of a Door. The zero value works; such a door knows no addresses.
type Config struct {
	// Addresses gives the host:port of a node's member door. It is asked for each
	// new connection.
	Addresses func(node string) (address string, ok bool)

	HandshakeTimeout time.Duration // a handshake ends within this. Default 5s.
	MaxHandshakes    int           // handshakes in progress; more connections are closed. Default 128.
	MaxJoins         int           // open connections of join/1, of nodes and of nobody each. Default 32.
	Backlog          int           // connections per protocol that wait for Accept. Default 64.

	Now func() time.Time // the clock that certificates are judged by. Default time.Now.
	Log *slog.Logger
	Reg prometheus.Registerer
}

// Members says why a node may not come in, nil if it may: the committed state
// knows its name, incarnation and the SHA-256 of its public key. An incarnation is
// a revision: a state that lags cannot know a node whose incarnation is above its
// own revision, and must let it in on the CA's word, or it would shut out the
// leader that could tell it.
type Members func(name string, incarnation uint64, keyHash []byte) error

// Door is the member port, both ways: it accepts and it dials.
type Door struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	refusals *refusals

	credentials atomic.Pointer[pki.Credentials]
	members     atomic.Pointer[Members]
	proof       atomic.Pointer[tls.Certificate] // see Expect

	handshakes chan struct{}   // one token per handshake in progress
	life       context.Context // the door's own, from New to Close
	end        context.CancelFunc
	running    sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	socket    net.Listener
	listeners map[string]*listener
	live      map[*Conn]struct{}
	joins     int // of nobody
	greetings int // of nodes with a certificate
	clients   map[string]*client
}

// New keeps cfg; nothing listens yet.
func New(cfg Config) *Door {
	if cfg.Addresses == nil {
		cfg.Addresses = func(string) (string, bool) { return "", false }
	}
	if cfg.HandshakeTimeout <= 0 {
		cfg.HandshakeTimeout = 5 * time.Second
	}
	if cfg.MaxHandshakes <= 0 {
		cfg.MaxHandshakes = 128
	}
	if cfg.MaxJoins <= 0 {
		cfg.MaxJoins = 32
	}
	if cfg.Backlog <= 0 {
		cfg.Backlog = 64
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	life, end := context.WithCancel(context.Background())
	return &Door{
		cfg:        cfg,
		log:        cfg.Log,
		metrics:    newMetrics(cfg.Reg),
		refusals:   newRefusals(cfg.Log),
		handshakes: make(chan struct{}, cfg.MaxHandshakes),
		life:       life,
		end:        end,
		listeners:  map[string]*listener{},
		live:       map[*Conn]struct{}{},
		clients:    map[string]*client{},
	}
}

// Listen binds the port and begins to accept, with or without an identity.
func (d *Door) Listen(address string) error {
	socket, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return fmt.Errorf("open member door: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.socket != nil {
		_ = socket.Close()
		if d.closed {
			return ErrClosed
		}
		return fmt.Errorf("open member door: it is open at %s", d.socket.Addr())
	}
	d.socket = socket
	d.running.Add(1)
	go d.accept(socket)
	return nil
}

// Addr is the bound address; nil before Listen.
func (d *Door) Addr() net.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.socket == nil {
		return nil
	}
	return d.socket.Addr()
}

// Listener gives the connections of one protocol. There is one at a time: while
// it is open the same is returned, after its Close a new one. Connections of a
// protocol without a listener are refused.
func (d *Door) Listener(protocol string) net.Listener {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.listeners[protocol]; l != nil {
		return l
	}
	l := newListener(d, protocol, d.cfg.Backlog)
	if d.closed {
		l.shut()
		return l
	}
	d.listeners[protocol] = l
	return l
}

// SetIdentity gives the door its credentials, from the next handshake on. Open
// connections stay when they are of the same cluster. nil shuts the door.
func (d *Door) SetIdentity(credentials *pki.Credentials) {
	d.credentials.Store(credentials)
	d.Recheck()
}

// Credentials are what SetIdentity gave; nil without.
func (d *Door) Credentials() *pki.Credentials { return d.credentials.Load() }

// SetMembers gives the door its authorisation. Before it, nobody is let in by
// raft/1 and h2, and whoever the CA vouches for may be dialled.
func (d *Door) SetMembers(members Members) {
	d.members.Store(&members)
	d.Recheck()
}

// Recheck closes the connections whose peer the state allows no more, and what
// Dial keeps for nodes without an address. It returns how many it closed.
func (d *Door) Recheck() int {
	d.mu.Lock()
	conns := make([]*Conn, 0, len(d.live))
	for c := range d.live {
		conns = append(conns, c)
	}
	nodes := make([]string, 0, len(d.clients))
	for node := range d.clients {
		nodes = append(nodes, node)
	}
	d.mu.Unlock()

	closed := 0
	for _, c := range conns {
		if err := d.stillAllowed(c); err != nil {
			d.log.Info("member connection closed", "peer", c.peer.Name, "protocol", c.protocol, "reason", err)
			c.drop()
			closed++
		}
	}
	for _, node := range nodes {
		if _, ok := d.cfg.Addresses(node); !ok {
			d.Forget(node)
		}
	}
	return closed
}

// Drop closes all connections of one protocol, accepted or dialled.
func (d *Door) Drop(protocol string) {
	var conns []*Conn
	d.mu.Lock()
	for c := range d.live {
		if c.protocol == protocol {
			conns = append(conns, c)
		}
	}
	d.mu.Unlock()
	for _, c := range conns {
		c.drop()
	}
}

// Close ends every connection, accepted or dialled, and waits for the door's own
// goroutines. It may be called twice.
func (d *Door) Close() {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		d.running.Wait()
		return
	}
	d.closed = true
	d.end()
	socket, listeners, live, clients := d.socket, d.listeners, d.live, d.clients
	d.listeners, d.live, d.clients = map[string]*listener{}, map[*Conn]struct{}{}, map[string]*client{}
	d.mu.Unlock()

	if socket != nil {
		_ = socket.Close()
	}
	for _, c := range clients {
		c.close()
	}
	for c := range live {
		c.drop()
	}
	for _, l := range listeners {
		l.shut()
	}
	d.running.Wait()
}
