package custody

import (
	"context"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/tsdb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var base = time.Unix(1_790_000_000, 0).UTC()

// bed is a committed state and three nodes with real storage and real services;
// n3 leaves.
type bed struct {
	t     *testing.T
	mu    sync.Mutex
	state *cluster.State
	now   time.Time
	nodes map[string]*place
	// silent are not heard, free is what the others have, bytes.
	silent map[string]bool
	free   int64
	key    tsdb.Key
	leaver *Leaver
	cfg    LeaverConfig
	tamper func(*peerpb.HandRequest) error
}

type place struct {
	id      [16]byte
	dir     string
	db      *tsdb.DB
	adopted *tsdb.Adopted
	taker   *Taker
	conn    *grpc.ClientConn
}

func newBed(t *testing.T) *bed {
	b := &bed{t: t, state: cluster.EmptyState(), now: base, nodes: map[string]*place{}, silent: map[string]bool{}, free: 1 << 40}
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		b.nodes[name] = &place{id: [16]byte{byte(i + 1)}, dir: t.TempDir()}
	}
	init := &clusterpb.InitCluster{Name: "c", Id: strings.Repeat("0a", 16), ReplicationFactor: 1, Slots: 4}
	for _, name := range []string{"n2", "n3"} {
		init.Tokens = append(init.Tokens, &clusterpb.Token{Id: "token" + name, Role: clusterpb.TokenRole_ROLE_NODE, Hash: hash32(name), ExpiresMs: base.Add(time.Hour).UnixMilli()})
	}
	init.Member, init.StoreId = member("n1"), b.nodes["n1"].storeID()
	b.do(&clusterpb.Command{Change: &clusterpb.Command_Init{Init: init}})
	for _, name := range []string{"n2", "n3"} {
		b.do(&clusterpb.Command{Change: &clusterpb.Command_AddMember{AddMember: &clusterpb.AddMember{
			Member: member(name), StoreId: b.nodes[name].storeID(), TokenId: "token" + name,
		}}})
		b.do(&clusterpb.Command{Change: &clusterpb.Command_ActivateMember{ActivateMember: &clusterpb.ActivateMember{Name: name}}})
	}
	b.do(&clusterpb.Command{Change: &clusterpb.Command_PutTenant{PutTenant: &clusterpb.PutTenant{Id: "acme"}}})
	b.key = tsdb.Key{Tenant: "acme", Incarnation: b.see().Tenant("acme").GetIncarnation()}
	for name, p := range b.nodes {
		p.open(b, name)
	}
	b.cfg = LeaverConfig{
		Node: "n3", Store: b.nodes["n3"].id, State: b.see, Health: b.health, Propose: b.propose, Dial: b.dial,
		Announced: func() uint64 { return b.see().Revision() }, Current: func() bool { return true },
		Data: b.nodes["n3"].db, Adopted: b.nodes["n3"].adopted, Now: func() time.Time { return b.now },
	}
	b.leaver = NewLeaver(b.cfg)
	return b
}

func member(name string) *clusterpb.Member {
	return &clusterpb.Member{Name: name, Address: "127.0.0.1:1", KeyHash: hash32(name)}
}

func hash32(s string) []byte { return append(make([]byte, 32-len(s)), s...) }

func (p *place) storeID() []byte { return p.id[:] }

func (p *place) open(b *bed, name string) {
	t := b.t
	p.db = tsdb.New(tsdb.Config{Dir: p.dir + "/tenants", MinFree: -1})
	require.NoError(t, p.db.Open(t.Context()))
	p.db.SetTenants([]tsdb.Settings{{Key: b.key, OutOfOrderWindow: 2 * time.Hour}}, nil)
	t.Cleanup(func() { require.NoError(t, p.db.Close()) })
	p.adopted = tsdb.NewAdopted(tsdb.Config{Dir: p.dir + "/adopted", MinFree: -1, Now: func() time.Time { return b.now }})
	require.NoError(t, p.adopted.Open())
	t.Cleanup(func() { require.NoError(t, p.adopted.Close()) })
	p.taker = NewTaker(p.adopted, TakerConfig{
		Store: p.id, State: b.see, Propose: b.propose,
		Caller: func(context.Context) (string, bool) { return "n3", true },
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := grpc.NewServer(grpc.WaitForHandlers(true))
	p.taker.Register(srv)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	p.conn, err = grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStreamInterceptor(b.intercept))
	require.NoError(t, err)
	t.Cleanup(func() { p.conn.Close() })
}

// intercept lets a test see, change and stop what is given.
func (b *bed) intercept(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := next(ctx, desc, cc, method, opts...)
	return tampered{s, b}, err
}

type tampered struct {
	grpc.ClientStream
	bed *bed
}

func (s tampered) SendMsg(m any) error {
	if req, ok := m.(*peerpb.HandRequest); ok && s.bed.tamper != nil {
		if err := s.bed.tamper(req); err != nil {
			return err
		}
	}
	return s.ClientStream.SendMsg(m)
}

func (b *bed) see() *cluster.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

func (b *bed) propose(_ context.Context, cmd *clusterpb.Command) (*clusterpb.ProposeResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	cmd.TimeMs = b.now.UnixMilli()
	b.state.Place(cmd)
	next, res := b.state.Apply(b.state.Revision()+1, cmd)
	b.state = next
	return &clusterpb.ProposeResponse{Revision: res.Revision, Refusal: res.Refusal}, nil
}

func (b *bed) do(cmd *clusterpb.Command) {
	b.t.Helper()
	answer, err := b.propose(b.t.Context(), cmd)
	require.NoError(b.t, err)
	require.Nil(b.t, answer.GetRefusal())
}

func (b *bed) health() []*clusterpb.Health {
	var out []*clusterpb.Health
	for _, m := range b.see().Members() {
		h := &clusterpb.Health{Report: &clusterpb.Report{Node: m.GetName(), DiskFreeBytes: b.free}, LastContactMs: 10}
		if m.GetName() == "n2" {
			h.Report.DiskFreeBytes++ // it is the first choice
		}
		if b.silent[m.GetName()] {
			h.LastContactMs = 60_000
		}
		out = append(out, h)
	}
	return out
}

func (b *bed) dial(_ context.Context, node string) (*grpc.ClientConn, error) {
	return b.nodes[node].conn, nil
}

// remove begins the removal of n3.
func (b *bed) remove() {
	b.t.Helper()
	b.do(&clusterpb.Command{Change: &clusterpb.Command_BeginRemoval{BeginRemoval: &clusterpb.BeginRemoval{Name: "n3"}}})
}

// write stores samples of one series on n3, in order and out of order.
func (b *bed) write() map[int64]float64 {
	b.t.Helper()
	want := map[int64]float64{}
	for i, at := range []int64{0, 1000, -60_000, 5_400_000} {
		want[base.UnixMilli()+at] = float64(i)
		out := make([]tsdb.Outcome, 1)
		_, err := b.nodes["n3"].db.Append(b.t.Context(), b.key, &one{t: base.UnixMilli() + at, v: float64(i)}, false, out)
		require.NoError(b.t, err)
		require.Equal(b.t, tsdb.Stored, out[0])
	}
	return want
}

// one is a share of one sample of {__name__="m"}.
type one struct {
	t    int64
	v    float64
	at   int
	read bool
}

var frame = []byte("\x08__name__\x01m")

func (s *one) Reset()         { s.at, s.read = 0, false }
func (s *one) Next() bool     { s.at++; s.read = false; return s.at == 1 }
func (s *one) Labels() []byte { return frame }
func (s *one) Hash() uint64   { return xxhash.Sum64(frame) }
func (s *one) Sample() (int64, float64, bool) {
	if s.read {
		return 0, 0, false
	}
	s.read = true
	return s.t, s.v, true
}

func (*one) Histogram() (int64, *histogram.Histogram, *histogram.FloatHistogram, bool) {
	return 0, nil, nil, false
}

// kept is what a node shows of n3's store.
func (b *bed) kept(node string) map[int64]float64 {
	b.t.Helper()
	q, err := b.nodes[node].adopted.ChunkQuerier(b.nodes["n3"].id, b.key, math.MinInt64, math.MaxInt64)
	require.NoError(b.t, err)
	defer q.Close()
	return read(b.t, q)
}

func read(t *testing.T, q storage.ChunkQuerier) map[int64]float64 {
	t.Helper()
	out := map[int64]float64{}
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "m"))
	for set.Next() {
		for it := set.At().Iterator(nil); it.Next(); {
			for c := it.At().Chunk.Iterator(nil); c.Next() != chunkenc.ValNone; {
				at, v := c.At()
				out[at] = v
			}
		}
	}
	require.NoError(t, set.Err())
	return out
}

// fake is a bucket that has what it is told to.
type fake struct {
	err  error
	safe bool
}

func (f *fake) Ship(context.Context) error        { return f.err }
func (f *fake) Safe(_ tsdb.Key, _ ulid.ULID) bool { return f.safe }
