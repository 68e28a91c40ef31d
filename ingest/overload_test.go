package ingest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// postAs is post of another tenant.
func (n *node) postAs(tenant string, req *prompb.WriteRequest) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/receive", bytes.NewReader(encode(n.t, req)))
	r.Header.Set("Content-Encoding", "snappy")
	w := httptest.NewRecorder()
	n.ing.ServeWrite(w, r, tenant)
	return w
}

// shared is a bed whose nodes know these tenants, all on ring 1.
func (b *bed) shared(rf, quorum int, tenants ...string) {
	all := map[string]Tenant{}
	for _, id := range tenants {
		all[id] = Tenant{Incarnation: 1, Ring: 1, Routed: 1, FutureWindow: 10 * time.Minute}
	}
	for _, n := range b.nodes {
		n.ing.SetView(b.view(n, 10, tableOf(b.t, 64, len(b.nodes), rf, quorum, 5), all))
	}
}

// TestAStormLeavesRoomForOthers: a tenant's requests fill as much as they may and
// get no further; another tenant's go straight through.
func TestAStormLeavesRoomForOthers(t *testing.T) {
	const requests = 40
	b := newBed(t, 1, func(c *Config) {
		c.MaxDecodedBytes, c.InflightBytes, c.AdmissionWait, c.QuorumTimeout = 64<<10, 64<<10, time.Minute, time.Minute
	})
	b.shared(1, 1, "storm", "calm")
	n := b.nodes[0]
	end, entered := make(chan struct{}), make(chan struct{}, requests)
	n.storage.set(func(s *promStorage) {
		s.gate = func(tenant string) error {
			if tenant == "storm" {
				entered <- struct{}{}
				<-end
			}
			return nil
		}
	})
	at := now()
	var storm sync.WaitGroup
	var stored atomic.Int64
	for i := range requests {
		storm.Go(func() {
			if n.postAs("storm", samplesOf(40, at+int64(i), 1)).Code == http.StatusNoContent {
				stored.Add(1)
			}
		})
	}
	<-entered
	eventually(t, "the storm waits", func() bool { _, waiting := n.ing.admission.decoded.held(); return waiting > 10 })
	inside, _ := n.ing.admission.decoded.held()
	if inside == 0 || inside > 40<<10 { // half, and a request at most
		t.Errorf("one tenant has %d of %d bytes inside", inside, 64<<10)
	}
	for i := range int64(20) {
		if w := n.postAs("calm", samplesOf(40, at+i, 1)); w.Code != http.StatusNoContent {
			t.Fatalf("in another's storm: %d %s", w.Code, w.Body)
		}
	}
	if got := stored.Load(); got != 0 {
		t.Errorf("%d of a storage that hangs", got)
	}
	close(end)
	storm.Wait()
	if got := stored.Load(); got != requests {
		t.Errorf("%d of %d requests stored after it", got, requests)
	}
}

// TestATenantThatHangsAtAPeerStopsNobodyElse: its shares take the places that the
// peer has for the stream, but not those of the others on the same stream.
func TestATenantThatHangsAtAPeerStopsNobodyElse(t *testing.T) {
	const shares = 2 * streamShares
	b := newBed(t, 2, func(c *Config) { c.Lanes = 1 })
	b.shared(2, 1, "hung", tenantID)
	to := b.nodes[1]
	end, entered := make(chan struct{}), make(chan struct{}, shares)
	to.storage.set(func(s *promStorage) {
		s.gate = func(tenant string) error {
			if tenant == "hung" {
				entered <- struct{}{}
				<-end
			}
			return nil
		}
	})
	id := to.id()
	send := func(tenant string, at int64, done func(answer)) {
		batch := walked(t, samplesOf(1, at, 1))
		buf := newBuffer(len(batch.Frames))
		buf.b = append(buf.b, batch.Frames...)
		b.nodes[0].ing.peers.send(to.store, Peer{to.name, id}, &peerpb.Share{
			Tenant: tenant, Incarnation: 1, Ring: 1, Store: id[:], Seen: 10, Need: 5, Series: 1, Samples: 1,
		}, buf.b, buf, time.Time{}, done)
	}
	at := now()
	var done atomic.Int64
	var order sync.Mutex
	var failed []answer
	for i := range int64(shares) {
		send("hung", at+i, func(a answer) {
			if a.err != nil || a.res.Status != peerpb.Status_DONE || len(a.res.Outcomes) > 0 {
				order.Lock()
				defer order.Unlock()
				failed = append(failed, a)
			}
			done.Add(1)
		})
	}
	for range tenantFlights {
		<-entered
	}
	for i := range int64(3) {
		other := make(chan answer, 1)
		send(tenantID, at+i, func(a answer) { other <- a })
		select {
		case a := <-other:
			if a.err != nil || a.res.Status != peerpb.Status_DONE {
				t.Fatal(a)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("another tenant waits for one that hangs")
		}
	}
	if got := done.Load(); got != 0 {
		t.Errorf("%d shares of a storage that hangs are answered", got)
	}
	close(end)
	eventually(t, "the rest goes when it may", func() bool { return done.Load() == shares })
	if len(failed) > 0 || to.storage.count("hung") != shares {
		t.Errorf("%d of %d stored, failed: %v", to.storage.count("hung"), shares, failed)
	}
	if l := b.nodes[0].way(to.store).lanes[0]; len(l.flights.away) != 0 || len(l.flights.held) != 0 {
		t.Errorf("under way: %v, held: %v", l.flights.away, l.flights.held)
	}
}

// TestTenantsTakeTurnsOnALane: who queues much has the others' shares sent between
// its own, and each tenant's in the order they were queued.
func TestTenantsTakeTurnsOnALane(t *testing.T) {
	l := newLane(&peer{tenants: map[string]int64{}}, &peers{})
	for i, tenant := range []string{"storm", "storm", "storm", "storm", "b", "storm", "c", "b", "storm"} {
		l.enqueue(&parcel{share: &peerpb.Share{Tenant: tenant, Series: uint32(i)}, buf: newBuffer(1)})
	}
	var order []string
	for {
		out, ok := l.pop()
		if !ok {
			break
		}
		order = append(order, fmt.Sprint(out.share.Tenant, out.share.Series))
		out.buf.release()
	}
	if got, want := strings.Join(order, " "), "storm0 b4 storm1 c6 storm2 b7 storm3 storm5 storm8"; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
}

// TestAPeerWithTooMuchToStoreSaysSo: what members send is bounded as well, and
// what does not fit now comes again.
func TestAPeerWithTooMuchToStoreSaysSo(t *testing.T) {
	b := newBed(t, 3, nil)
	b.show(10, tableOf(t, 64, 3, 3, 2, 5))
	busy := b.nodes[2].ing.admission
	busy.shares.try("other", busy.shares.room)
	b.nodes[0].mustPost(samplesOf(10, now(), 1), http.StatusNoContent)
	eventually(t, "it refuses", func() bool { return busy.shares.refused() > 0 })
	if got := b.nodes[2].storage.count(tenantID); got != 0 {
		t.Errorf("%d samples stored", got)
	}
	busy.shares.leave("other", busy.shares.room)
	eventually(t, "it has them", func() bool { return b.nodes[2].storage.count(tenantID) == 10 })
}

// dripping is a body that comes a byte at a time, and not to its end.
func dripping(t *testing.T, address, path string) (status string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: n1\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1000\r\n\r\n0123456789"); err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(c)
	line, _, _ := strings.Cut(string(b), "\r\n")
	return line
}

func TestABodyThatDoesNotComeGivesItsRoomBack(t *testing.T) {
	n := single(t, func(c *Config) { c.BodyTimeout = 50 * time.Millisecond }, nil)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/otlp" {
			n.ing.ServeOTLP(w, r, tenantID)
			return
		}
		n.ing.ServeWrite(w, r, tenantID)
	}))
	defer s.Close()
	for _, path := range []string{"/", "/otlp"} {
		if got := dripping(t, s.Listener.Addr().String(), path); !strings.Contains(got, "503") {
			t.Errorf("%s answered %q", path, got)
		}
	}
	if inside, _ := n.ing.admission.incoming.held(); inside != 0 {
		t.Errorf("%d bytes are held", inside)
	}
	// The time is the body's, not the answer's.
	hung := make(chan struct{})
	n.storage.set(func(s *promStorage) { s.gate = func(string) error { <-hung; return nil } })
	time.AfterFunc(200*time.Millisecond, func() { close(hung) })
	req, _ := http.NewRequest(http.MethodPost, s.URL, bytes.NewReader(encode(t, samplesOf(10, now(), 1))))
	req.Header.Set("Content-Encoding", "snappy")
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Errorf("answered %s", resp.Status)
	}
}

// TestABodyOfUnknownLengthIsAdmittedAsItComes: not for the most that it may be.
func TestABodyOfUnknownLengthIsAdmittedAsItComes(t *testing.T) {
	n := single(t, func(c *Config) { c.InflightBytes, c.MaxRequestBytes, c.MaxDecodedBytes = 16<<20, 8<<20, 8<<20 }, nil)
	a := n.ing.admission
	var most int64
	chunked := func(size int) *httptest.ResponseRecorder {
		raw := bytes.NewReader(make([]byte, size))
		return n.postRaw(nil, func(r *http.Request) {
			r.ContentLength = -1
			r.Body = readerFunc{func(p []byte) (int, error) {
				inside, _ := a.incoming.held()
				most = max(most, inside)
				return raw.Read(p)
			}, func() error { return nil }}
		})
	}
	if chunked(10); most != pieceBytes {
		t.Errorf("ten bytes are admitted as %d", most)
	}
	if chunked(3<<20 + 10); most != 4*pieceBytes {
		t.Errorf("three megabytes and a little are admitted as %d", most)
	}
	if w := chunked(8<<20 + 1); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("too long: %d %s", w.Code, w.Body)
	}
	a.incoming.try("other", a.incoming.room/2)
	if w := chunked(6 << 20); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "overloaded") {
		t.Errorf("no room: %d %s", w.Code, w.Body)
	}
	a.incoming.leave("other", a.incoming.room/2)
	if inside, _ := a.incoming.held(); inside != 0 {
		t.Errorf("%d bytes are held", inside)
	}
}
