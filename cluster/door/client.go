package door

import (
	"context"
	"fmt"
	"math"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
)

const (
	// A node that came back is needed for quorums at once: the next one may fail a
	// moment later. Looking for one that is away costs a refused connection.
	minBackoff = 100 * time.Millisecond
	maxBackoff = 250 * time.Millisecond

	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 3 * time.Second

	// A share may have megabytes, and a stream must not wait for the window on
	// each of them.
	streamWindow = 4 << 20
	writeBuffer  = 128 << 10 // what one flush may send: a record of TLS has 16 KiB
	connWindow   = 16 << 20

	// maxJoinMessage bounds what somebody without a certificate may send.
	maxJoinMessage = 64 << 10
)

// client is gRPC to one node.
type client struct{ conn *grpc.ClientConn }

func (c *client) close() { _ = c.conn.Close() }

// Dial gives the one long-lived gRPC connection to a node. It connects by itself,
// in the background, and again after a failure, each time at the node's address
// of then. The caller does not close it; calls on it fail after Forget and Close.
func (d *Door) Dial(ctx context.Context, node string) (*grpc.ClientConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("dial %s: %w", node, err)
	}
	if _, ok := d.cfg.Addresses(node); !ok {
		return nil, fmt.Errorf("dial %s: %w", node, ErrNoAddress)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fmt.Errorf("dial %s: %w", node, ErrClosed)
	}
	if c := d.clients[node]; c != nil {
		return c.conn, nil
	}
	conn, err := d.newClient(node, func(ctx context.Context) (net.Conn, error) {
		return d.DialNode(ctx, ProtocolGRPC, node)
	})
	if err != nil {
		return nil, err
	}
	d.clients[node] = &client{conn}
	return conn, nil
}

// DialAddress gives gRPC to a node at an address of the caller's, who closes it:
// for a node that the state does not know (yet) or knows elsewhere.
func (d *Door) DialAddress(node, address string) (*grpc.ClientConn, error) {
	return d.newClient(node, func(ctx context.Context) (net.Conn, error) {
		return d.DialALPN(ctx, ProtocolGRPC, address, node)
	})
}

// Forget closes what Dial keeps for a node.
func (d *Door) Forget(node string) {
	d.mu.Lock()
	c := d.clients[node]
	delete(d.clients, node)
	d.mu.Unlock()
	if c != nil {
		c.close()
	}
}

func (d *Door) newClient(node string, dial func(context.Context) (net.Conn, error)) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+node,
		grpc.WithTransportCredentials(handshaken{}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minBackoff, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxBackoff},
			MinConnectTimeout: d.cfg.HandshakeTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true}),
		grpc.WithWriteBufferSize(writeBuffer),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", node, err)
	}
	return conn, nil
}

// ServerOptions fit a gRPC server for members, over Listener(ProtocolGRPC), to
// what Dial does.
func (d *Door) ServerOptions() []grpc.ServerOption {
	return append(d.baseOptions(),
		grpc.WriteBufferSize(writeBuffer),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connWindow),
		grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.MaxSendMsgSize(math.MaxInt32),
	)
}

// JoinServerOptions fit a gRPC server over Listener(ProtocolJoin): its peers are
// nobody yet and may send little.
func (d *Door) JoinServerOptions() []grpc.ServerOption {
	return append(d.baseOptions(),
		grpc.MaxRecvMsgSize(maxJoinMessage),
		grpc.MaxConcurrentStreams(4),
	)
}

func (d *Door) baseOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		// Stop returns when no handler runs: what is behind them may be closed then.
		grpc.WaitForHandlers(true),
		grpc.Creds(d.ServerCredentials()),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
	}
}
