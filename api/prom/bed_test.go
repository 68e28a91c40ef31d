package prom

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
	"github.com/muster-metrics/muster/tsdb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// base is the cluster's time in these tests: a whole minute, so that steps of
// queries meet samples.
var base = time.Unix(1_790_000_000/60*60, 0).UTC()

func ms(before time.Duration) int64 { return base.Add(-before).UnixMilli() }

// bed is a cluster: one committed state, and members with real TSDBs, real Read
// services over TCP and a query API each.
type bed struct {
	t       testing.TB
	state   atomic.Pointer[cluster.State]
	members []*member
	tenants []tsdb.Settings
}

type member struct {
	bed    *bed
	name   string
	id     [16]byte
	db     *tsdb.DB
	status func(tsdb.Status) tsdb.Status // what it says of itself; nil: the truth
	state  atomic.Pointer[cluster.State] // what it sees; nil: everything
	reader *Reader
	api    *API

	mu   sync.Mutex
	srv  *grpc.Server
	addr string
	conn *grpc.ClientConn
	hook func() // called when somebody dials it
}

func (m *member) ChunkQuerier(key tsdb.Key, mint, maxt int64) (storage.ChunkQuerier, error) {
	return m.db.ChunkQuerier(key, mint, maxt)
}

func (m *member) Exemplars(ctx context.Context, key tsdb.Key, mint, maxt int64, selectors ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	return m.db.Exemplars(ctx, key, mint, maxt, selectors...)
}

func (m *member) Metadata(ctx context.Context, key tsdb.Key) ([]tsdb.Metadata, error) {
	return m.db.Metadata(ctx, key)
}

func (m *member) Status(key tsdb.Key) tsdb.Status {
	st := m.db.Status(key)
	if m.status != nil {
		return m.status(st)
	}
	return st
}

func (m *member) see() *cluster.State {
	if st := m.state.Load(); st != nil {
		return st
	}
	return m.bed.state.Load()
}

// newBed makes n members and a ring of replication factor rf over all of them.
func newBed(t testing.TB, n, rf int, change ...func(*Config)) *bed {
	t.Helper()
	b := &bed{t: t}
	b.state.Store(cluster.EmptyState())
	hour := ms(time.Hour)
	init := &clusterpb.InitCluster{Name: "c", Id: strings.Repeat("0a", 16), ReplicationFactor: 1, Slots: 4}
	for i := range n + 1 { // one more may join later
		name := fmt.Sprintf("n%d", i+1)
		init.Tokens = append(init.Tokens, &clusterpb.Token{
			Id: "token" + name, Role: clusterpb.TokenRole_ROLE_NODE, Hash: hash32(name), ExpiresMs: base.UnixMilli(), CreatedMs: hour,
		})
	}
	first := b.newMember()
	init.Member, init.StoreId = first.pb(), first.id[:]
	b.apply(hour, &clusterpb.Command{Change: &clusterpb.Command_Init{Init: init}})
	for range n - 1 {
		b.join(b.newMember())
	}
	b.apply(hour, &clusterpb.Command{Change: &clusterpb.Command_PutRing{PutRing: &clusterpb.PutRing{
		Name: "main", Tenants: []string{"*"}, ReplicationFactor: uint32(rf), Slots: 16,
	}}})
	for _, m := range b.members {
		m.start(change)
	}
	return b
}

func (b *bed) newMember() *member {
	i := len(b.members) + 1
	m := &member{bed: b, name: fmt.Sprintf("n%d", i), id: [16]byte{byte(i)}}
	b.members = append(b.members, m)
	return m
}

// join makes a member active; it holds nothing yet.
func (b *bed) join(m *member) {
	b.t.Helper()
	b.apply(ms(time.Hour), &clusterpb.Command{Change: &clusterpb.Command_AddMember{AddMember: &clusterpb.AddMember{
		Member: m.pb(), StoreId: m.id[:], TokenId: "token" + m.name,
	}}})
	b.apply(ms(time.Hour), &clusterpb.Command{Change: &clusterpb.Command_ActivateMember{ActivateMember: &clusterpb.ActivateMember{Name: m.name}}})
}

func (m *member) pb() *clusterpb.Member {
	return &clusterpb.Member{Name: m.name, Address: "127.0.0.1:1", KeyHash: hash32(m.name)}
}

func hash32(s string) []byte { return append(make([]byte, 32-len(s)), s...) }

func (b *bed) apply(now int64, cmd *clusterpb.Command) {
	b.t.Helper()
	cmd.TimeMs = now
	st := b.state.Load()
	st.Place(cmd)
	next, res := st.Apply(st.Revision()+1, cmd)
	require.Nil(b.t, res.Refusal)
	b.state.Store(next)
}

func (m *member) start(change []func(*Config)) {
	t := m.bed.t
	m.db = tsdb.New(tsdb.Config{Dir: t.TempDir()})
	require.NoError(t, m.db.Open(t.Context()))
	m.db.SetTenants(m.bed.tenants, nil)
	t.Cleanup(func() { require.NoError(t, m.db.Close()) })
	m.reader = NewReader(m.id, m.see, m, nil)
	m.serve(m.reader)
	cfg := Config{
		Self: m.name, Local: m.reader, State: m.see, Dial: m.bed.dial,
		Now: func() time.Time { return base }, MemberTimeout: 20 * time.Second, Version: "1.2.3",
	}
	for _, f := range change {
		f(&cfg)
	}
	m.api = New(cfg)
}

// serve gives the member a Read service, in place of the one it had.
func (m *member) serve(s peerpb.ReadServer) {
	t := m.bed.t
	m.stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := grpc.NewServer()
	peerpb.RegisterReadServer(srv, s)
	go func() { _ = srv.Serve(l) }()
	m.connect(srv, l.Addr().String())
}

// hang gives the member a port that takes connections and never says a word.
func (m *member) hang() {
	t := m.bed.t
	m.stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var (
		mu    sync.Mutex
		conns []net.Conn
		done  = make(chan struct{})
	)
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for _, c := range conns {
			c.Close()
		}
	})
	m.connect(nil, l.Addr().String())
}

func (m *member) connect(srv *grpc.Server, addr string) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(m.bed.t, err)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.srv, m.addr, m.conn = srv, addr, conn
	m.bed.t.Cleanup(func() {
		conn.Close()
		if srv != nil {
			srv.Stop()
		}
	})
}

// stop kills the member's door.
func (m *member) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.srv != nil {
		m.srv.Stop()
	}
}

func (b *bed) dial(_ context.Context, node string) (*grpc.ClientConn, error) {
	m := b.member(node)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hook != nil {
		m.hook()
	}
	return m.conn, nil
}

func (b *bed) member(name string) *member {
	for _, m := range b.members {
		if m.name == name {
			return m
		}
	}
	b.t.Fatalf("no member %s", name)
	return nil
}

// tenant creates a tenant on every member.
func (b *bed) tenant(id string) tsdb.Key {
	b.t.Helper()
	b.apply(ms(time.Hour), &clusterpb.Command{Change: &clusterpb.Command_PutTenant{PutTenant: &clusterpb.PutTenant{Id: id}}})
	key := tsdb.Key{Tenant: id, Incarnation: b.state.Load().Tenant(id).Incarnation}
	b.tenants = append(b.tenants, tsdb.Settings{Key: key, OutOfOrderWindow: 2 * time.Hour})
	for _, m := range b.members {
		m.db.SetTenants(b.tenants, nil)
	}
	return key
}

// replicas are the members that hold a series.
func (b *bed) replicas(key tsdb.Key, ls labels.Labels) []*member {
	st := b.state.Load()
	table := st.RingByID(st.Tenant(key.Tenant).Route.Ring).Table
	slot := ring.KeyOf(ring.TenantHash(key.Tenant), xxhash.Sum64(labelBytes(ls))).Slot(table.Slots())
	set := table.Slot(slot).Replicas
	var out []*member
	for i := range set.Len() {
		out = append(out, b.member(st.Store(set.At(i)).Node))
	}
	return out
}

type sample struct {
	t int64
	v float64
}

// write stores samples of a series at its replicas, as an acknowledged write.
func (b *bed) write(key tsdb.Key, ls labels.Labels, samples ...sample) {
	b.t.Helper()
	for _, m := range b.replicas(key, ls) {
		m.write(key, ls, samples...)
	}
}

func (m *member) write(key tsdb.Key, ls labels.Labels, samples ...sample) {
	t := m.bed.t
	t.Helper()
	out := make([]tsdb.Outcome, len(samples))
	_, err := m.db.Append(t.Context(), key, &share{labels: labelBytes(ls), samples: samples}, false, out)
	require.NoError(t, err)
	for i, o := range out {
		require.Equal(t, tsdb.Stored, o, "sample %d at %s", i, m.name)
	}
}

// share is one series for tsdb.Append.
type share struct {
	labels  []byte
	samples []sample
	begun   bool
	next    int
}

func (s *share) Reset()         { s.begun, s.next = false, 0 }
func (s *share) Labels() []byte { return s.labels }
func (s *share) Hash() uint64   { return xxhash.Sum64(s.labels) }

func (s *share) Next() bool {
	first := !s.begun
	s.begun = true
	return first
}

func (s *share) Sample() (int64, float64, bool) {
	if s.next == len(s.samples) {
		return 0, 0, false
	}
	s.next++
	return s.samples[s.next-1].t, s.samples[s.next-1].v, true
}

func (*share) Histogram() (int64, *histogram.Histogram, *histogram.FloatHistogram, bool) {
	return 0, nil, nil, false
}

// reply is an answer of the query API.
type reply struct {
	code     int
	complete bool
	Status   string
	Data     json.RawMessage
	Error    string
	Type     string `json:"errorType"`
	Warnings []string
	Infos    []string
}

// ask sends a request to a handler; form is a query string.
func ask(t testing.TB, h http.Handler, path, form string) reply {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/"+path+"?"+form, nil)
	return record(t, h, r)
}

func record(t testing.TB, h http.Handler, r *http.Request) reply {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	out := reply{code: w.Code, complete: w.Header().Get("Muster-Complete") == "true"}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out), "%s", w.Body)
	return out
}

// instant is the form of an instant query at base.
func instant(expr string, more ...string) string {
	v := url.Values{"query": {expr}, "time": {fmt.Sprint(base.Unix())}}
	for i := 0; i+1 < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return v.Encode()
}

// query asks a member for a tenant at base.
func (m *member) query(tenant, expr string, more ...string) reply {
	m.bed.t.Helper()
	return ask(m.bed.t, m.api.Tenant(tenant), "query", instant(expr, more...))
}

// whole wants a complete answer and gives its data.
func (r reply) whole(t testing.TB) string {
	t.Helper()
	require.Equal(t, http.StatusOK, r.code, "%s", r.Error)
	require.True(t, r.complete, "%v", r.Warnings)
	require.Empty(t, r.Warnings)
	return string(r.Data)
}

// lacking wants a refusal for want of stores and gives its text.
func (r reply) lacking(t testing.TB) string {
	t.Helper()
	require.Equal(t, http.StatusServiceUnavailable, r.code, "%s", r.Data)
	require.Equal(t, "unavailable", r.Type)
	require.False(t, r.complete)
	return r.Error
}
