package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/muster-metrics/muster/cluster/pki"
)

const socketName = "muster.sock"

// dataDir is the one rule that server and commands share.
func dataDir(c *cli.Context) string {
	if d := c.String("data-dir"); d != "" {
		return d
	}
	if st, err := os.Stat("/var/lib/muster"); err == nil && st.IsDir() {
		return "/var/lib/muster"
	}
	return "data"
}

// client speaks the admin API to one node.
type client struct {
	http  *http.Client
	base  string
	token string
	where string // for errors: the socket or the address
}

// newClient takes the socket in the data folder, or --server.
func newClient(c *cli.Context) (*client, error) {
	if s := c.String("server"); s != "" {
		return remoteClient(c, s)
	}
	socket := filepath.Join(dataDir(c), socketName)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &client{
		http:  &http.Client{Transport: &http.Transport{DialContext: dial}},
		base:  "http://muster",
		where: socket,
	}, nil
}

// remoteClient takes an https address and a token that names the cluster's CA.
func remoteClient(c *cli.Context, server string) (*client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, usageError(fmt.Errorf("--server %q: want https://host:10902", server))
	}
	file := c.String("token-file")
	if file == "" {
		return nil, usageError(errors.New("--server wants --token-file with an operator token"))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca := c.String("ca-file"); ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("read the CA certificates: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
	} else if err := trustTokenCA(conf, token); err != nil {
		return nil, err
	}
	return &client{
		http:  &http.Client{Transport: &http.Transport{TLSClientConfig: conf}},
		base:  strings.TrimSuffix(server, "/"),
		token: token,
		where: server,
	}, nil
}

// trustTokenCA trusts the CA whose hash the token carries, and no other.
func trustTokenCA(conf *tls.Config, text string) error {
	token, err := pki.ParseClusterToken(text)
	if err != nil {
		return fmt.Errorf("the token: %w", err)
	}
	conf.InsecureSkipVerify = true // VerifyConnection judges the chain by the token's CA
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		for _, cert := range cs.PeerCertificates {
			if cert.IsCA && pki.FingerprintOf(cert) == token.CA {
				_, err := pki.NewBundle(cert).Verify(cs.PeerCertificates, x509.ExtKeyUsageServerAuth, time.Now())
				return err
			}
		}
		return errors.New("the server is not of the cluster that the token belongs to, or the cluster's CA was replaced since the token was made; where it has a certificate of its own, name its CA with --ca-file")
	}
	return nil
}

// request is one call of the admin API.
type request struct {
	method, path string
	query        url.Values
	body         any
	stream       io.Reader // an archive as the body, instead of one
	ifVersion    *int64    // If-Match
	dryRun       bool
	id           string // Muster-Request-Id, of a change that has one
}

// do sends the request and decodes the answer into out (nil: not wanted).
func (cl *client) do(ctx context.Context, r request, out any) error {
	raw, _, err := cl.raw(ctx, r)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("read the answer of %s: %w", cl.where, err)
	}
	return nil
}

// raw sends the request and returns the body and headers of a 2xx answer. A
// change with an id is repeated until its outcome is known.
func (cl *client) raw(ctx context.Context, r request) ([]byte, http.Header, error) {
	if r.id != "" && !r.dryRun && r.stream == nil {
		return cl.repeat(ctx, r)
	}
	var body bytes.Buffer
	header, err := cl.copy(ctx, r, &body)
	return body.Bytes(), header, err
}

// maxAnswer bounds an answer in bytes.
const maxAnswer = 1 << 30

// copy sends the request and copies the body of a 2xx answer to w; that of
// another is in the error.
func (cl *client) copy(ctx context.Context, r request, w io.Writer) (http.Header, error) {
	req, err := cl.build(ctx, r)
	if err != nil {
		return nil, err
	}
	var sent atomic.Bool
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}))
	resp, err := cl.http.Do(req)
	if err != nil {
		f := cl.unreachable(err)
		f.sent = sent.Load()
		return nil, f
	}
	defer resp.Body.Close()
	in := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode/100 != 2 {
		body, err := io.ReadAll(in)
		if err != nil {
			return nil, fmt.Errorf("read the answer of %s: %w", cl.where, err)
		}
		return resp.Header, refusal(resp.StatusCode, body)
	}
	if _, err := io.Copy(w, in); err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", cl.where, err)
	}
	return resp.Header, nil
}

func (cl *client) build(ctx context.Context, r request) (*http.Request, error) {
	body := r.stream
	if r.body != nil {
		b, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	q := r.query
	if r.dryRun {
		if q == nil {
			q = url.Values{}
		}
		q.Set("dry_run", "true")
	}
	u := cl.base + r.path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, body)
	if err != nil {
		return nil, err
	}
	switch {
	case r.stream != nil:
		req.Header.Set("Content-Type", "application/vnd.muster.snapshot")
	case r.body != nil:
		req.Header.Set("Content-Type", "application/json")
	}
	if cl.token != "" {
		req.Header.Set("Authorization", "Bearer "+cl.token)
	}
	if r.id != "" {
		req.Header.Set("Muster-Request-Id", r.id)
	}
	if r.ifVersion != nil {
		req.Header.Set("If-Match", strconv.Quote(strconv.FormatInt(*r.ifVersion, 10)))
	}
	return req, nil
}

// unreachable says why there is no answer, and what helps against that.
func (cl *client) unreachable(err error) *failure {
	f := &failure{Code: exitFailed, cause: err, Text: fmt.Sprintf("no server answers at %s: %v", cl.where, rootCause(err))}
	switch {
	case errors.Is(err, context.Canceled):
		f.Text = "interrupted; what was asked may go on"
	case errors.Is(err, context.DeadlineExceeded):
		f.Text = fmt.Sprintf("%s has not answered in time; what was asked may go on", cl.where)
		f.Next = "look with `muster cluster status`"
	case errors.Is(err, fs.ErrPermission):
		f.Code, f.Next = exitDenied, "run this as the user that the server runs as, or use --server with a token"
	case cl.token != "":
		f.Next = "look whether the node runs, and whether this is its operator door (--http.address)"
	default:
		f.Next = "start it with `muster server`, or name its folder with --data-dir"
	}
	return f
}

// rootCause leaves out the URL that net/http puts in front.
func rootCause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// refusal turns an answer that is not 2xx into an error with the exit code of
// its status.
func refusal(status int, body []byte) error {
	f := &failure{Code: exitFailed, status: status}
	if err := json.Unmarshal(body, f); err != nil || f.Text == "" {
		f.Text = strings.TrimSpace(string(body))
	}
	if f.Text == "" {
		f.Text = http.StatusText(status)
	}
	if f.Field != "" && status == http.StatusBadRequest {
		f.Text = fmt.Sprintf("%s (field %s)", f.Text, f.Field)
	}
	switch status {
	case http.StatusBadRequest:
		f.Code = exitUsage
	case http.StatusConflict, http.StatusPreconditionFailed:
		f.Code = exitConflict
	case http.StatusUnauthorized, http.StatusForbidden:
		f.Code = exitDenied
	case http.StatusServiceUnavailable:
		if f.Voters != nil {
			f.Code = exitNoLeader
		}
	}
	return f
}

// commandTimeout bounds every command that is not told another time.
const commandTimeout = 2 * time.Minute
