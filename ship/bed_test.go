package ship

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/thanos-io/objstore"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		childMain()
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	hour    = int64(3600 * 1000)
	samples = 240 // of each series in a block of two hours
)

// writeBlock has Prometheus cut a real block of two hours from mint into dir.
// The segments are small, so that chunks/ has several files.
func writeBlock(tb testing.TB, dir string, mint int64, series int) ulid.ULID {
	tb.Helper()
	opts := promtsdb.DefaultHeadOptions()
	opts.ChunkDirRoot, opts.ChunkRange = tb.TempDir(), 2*hour
	head, err := promtsdb.NewHead(nil, nil, nil, nil, opts, nil)
	must(tb, err)
	defer func() { must(tb, head.Close()) }()
	app := head.AppenderV2(tb.Context())
	for i := range series {
		lset := labels.FromStrings("__name__", "up", "instance", fmt.Sprintf("%s-%d", strings.Repeat("x", 64), i))
		for j := range samples {
			_, err := app.Append(0, lset, 0, mint+int64(j)*30_000, float64(i*j), nil, nil, storage.AppendV2Options{})
			must(tb, err)
		}
	}
	must(tb, app.Commit())
	c, err := promtsdb.NewLeveledCompactorWithOptions(tb.Context(), nil, nil, []int64{2 * hour}, nil,
		promtsdb.LeveledCompactorOptions{MaxBlockChunkSegmentSize: 16 << 10, EnableOverlappingCompaction: true})
	must(tb, err)
	ids, err := c.Write(dir, head, mint, mint+2*hour, nil)
	must(tb, err)
	if len(ids) != 1 {
		tb.Fatalf("wrote %d blocks", len(ids))
	}
	return ids[0]
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func external(tenant string) labels.Labels {
	return labels.FromStrings("tenant_id", tenant, "receive_replica", "n1")
}

// recorder is a bucket that remembers what was uploaded, and fails on demand.
type recorder struct {
	objstore.Bucket
	mu     sync.Mutex
	names  []string
	refuse func(op, name string) error
}

func (r *recorder) fail(op, name string) error {
	if r.refuse == nil {
		return nil
	}
	return r.refuse(op, name)
}

func (r *recorder) Upload(ctx context.Context, name string, rd io.Reader, opts ...objstore.ObjectUploadOption) error {
	if err := r.fail("upload", name); err != nil {
		return err
	}
	err := r.Bucket.Upload(ctx, name, rd, opts...)
	if err == nil {
		r.mu.Lock()
		r.names = append(r.names, name)
		r.mu.Unlock()
	}
	return err
}

func (r *recorder) Exists(ctx context.Context, name string) (bool, error) {
	if err := r.fail("exists", name); err != nil {
		return false, err
	}
	return r.Bucket.Exists(ctx, name)
}

func (r *recorder) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := r.fail("get", name); err != nil {
		return nil, err
	}
	return r.Bucket.Get(ctx, name)
}

func (r *recorder) count(suffix string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range r.names {
		if strings.HasSuffix(name, suffix) {
			n++
		}
	}
	return n
}

// bed is a node's data directory with a bucket in a folder.
type bed struct {
	bucket  *recorder
	root    string // of the bucket
	ledger  *Ledger
	data    string
	sources []Source
	reg     *prometheus.Registry
	shipper *Shipper
}

func newBed(t *testing.T, tenants ...string) *bed {
	t.Helper()
	b := &bed{root: filepath.Join(t.TempDir(), "bucket"), data: t.TempDir(), reg: prometheus.NewRegistry()}
	inner, err := OpenBucket([]byte("type: FILESYSTEM\nconfig:\n  directory: "+b.root), nil, b.reg)
	must(t, err)
	b.bucket = &recorder{Bucket: inner}
	for _, tenant := range tenants {
		dir := filepath.Join(b.data, "tenants", tenant+".7")
		must(t, os.MkdirAll(dir, 0o700))
		b.sources = append(b.sources, Source{Tenant: tenant, Incarnation: 7, Dir: dir, Labels: external(tenant)})
	}
	b.restart(t)
	return b
}

// restart is what a process finds after its start.
func (b *bed) restart(t *testing.T) {
	t.Helper()
	if b.ledger != nil {
		must(t, b.ledger.Close())
	}
	var err error
	b.ledger, err = OpenLedger(filepath.Join(b.data, "ledger"))
	must(t, err)
	b.reg = prometheus.NewRegistry()
	b.shipper = New(Config{Bucket: b.bucket, Ledger: b.ledger, Sources: func() []Source { return b.sources }, Reg: b.reg})
}

func (b *bed) sync(t *testing.T) int {
	t.Helper()
	n, err := b.shipper.Sync(t.Context())
	must(t, err)
	return n
}

func (b *bed) safe(i int, id ulid.ULID) bool {
	return b.ledger.Safe(b.sources[i].Tenant, b.sources[i].Incarnation, id)
}

// readable opens the bucket's copy as a block and counts its samples.
func readable(tb testing.TB, root string, id ulid.ULID) int {
	tb.Helper()
	block, err := promtsdb.OpenBlock(nil, filepath.Join(root, id.String()), nil, nil)
	must(tb, err)
	defer func() { must(tb, block.Close()) }()
	q, err := promtsdb.NewBlockQuerier(block, block.MinTime(), block.MaxTime())
	must(tb, err)
	defer func() { must(tb, q.Close()) }()
	n := 0
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "up"))
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() != 0 {
			n++
		}
		must(tb, it.Err())
	}
	must(tb, set.Err())
	return n
}
