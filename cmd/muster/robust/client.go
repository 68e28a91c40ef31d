package robust

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/muster-metrics/muster/cmd/muster/fleet"
)

// client speaks the admin API to one node over its socket. It sends a request
// once: what becomes of one that is not answered is the question here.
type client struct {
	node *fleet.Node
	http http.Client
}

func newClient(n *fleet.Node) *client {
	socket := filepath.Join(n.Dir, "muster.sock")
	return &client{node: n, http: http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// answer of a node; err: there is none, and sent says whether there could have
// been one.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error
	sent   bool
}

func (c *client) do(ctx context.Context, method, path string, header map[string]string, body any) answer {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return answer{err: err}
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://muster/api/v1"+path, bytes.NewReader(text))
	if err != nil {
		return answer{err: err}
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var dial *net.OpError
		return answer{err: err, sent: !errors.As(err, &dial) || dial.Op != "dial"}
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, text, err, true}
}

// refusesSurely says whether the answer promises that nothing was done: no node
// leads, and the node says who is missing.
func (a answer) refusesSurely() bool {
	var p struct {
		Voters json.RawMessage `json:"voters"`
	}
	return a.status == http.StatusServiceUnavailable && json.Unmarshal(a.body, &p) == nil && p.Voters != nil
}

// isRemoved says whether the node answers that it is a member no more.
func (a answer) isRemoved() bool {
	return a.status == http.StatusForbidden && bytes.Contains(a.body, []byte("was removed from cluster"))
}

func (a answer) revision() uint64 {
	n, _ := strconv.ParseUint(a.header.Get("Muster-Revision"), 10, 64)
	return n
}

// tenantBody is what the calls write and read of a tenant: a value in a limit.
type tenantBody struct {
	Limits struct {
		Burst int64 `json:"burst_samples"`
	} `json:"limits"`
	Version uint64 `json:"version,omitempty"`
}

// read asks for a tenant. consistency is "" or "local".
func (c *client) read(ctx context.Context, h *History, id, consistency string) Op {
	op := Op{Node: c.node.Name, Tenant: id, Kind: Read, Outcome: Unknown, Call: h.Now()}
	path := "/tenants/" + id
	if consistency != "" {
		path += "?consistency=" + consistency
	}
	a := c.do(ctx, http.MethodGet, path, nil, nil)
	op.Return = h.Now()
	switch {
	case a.err != nil || a.status >= 500 || a.isRemoved():
		return op
	case a.status == http.StatusOK:
		var t tenantBody
		if err := json.Unmarshal(a.body, &t); err != nil {
			h.Odd("%v: %v", op, err)
			return op
		}
		op.Outcome, op.Value, op.Version, op.Revision = OK, t.Limits.Burst, t.Version, a.revision()
	case a.status == http.StatusNotFound:
		// The revision of an answer that there is nothing is not told.
		op.Outcome, op.Revision = OK, a.revision()
	default:
		h.Odd("%v: %d %s", op, a.status, a.body)
	}
	return op
}

// change puts or deletes a tenant and says whether anything may have been done.
func (c *client) change(ctx context.Context, h *History, op Op) (Op, bool) {
	op.Node, op.Outcome = c.node.Name, Unknown
	header := map[string]string{}
	switch {
	case op.Expect.Any:
	case op.Expect.Version == 0:
		header["If-None-Match"] = "*"
	default:
		header["If-Match"] = strconv.Quote(strconv.FormatUint(op.Expect.Version, 10))
	}
	method, body := http.MethodDelete, any(nil)
	if op.Kind == Put {
		var t tenantBody
		t.Limits.Burst = op.Value
		method, body = http.MethodPut, t
	}
	op.Call = h.Now()
	a := c.do(ctx, method, "/tenants/"+op.Tenant, header, body)
	op.Return = h.Now()
	switch {
	case a.err != nil:
		return op, a.sent
	case a.refusesSurely():
		return op, false
	case a.status >= 500 || a.isRemoved():
		return op, true
	case a.status == http.StatusPreconditionFailed:
		op.Outcome = Conflict
	case a.status == http.StatusNotFound && op.Kind == Delete:
		op.Outcome = Missing
	case a.status == http.StatusOK:
		op.Outcome, op.Revision = OK, a.revision()
		if op.Kind == Put {
			op.Version = versionOf(a.header.Get("ETag"))
		}
	default:
		h.Odd("%v: %d %s", op, a.status, a.body)
	}
	return op, true
}

func versionOf(etag string) uint64 {
	text, err := strconv.Unquote(etag)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// status is what a node says of the cluster.
type status struct {
	Healthy  bool
	Leader   string
	Revision uint64
	Problems []string
	Nodes    []nodeStatus
	Rings    []struct{ Moving int }
}

// moving is how many slots have a step to come.
func (s status) moving() int {
	n := 0
	for _, r := range s.Rings {
		n += r.Moving
	}
	return n
}

type nodeStatus struct {
	Name, State string
	Applied     uint64
}

// status asks the node itself, without waiting for a leader.
func (c *client) status(ctx context.Context) (status, error) {
	return c.statusBy(ctx, "?consistency=local")
}

// confirmed asks the node what all agree on.
func (c *client) confirmed(ctx context.Context) (status, error) { return c.statusBy(ctx, "") }

func (c *client) statusBy(ctx context.Context, query string) (status, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var st status
	a := c.do(ctx, http.MethodGet, "/cluster/status"+query, nil, nil)
	switch {
	case a.err != nil:
		return st, a.err
	case a.status != http.StatusOK:
		return st, fmt.Errorf("%s: %d %s", c.node.Name, a.status, a.body)
	}
	return st, json.Unmarshal(a.body, &st)
}
