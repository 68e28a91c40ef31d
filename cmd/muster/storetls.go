package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cluster/pki"
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
func (s storeTLS) options(own func() *pki.Credentials, state func() *cluster.State) ([]grpc.ServerOption, error) {
	if s.Mode == "off" {
		return nil, nil
	}
	var conf *tls.Config
	if s.Cert != "" {
		var err error
		if conf, err = s.files(); err != nil {
			return nil, err
		}
	} else {
		conf = clusterTLS(own)
		conf.ClientAuth = tls.RequireAnyClientCert
		conf.VerifyConnection = func(cs tls.ConnectionState) error { return judgeReader(cs, own(), state()) }
	}
	return []grpc.ServerOption{grpc.Creds(credentials.NewTLS(conf))}, nil
}

// files reads the operator's own certificates; they are read again for each
// handshake, so that they can be renewed in place.
func (s storeTLS) files() (*tls.Config, error) {
	load := func() (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(s.Cert, s.Key)
		return &c, err
	}
	if _, err := load(); err != nil {
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
		MinVersion: tls.VersionTLS12, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load() },
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
				return nil, errors.New("this node has no certificate: it belongs to no cluster yet")
			}
			return &c.Certificate, nil
		},
	}
}

// judgeReader lets in who has a certificate of the cluster as a reader, or as a
// node that is a member.
func judgeReader(cs tls.ConnectionState, own *pki.Credentials, st *cluster.State) error {
	if own == nil {
		return errors.New("this node belongs to no cluster yet")
	}
	id, err := own.CAs.Verify(cs.PeerCertificates, x509.ExtKeyUsageClientAuth, time.Now())
	if err != nil {
		return err
	}
	switch id.Role {
	case pki.RoleReader:
		return nil
	case pki.RoleNode:
		if m := st.Member(id.Name); m != nil && m.GetIncarnation() == id.Incarnation {
			return nil
		}
		return fmt.Errorf("node %s is not a member", id.Name)
	default:
		return fmt.Errorf("role %s may not read", id.Role)
	}
}

// boundTenant is the tenant that a reader's certificate is bound to.
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
