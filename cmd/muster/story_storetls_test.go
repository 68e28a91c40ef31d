package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/muster-metrics/muster/cluster/door"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/infopb"
	"github.com/muster-metrics/muster/proto/storepb"
)

// querier is somebody at a store door.
type querier struct {
	conn  *grpc.ClientConn
	store storepb.StoreClient
	info  infopb.InfoClient
}

// atStore knocks at the store door of node i; no pair shows no certificate.
func (b *bed) atStore(i int, pairs ...tls.Certificate) *querier {
	b.t.Helper()
	roots := b.nodes[i].node.door.Credentials().CAs.Pool()
	conn, err := grpc.NewClient("passthrough:///"+b.nodes[i].cfg.GRPC, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: fmt.Sprintf("n%d", i+1), Certificates: pairs,
	})))
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = conn.Close() })
	return &querier{conn, storepb.NewStoreClient(conn), infopb.NewInfoClient(conn)}
}

// tenants are those of whom the store door shows anything, by each of its calls.
func (q *querier) tenants(ctx context.Context) ([]string, error) {
	info, err := q.info.Info(ctx, &infopb.InfoRequest{})
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	see := func(labels []*storepb.Label) {
		for _, l := range labels {
			if l.Name == "tenant_id" {
				seen[l.Value] = true
			}
		}
	}
	for _, set := range info.LabelSets {
		see(set.Labels)
	}
	values, err := q.store.LabelValues(ctx, &storepb.LabelValuesRequest{Label: "tenant_id", End: 1 << 60})
	if err != nil {
		return nil, err
	}
	for _, v := range values.Values {
		seen[v] = true
	}
	series, err := q.store.Series(ctx, &storepb.SeriesRequest{
		MaxTime: 1 << 60, Matchers: []*storepb.LabelMatcher{{Type: storepb.LabelMatcher_RE, Name: "__name__", Value: ".+"}},
	})
	for err == nil {
		var frame *storepb.SeriesResponse
		if frame, err = series.Recv(); err == nil {
			see(frame.GetSeries().GetLabels())
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, err
	}
	var out []string
	for name := range seen {
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}

// refused wants the door shut: no answer, not an empty one.
func (q *querier) refused(t *testing.T, why string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := q.info.Info(ctx, &infopb.InfoRequest{})
	require.Contains(t, []codes.Code{codes.Unavailable, codes.Unauthenticated, codes.PermissionDenied}, status.Code(err), "%s: %v", why, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded, why)
}

// issue makes a certificate as a person would and reads its files.
func (b *bed) issue(i int, args ...string) (tls.Certificate, string) {
	b.t.Helper()
	var made struct {
		Serial string
		Files  map[string]string
	}
	out := b.cli(i, append([]string{"cert", "issue", "-o", "json", "--out", b.dir}, args...)...)
	require.NoError(b.t, json.Unmarshal([]byte(out), &made))
	pair, err := tls.LoadX509KeyPair(made.Files["certificate"], made.Files["key"])
	require.NoError(b.t, err)
	for _, file := range made.Files {
		st, err := os.Stat(file)
		require.NoError(b.t, err)
		require.Equal(b.t, os.FileMode(0o600), st.Mode().Perm(), file)
	}
	return pair, made.Serial
}

func TestTheStoreDoorOpensForReadersAndShowsThemTheirTenants(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1, 1, func(c *nodeConfig) { c.StoreTLS.Mode = "on" })
	b.cli(0, "tenant", "create", "a")
	b.cli(0, "tenant", "create", "b")
	now := time.Now().UnixMilli()
	b.write(0, "a", batch("m", 3, now)...)
	b.write(0, "b", batch("m", 3, now)...)

	everything, all := b.issue(0, "--role", "reader", "thanos")
	bound, _ := b.issue(0, "--role", "reader", "team-a", "--tenant", "a", "--ttl", "1h")
	sees := func(pair tls.Certificate, want ...string) *querier {
		t.Helper()
		q := b.atStore(0, pair)
		got, err := q.tenants(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, got)
		return q
	}
	open := sees(everything, "a", "b")
	mine := sees(bound, "a")
	sees(b.nodes[0].node.door.Credentials().Certificate, "a", "b") // a member

	t.Run("refused", func(t *testing.T) { b.strangersAtTheStoreDoor(t) })
	t.Run("not at the member door", func(t *testing.T) {
		for _, protocol := range []string{door.ProtocolRaft, door.ProtocolGRPC} {
			conn, err := tls.Dial("tcp", b.nodes[0].node.door.Addr().String(), &tls.Config{
				MinVersion: tls.VersionTLS13, NextProtos: []string{protocol}, Certificates: []tls.Certificate{everything},
				RootCAs: b.nodes[0].node.door.Credentials().CAs.Pool(), ServerName: "n1",
			})
			if err == nil { // TLS 1.3 tells the client with its first read
				_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
				_, err = conn.Read(make([]byte, 1))
				_ = conn.Close()
			}
			require.ErrorContains(t, err, "remote error", protocol)
		}
	})

	// What ends a certificate ends its open connections, too.
	b.cli(0, "cert", "revoke", all)
	open.refused(t, "revoked, on an open connection")
	b.atStore(0, everything).refused(t, "revoked")
	b.cli(0, "tenant", "delete", "a")
	mine.refused(t, "its tenant is deleted")
	b.cli(0, "tenant", "create", "a")
	b.atStore(0, bound).refused(t, "another tenant has the name")

	// A key that lies there is not written over.
	_, msg, code := b.try(0, "cert", "issue", "--role", "reader", "thanos", "--out", b.dir)
	require.Equal(t, exitConflict, code, msg)
}

func (b *bed) strangersAtTheStoreDoor(t *testing.T) {
	creds := b.nodes[0].node.door.Credentials()
	ours, err := pki.OpenDir(filepath.Join(b.nodes[0].cfg.DataDir, "pki"))
	require.NoError(t, err)
	ca, err := ours.CA()
	require.NoError(t, err)
	other, err := pki.NewCA(creds.Identity.Cluster, time.Now())
	require.NoError(t, err)
	writer, _ := b.issue(0, "--role", "writer", "agent")
	reader := pki.Identity{Cluster: creds.Identity.Cluster, Role: pki.RoleReader, Name: "thanos"}
	gone := pki.Identity{Cluster: creds.Identity.Cluster, Role: pki.RoleNode, Name: "gone", Incarnation: 3}
	twin := creds.Identity // n1's name and incarnation, another key
	for name, pair := range map[string][]tls.Certificate{
		"no certificate":               nil,
		"a writer":                     {writer},
		"a reader that is not on file": {b.signed(ca, reader, time.Now())},
		"a reader of another CA":       {b.signed(other, reader, time.Now())},
		"one that has run out":         {b.signed(ca, creds.Identity, time.Now().Add(-31*24*time.Hour))},
		"a node that was removed":      {b.signed(ca, gone, time.Now())},
		"a node with another's name":   {b.signed(ca, twin, time.Now())},
	} {
		b.atStore(0, pair...).refused(t, name)
	}
}

// signed is a certificate for a new key.
func (b *bed) signed(ca *pki.CA, id pki.Identity, at time.Time) tls.Certificate {
	b.t.Helper()
	key, err := pki.NewKey()
	require.NoError(b.t, err)
	csr, err := pki.NewRequest(key, id.Name)
	require.NoError(b.t, err)
	req, err := pki.ParseRequest(csr)
	require.NoError(b.t, err)
	chain, err := ca.Sign(req, id, at)
	require.NoError(b.t, err)
	text, err := key.PEM()
	require.NoError(b.t, err)
	pair, err := tls.X509KeyPair(chain, text)
	require.NoError(b.t, err)
	return pair
}

// Own certificates are read again for each handshake, the CA of the queriers
// included.
func TestOwnCertificatesOfTheStoreDoorAreReadAgain(t *testing.T) {
	t.Parallel()
	first, second := newOwnCA(t), newOwnCA(t)
	dir := t.TempDir()
	write := func(ca *pki.CA) tls.Certificate {
		t.Helper()
		server, client := ownPair(t, ca, "n1"), ownPair(t, ca, "querier")
		require.NoError(t, os.WriteFile(filepath.Join(dir, "crt"), server[0], 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "key"), server[1], 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "ca"), ca.Bundle().Roots(), 0o600))
		pair, err := tls.X509KeyPair(client[0], client[1])
		require.NoError(t, err)
		return pair
	}
	old := write(first)
	b := newBed(t, 1, 1, func(c *nodeConfig) {
		c.StoreTLS = storeTLS{Mode: "on", Cert: filepath.Join(dir, "crt"), Key: filepath.Join(dir, "key"), ClientCA: filepath.Join(dir, "ca")}
	})
	knock := func(ca *pki.CA, pair tls.Certificate) error {
		conn, err := grpc.NewClient("passthrough:///"+b.nodes[0].cfg.GRPC, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: ca.Bundle().Pool(), ServerName: "n1", Certificates: []tls.Certificate{pair},
		})))
		require.NoError(t, err)
		defer conn.Close()
		_, err = infopb.NewInfoClient(conn).Info(t.Context(), &infopb.InfoRequest{})
		return err
	}
	require.NoError(t, knock(first, old))
	renewed := write(second)
	require.NoError(t, knock(second, renewed))
	require.Error(t, knock(second, old), "the queriers' old CA")
	require.Error(t, knock(first, renewed), "the door's old CA")
}

func newOwnCA(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA("own", time.Now())
	require.NoError(t, err)
	return ca
}

// ownPair is certificate and key, PEM.
func ownPair(t *testing.T, ca *pki.CA, name string) [2][]byte {
	t.Helper()
	key, err := pki.NewKey()
	require.NoError(t, err)
	csr, err := pki.NewRequest(key, name)
	require.NoError(t, err)
	req, err := pki.ParseRequest(csr)
	require.NoError(t, err)
	chain, err := ca.Sign(req, pki.Identity{Cluster: "own", Role: pki.RoleNode, Name: name}, time.Now(), name)
	require.NoError(t, err)
	text, err := key.PEM()
	require.NoError(t, err)
	return [2][]byte{chain, text}
}
