package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/api/admin"
	"github.com/muster-metrics/muster/cluster/door"
)

// drainTime is how long a closing door lets the requests under way end.
const drainTime = 15 * time.Second

// newDoors makes the servers of the doors, without a port yet.
func (n *node) newDoors() {
	n.writeDoor = n.newServer(n.writeRoutes())
	n.operatorDoor = n.newServer(n.operatorRoutes())
	n.operatorDoor.ConnContext = admin.ConnContext
	n.memberDoor = grpc.NewServer(n.door.ServerOptions()...)
	n.cluster.RegisterControl(n.memberDoor)
	n.ingest.RegisterReplication(n.memberDoor)
	n.reader.Register(n.memberDoor)
	n.taker.Register(n.memberDoor)
}

func (n *node) newServer(h http.Handler) *http.Server {
	return &http.Server{
		// Handshakes that fail, mostly: whoever cares asks for them.
		ErrorLog:          slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
	}
}

// bind takes the ports and the socket.
func (n *node) bind(ctx context.Context) error {
	var lc net.ListenConfig
	for name, address := range map[string]string{"write": n.cfg.Write, "http": n.cfg.HTTP, "grpc": n.cfg.GRPC} {
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("%s door: %w", doorNames[name], err)
		}
		n.listeners[name] = l
	}
	if err := n.door.Listen(n.cfg.Peer); err != nil {
		return fmt.Errorf("member door: %w", err)
	}
	if err := n.wrapTLS(); err != nil {
		return err
	}
	opts, err := n.cfg.StoreTLS.options(n.door.Credentials, n.cluster.State, n.log)
	if err != nil {
		return err
	}
	n.storeDoor = n.newStoreDoor(opts)
	return n.bindSocket(ctx)
}

var doorNames = map[string]string{"write": "write", "http": "operator", "grpc": "store"}

// bindSocket takes the socket of the local operator. One that a killed process
// has left is replaced: the folder's lock says that nobody serves it.
func (n *node) bindSocket(ctx context.Context) error {
	path := n.folder.join(socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("socket: %w (a socket's path may have 107 bytes; a shorter --data-dir helps)", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return err
	}
	n.listeners["socket"] = l
	return nil
}

// wrapTLS lets the operator door speak TLS and plain HTTP, and the write door
// TLS where --web.config.file asks for it.
func (n *node) wrapTLS() error {
	conf := clusterTLS(n.door.Credentials)
	if n.cfg.WebConfig != "" {
		own, err := webTLS(n.cfg.WebConfig)
		if err != nil {
			return err
		}
		conf = own
		n.listeners["write"] = tls.NewListener(n.listeners["write"], own)
	}
	n.listeners["http"] = listenEither(n.listeners["http"], conf)
	return nil
}

func (n *node) addresses() addresses {
	return addresses{
		Node: n.cfg.Name, Write: n.listeners["write"].Addr().String(), HTTP: n.listeners["http"].Addr().String(),
		GRPC: n.listeners["grpc"].Addr().String(), Peer: n.door.Addr().String(),
	}
}

// serveDoors serves them all until they are closed.
func (n *node) serveDoors(g *errgroup.Group) {
	for name, s := range map[string]*http.Server{"write": n.writeDoor, "http": n.operatorDoor, "socket": n.operatorDoor} {
		g.Go(func() error {
			if err := s.Serve(n.listeners[name]); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("%s door: %w", name, err)
			}
			return nil
		})
	}
	g.Go(func() error { return n.storeDoor.Serve(n.listeners["grpc"]) })
	g.Go(func() error {
		if err := n.memberDoor.Serve(n.door.Listener(door.ProtocolGRPC)); !errors.Is(err, door.ErrClosed) {
			return err
		}
		return nil
	})
}

// closeDoors lets nobody in any more and waits for those inside.
func (n *node) closeDoors() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	var g errgroup.Group
	for _, s := range []*http.Server{n.writeDoor, n.operatorDoor} {
		g.Go(func() error {
			if err := s.Shutdown(ctx); err != nil {
				return s.Close()
			}
			return nil
		})
	}
	g.Go(func() error { stopGracefully(ctx, n.storeDoor); return nil })
	if err := g.Wait(); err != nil {
		n.log.Warn("a door did not close in time", "err", err)
	}
	// The members' streams live as long as the members do: they are cut once
	// this node's own writes have ended.
	n.memberDoor.Stop()
}

func stopGracefully(ctx context.Context, s *grpc.Server) {
	done := make(chan struct{})
	go func() {
		s.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.Stop()
		<-done
	}
}
