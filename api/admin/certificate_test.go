package admin

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-metrics/muster/cluster/pki"
)

// csr is a request for a certificate of a new key, as the API takes it.
func csr(t *testing.T) string {
	t.Helper()
	key, err := pki.NewKey()
	ok(t, err)
	der, err := pki.NewRequest(key, "x")
	ok(t, err)
	return base64.StdEncoding.EncodeToString(der)
}

// certificates calls what the document says of them, on a cluster of which all
// nodes are up.
func (d *document) certificates(b *bed) {
	d.t.Helper()
	wish := fmt.Sprintf(`{"csr":%q,"role":"reader","name":"thanos","tenant":"c","ttl":"30d"}`, csr(d.t))
	d.call(b, "POST", "/certificates", "/certificates?dry_run=true", wish, 200)
	var made struct{ Serial, Certificate, CA string }
	d.call(b, "POST", "/certificates", "/certificates", wish, 200).as(&made)
	roots, err := pki.ParseBundle([]byte(made.CA))
	ok(d.t, err)
	id, err := pki.ParseIssued([]byte(made.Certificate), roots, time.Now().Add(29*24*time.Hour))
	ok(d.t, err)
	if id.Role != "reader" || id.Name != "thanos" || id.Tenant != "c" {
		d.t.Errorf("issued to %v", id)
	}
	d.call(b, "GET", "/certificates", "/certificates", "", 200)
	d.call(b, "DELETE", "/certificates/{serial}", "/certificates/"+made.Serial, "", 200)
	d.call(b, "DELETE", "/certificates/{serial}", "/certificates/"+made.Serial, "", 404)
	d.call(b, "POST", "/certificates/renew", "/certificates/renew?dry_run=true", "", 200)
	d.call(b, "POST", "/certificates/renew", "/certificates/renew", "", 200)
	d.call(b, "POST", "/certificates/rotate", "/certificates/rotate", `{"finish":true}`, 404)
	d.call(b, "POST", "/certificates/rotate", "/certificates/rotate?dry_run=true", `{}`, 200)
	d.call(b, "POST", "/certificates/rotate", "/certificates/rotate", ``, 200)
	d.call(b, "GET", "/certificates", "/certificates", "", 200)
	d.call(b, "POST", "/certificates/rotate", "/certificates/rotate", `{}`, 409)
	d.call(b, "POST", "/certificates/rotate", "/certificates/rotate", `{"finish":true}`, 200)
	eventually(d.t, "the old CA is dropped", func() bool {
		return len(b.node.Credentials().CAs.Certificates()) == 1 && b.node.State().Cluster().GetCaRotation() == nil
	})
}

func TestBadCertificateRequests(t *testing.T) {
	b := newCluster(t)
	before := b.node.State().Cluster().GetIssued()
	good := csr(t)
	for name, c := range map[string]struct {
		body, field string
		code        int
	}{
		"nothing":             {`{}`, "csr", 400},
		"no base64":           {`{"csr":"?","role":"reader","name":"x"}`, "csr", 400},
		"no request":          {`{"csr":"AAAA","role":"reader","name":"x"}`, "csr", 400},
		"a node":              {`{"csr":"` + good + `","role":"node","name":"x"}`, "role", 400},
		"a name with a slash": {`{"csr":"` + good + `","role":"reader","name":"a/b"}`, "name", 400},
		"a long name":         {`{"csr":"` + good + `","role":"reader","name":"` + strings.Repeat("x", 300) + `"}`, "name", 400},
		"a bad tenant":        {`{"csr":"` + good + `","role":"reader","name":"x","tenant":"../x"}`, "tenant", 400},
		"an unknown tenant":   {`{"csr":"` + good + `","role":"reader","name":"x","tenant":"nobody"}`, "", 404},
		"a life without end":  {`{"csr":"` + good + `","role":"reader","name":"x","ttl":"100y"}`, "ttl", 400},
		"a negative life":     {`{"csr":"` + good + `","role":"reader","name":"x","ttl":"-1d"}`, "ttl", 400},
		"an unknown field":    {`{"csr":"` + good + `","role":"reader","name":"x","days":3}`, "days", 400},
	} {
		t.Run(name, func(t *testing.T) { b.refused("POST", "/certificates", c.body, c.code, c.field) })
	}
	b.refused("DELETE", "/certificates/x", "", 404, "")
	if len(b.node.State().Cluster().GetIssued()) != len(before) {
		t.Error("a refused request left a record")
	}
}

// TestTheKernelSaysWhoSitsAtTheSocket: no header of the request does.
func TestTheKernelSaysWhoSitsAtTheSocket(t *testing.T) {
	b := newCluster(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	ok(t, err)
	srv := &http.Server{Handler: b.handler(), ConnContext: ConnContext, ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(func() { tr.CloseIdleConnections(); _ = srv.Close(); <-done })
	r := ask(t, &http.Client{Transport: tr}, "http://muster/api/v1/tenants/a", "PUT", "{}", "X-Forwarded-User", "mallory", "Authorization", "Bearer x")
	if r.code != 200 {
		t.Fatalf("%d %s", r.code, r.text)
	}
	me, err := user.Current()
	ok(t, err)
	var events struct{ Events []eventObject }
	b.call("GET", "/cluster/events", "", 200).as(&events)
	last := events.Events[len(events.Events)-1]
	if last.Action != "tenant created" || last.Actor != me.Username || !strings.HasPrefix(last.Source, "unix socket, uid "+me.Uid+", pid ") {
		t.Errorf("event %+v, want it by %s", last, me.Username)
	}
}
