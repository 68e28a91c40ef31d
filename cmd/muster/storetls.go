package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// storeTLS is how the store door protects itself.
type storeTLS struct {
	Mode                string // on or off
	Cert, Key, ClientCA string
}

func (s storeTLS) validate() error {
	own := s.Cert != "" || s.Key != "" || s.ClientCA != ""
	switch {
	case s.Mode != "on" && s.Mode != "off":
		return fmt.Errorf("--grpc.tls %q: want on or off", s.Mode)
	case s.Mode == "off" && own:
		return errors.New("--grpc.tls=off and own certificates: want one of them")
	case own && (s.Cert == "" || s.Key == "" || s.ClientCA == ""):
		return errors.New("--grpc.tls-cert, --grpc.tls-key and --grpc.tls-client-ca: want all three")
	}
	return nil
}

// options are the server's: the cluster's certificates, own ones, or none.
func (s storeTLS) options(own func() *pki.Credentials, state func() *cluster.State, log *slog.Logger) ([]grpc.ServerOption, error) {
	switch {
	case s.Mode == "off":
		return nil, nil
	case s.Cert != "":
		if _, err := s.files(); err != nil {
			return nil, err
		}
		conf := &tls.Config{
			MinVersion:         tls.VersionTLS12,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.files() },
		}
		return []grpc.ServerOption{grpc.Creds(credentials.NewTLS(conf))}, nil
	}
	g := &storeGuard{own: own, state: state, log: log}
	conf := clusterTLS(own)
	conf.ClientAuth = tls.RequireAnyClientCert
	conf.VerifyConnection = g.welcome
	conf.SessionTicketsDisabled = true // each connection is judged by the state of its own time
	return []grpc.ServerOption{
		grpc.Creds(credentials.NewTLS(conf)),
		grpc.ChainUnaryInterceptor(g.unary), grpc.ChainStreamInterceptor(g.stream),
	}, nil
}

// files reads the operator's own certificates; they are read again for each
// handshake, so that they can be renewed in place.
func (s storeTLS) files() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(s.Cert, s.Key)
	if err != nil {
		return nil, fmt.Errorf("store door: %w", err)
	}
	pem, err := os.ReadFile(s.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("store door: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("store door: %s holds no certificate", s.ClientCA)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{pair},
		ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, SessionTicketsDisabled: true,
	}, nil
}

// clusterTLS shows the node's certificate of the cluster, as it is at the time
// of the handshake.
func clusterTLS(own func() *pki.Credentials) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c := own()
			if c == nil {
				return nil, errNoCluster
			}
			return &c.Certificate, nil
		},
	}
}

var errNoCluster = errors.New("this node has no certificate: it belongs to no cluster yet")

// refusedEvery is how often the store door tells of a refusal for one reason.
const refusedEvery = 10 * time.Second

// storeGuard lets in who has a certificate of the cluster as a reader or a writer,
// or as a node that is a member. It asks again with each call: a certificate that was
// revoked meanwhile, or has run out, ends open connections too.
type storeGuard struct {
	own   func() *pki.Credentials
	state func() *cluster.State
	log   *slog.Logger

	mu   sync.Mutex
	told time.Time
}

// welcome judges a handshake. The other side hears of "bad certificate" only, so
// the reason is told here.
func (g *storeGuard) welcome(cs tls.ConnectionState) error {
	_, err := g.judge(cs.PeerCertificates, time.Now())
	if err != nil {
		g.tell(err)
	}
	return err
}

func (g *storeGuard) judge(chain []*x509.Certificate, now time.Time) (pki.Identity, error) {
	own := g.own()
	if own == nil {
		return pki.Identity{}, errNoCluster
	}
	id, err := own.CAs.Verify(chain, x509.ExtKeyUsageClientAuth, now)
	if err != nil {
		return id, err
	}
	leaf := chain[0]
	if id.Cluster != own.Identity.Cluster {
		return id, fmt.Errorf("the certificate is of cluster %s, this is %s", id.Cluster, own.Identity.Cluster)
	}
	return id, g.state().Vouches(id, pki.SerialText(leaf.SerialNumber), pki.KeyHash(leaf))
}

// allowed says whether a role may make a call. A writer knows whether this node is
// well, and not what it holds.
func allowed(role, method string) error {
	writes := strings.HasPrefix(method, "/thanos.WriteableStore/")
	reads := strings.HasPrefix(method, "/thanos.") && !writes
	switch {
	case writes && role != pki.RoleWriter:
		return fmt.Errorf("the certificate has the role %s, which may not write: `muster cert issue --role writer` makes another", role)
	case reads && role == pki.RoleWriter:
		return fmt.Errorf("the certificate has the role %s, which may not read: `muster cert issue --role reader` makes another", role)
	}
	return nil
}

// still judges a call on a connection that was let in.
func (g *storeGuard) still(ctx context.Context, method string) error {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return status.Error(codes.Unauthenticated, "no certificate")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return status.Error(codes.Unauthenticated, "no certificate")
	}
	id, err := g.judge(info.State.PeerCertificates, time.Now())
	if err != nil {
		g.tell(err)
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if err := allowed(id.Role, method); err != nil {
		g.tell(err)
		return status.Error(codes.PermissionDenied, err.Error())
	}
	return nil
}

func (g *storeGuard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := g.still(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (g *storeGuard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := g.still(ss.Context(), info.FullMethod); err != nil {
		return err
	}
	return next(srv, ss)
}

// tell writes a line now and then: somebody may knock a thousand times a second.
func (g *storeGuard) tell(err error) {
	g.mu.Lock()
	now := time.Now()
	silent := now.Sub(g.told) < refusedEvery
	if !silent {
		g.told = now
	}
	g.mu.Unlock()
	if !silent {
		g.log.Warn("store door refused a caller", "reason", err)
	}
}

// mayForward says why a caller of the store door may not write for a tenant. A
// certificate of the cluster says it by itself. Without one, by --grpc.tls=off or the
// operator's own certificates, a caller may do what the write door lets anybody do:
// name a tenant, where tenants have no credentials.
func (n *node) mayForward(ctx context.Context, tenant string) error {
	if n.cfg.StoreTLS.Mode != "off" && n.cfg.StoreTLS.Cert == "" {
		if bound, ok := boundTenant(ctx); ok && bound != tenant {
			return fmt.Errorf("the certificate writes for tenant %s, not for %q", bound, tenant)
		}
		return nil
	}
	if n.cluster.State().Settings().GetTenantAuth() != clusterpb.TenantAuth_AUTH_HEADER {
		return errors.New("tenants have credentials here: forward with a certificate of the cluster (`muster cert issue --role writer`), with --grpc.tls=on")
	}
	return nil
}

// boundTenant is the tenant that a reader's or writer's certificate is bound to.
func boundTenant(ctx context.Context) (string, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return "", false
	}
	id, err := pki.IdentityOf(info.State.PeerCertificates[0])
	if err != nil || id.Tenant == "" {
		return "", false
	}
	return id.Tenant, true
}
