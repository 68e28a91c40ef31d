package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/thanos-io/objstore"
)

func TestBlockIsShippedOnceAndReadable(t *testing.T) {
	b := newBed(t, "a")
	newer := writeBlock(t, b.sources[0].Dir, 2*hour, 60)
	older := writeBlock(t, b.sources[0].Dir, 0, 60)
	if n := b.sync(t); n != 2 {
		t.Fatalf("uploaded %d blocks", n)
	}
	if !b.safe(0, older) || !b.safe(0, newer) {
		t.Fatal("shipped, but not safe")
	}
	for _, id := range []ulid.ULID{older, newer} {
		if n := readable(t, b.root, id); n != 60*samples {
			t.Errorf("the bucket's block has %d samples", n)
		}
	}

	names := b.bucket.names
	perBlock := len(names) / 2
	if perBlock < 4 {
		t.Fatalf("%d objects a block: the test wants several chunk files", perBlock)
	}
	for i, id := range []ulid.ULID{older, newer} { // oldest first
		of := names[i*perBlock : (i+1)*perBlock]
		for j, name := range of {
			want := id.String() + "/chunks/"
			switch j {
			case perBlock - 2:
				want = id.String() + "/index"
			case perBlock - 1:
				want = id.String() + "/meta.json"
			}
			if !strings.HasPrefix(name, want) {
				t.Errorf("object %d is %s, want %s", j, name, want)
			}
		}
	}

	for range 2 { // known to this process, then from the file
		if n := b.sync(t); n != 0 || b.bucket.count("") != len(names) {
			t.Fatal("shipped again")
		}
		b.restart(t)
	}
}

func TestMetaCarriesTheThanosSection(t *testing.T) {
	b := newBed(t, "a")
	id := writeBlock(t, b.sources[0].Dir, 0, 20)
	now := time.Date(2026, 11, 22, 12, 0, 0, 5, time.FixedZone("", 3600))
	b.shipper.cfg.Now = func() time.Time { return now }
	b.sync(t)
	f, err := os.Open(filepath.Join(b.root, id.String(), metaName))
	must(t, err)
	defer f.Close()
	m, err := decodeMeta(f)
	must(t, err)
	if m.ULID != id || m.Version != 1 || m.Stats.NumSamples != 20*samples || m.Compaction.Level != 1 || m.MaxTime > 2*hour {
		t.Errorf("Prometheus' part: %+v", m.BlockMeta)
	}
	th := m.Thanos
	if th.Labels["tenant_id"] != "a" || th.Labels["receive_replica"] != "n1" || th.Source != "receive" || th.Downsample.Resolution != 0 {
		t.Errorf("thanos section: %+v", th)
	}
	if !th.UploadTime.Equal(now) || th.UploadTime.Location() != time.UTC {
		t.Errorf("upload time %v", th.UploadTime)
	}
	if !slices.IsSortedFunc(th.Files, func(a, b File) int { return strings.Compare(a.RelPath, b.RelPath) }) {
		t.Error("files are not sorted")
	}
	if len(th.Files) != len(th.SegmentFiles)+2 || th.SegmentFiles[0] != "000001" {
		t.Errorf("files %v, segments %v", th.Files, th.SegmentFiles)
	}
	for _, file := range th.Files {
		st, err := os.Stat(filepath.Join(b.sources[0].Dir, id.String(), file.RelPath))
		must(t, err)
		if want := st.Size(); (file.RelPath == metaName) != (file.SizeBytes == 0) || (file.SizeBytes != 0 && file.SizeBytes != want) {
			t.Errorf("%s has %d bytes, meta.json says %d", file.RelPath, want, file.SizeBytes)
		}
	}
}

func TestObjectsAreTheOwnersAlone(t *testing.T) {
	b := newBed(t, "a")
	writeBlock(t, b.sources[0].Dir, 0, 3)
	b.sync(t)
	must(t, filepath.WalkDir(b.root, func(p string, d os.DirEntry, err error) error {
		must(t, err)
		info, err := d.Info()
		must(t, err)
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v", p, info.Mode())
		}
		return nil
	}))
}

func TestPassedOver(t *testing.T) {
	b := newBed(t, "a")
	dir := b.sources[0].Dir
	// An unfinished block, one whose meta.json is missing, and things that are no blocks.
	id := writeBlock(t, dir, 0, 3)
	must(t, os.Rename(filepath.Join(dir, id.String()), filepath.Join(dir, id.String()+".tmp-for-creation")))
	noMeta := writeBlock(t, dir, 0, 3)
	must(t, os.Remove(filepath.Join(dir, noMeta.String(), metaName)))
	for _, name := range []string{"wal", "chunks_head", "wbl"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	// One that was compacted here, one without samples.
	compacted, empty := writeBlock(t, dir, 0, 3), writeBlock(t, dir, 0, 3)
	edit(t, dir, compacted, `"level": 1`, `"level": 2`)
	edit(t, dir, empty, fmt.Sprintf(`"numSamples": %d`, 3*samples), `"numSamples": 0`)
	if n := b.sync(t); n != 0 || len(b.bucket.names) != 0 {
		t.Fatalf("uploaded %v", b.bucket.names)
	}
	if b.safe(0, compacted) || b.safe(0, noMeta) || b.safe(0, id) {
		t.Error("called safe, but the bucket does not have it")
	}
	if !b.safe(0, empty) {
		t.Error("a block without samples has nothing to lose")
	}
}

func edit(t *testing.T, dir string, id ulid.ULID, from, to string) {
	t.Helper()
	p := filepath.Join(dir, id.String(), metaName)
	data, err := os.ReadFile(p)
	must(t, err)
	if !strings.Contains(string(data), from) {
		t.Fatalf("no %s in %s", from, data)
	}
	must(t, os.WriteFile(p, []byte(strings.ReplaceAll(string(data), from, to)), 0o600))
}

func TestBlockOfTheBucketIsRecordedNotUploaded(t *testing.T) {
	b := newBed(t, "a")
	id := writeBlock(t, b.sources[0].Dir, 0, 5)
	b.sync(t)
	must(t, os.RemoveAll(filepath.Join(b.data, "ledger"))) // the ledger is lost
	b.restart(t)
	if b.safe(0, id) {
		t.Fatal("an empty ledger knows the block")
	}
	if n := b.sync(t); n != 0 || b.bucket.count(metaName) != 1 {
		t.Fatal("uploaded again")
	}
	if !b.safe(0, id) {
		t.Fatal("verified, but not recorded")
	}
	if n := testutil.ToFloat64(b.shipper.m.found); n != 1 {
		t.Errorf("found %v", n)
	}
}

func TestBlockThatDiffersIsNeverSafe(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, b *bed, id ulid.ULID){
		"object missing": func(t *testing.T, b *bed, id ulid.ULID) {
			must(t, os.Remove(filepath.Join(b.root, id.String(), "chunks", "000001")))
		},
		"object short": func(t *testing.T, b *bed, id ulid.ULID) {
			must(t, os.Truncate(filepath.Join(b.root, id.String(), "index"), 10))
		},
		"of another replica": func(t *testing.T, b *bed, id ulid.ULID) { edit(t, b.root, id, `"n1"`, `"n2"`) },
		"not JSON": func(t *testing.T, b *bed, id ulid.ULID) {
			must(t, os.Truncate(filepath.Join(b.root, id.String(), metaName), 20))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, "a")
			id := writeBlock(t, b.sources[0].Dir, 0, 5)
			b.sync(t)
			must(t, os.RemoveAll(filepath.Join(b.data, "ledger")))
			b.restart(t)
			spoil(t, b, id)
			if _, err := b.shipper.Sync(t.Context()); err == nil {
				t.Fatal("no error")
			}
			if b.safe(0, id) || b.bucket.count(metaName) != 1 {
				t.Fatal("safe, or written over")
			}
			if n := testutil.ToFloat64(b.shipper.m.failures.WithLabelValues("a")); n != 1 {
				t.Errorf("counted %v failures", n)
			}
		})
	}
}

func TestOneFailingTenantStopsNoOther(t *testing.T) {
	b := newBed(t, "a", "b", "c", "d")
	var ids []ulid.ULID
	for _, src := range b.sources {
		ids = append(ids, writeBlock(t, src.Dir, 0, 2))
	}
	b.sources[1].Labels = labels.EmptyLabels()
	edit(t, b.sources[2].Dir, ids[2], `"ulid"`, `"ulid`)
	good := writeBlock(t, b.sources[2].Dir, 2*hour, 2)
	_, err := b.shipper.Sync(t.Context())
	if !errors.Is(err, errNoLabels) || !strings.Contains(err.Error(), ids[2].String()) {
		t.Errorf("error %v", err)
	}
	if !b.safe(0, ids[0]) || !b.safe(3, ids[3]) || !b.safe(2, good) {
		t.Error("the others were not shipped")
	}
	if b.safe(1, ids[1]) || b.safe(2, ids[2]) {
		t.Error("the failing ones are safe")
	}
	if n := b.bucket.count(metaName); n != 3 {
		t.Errorf("%d blocks in the bucket", n)
	}
	err = testutil.GatherAndCompare(b.reg, strings.NewReader(`
# HELP thanos_shipper_uploads_total Blocks uploaded.
# TYPE thanos_shipper_uploads_total counter
thanos_shipper_uploads_total{tenant="a"} 1
thanos_shipper_uploads_total{tenant="c"} 1
thanos_shipper_uploads_total{tenant="d"} 1
`), "thanos_shipper_uploads_total")
	must(t, err)
}

func TestBucketErrorsAreTriedAgain(t *testing.T) {
	boom := errors.New("bucket is away")
	for _, c := range []struct{ op, suffix string }{
		{"exists", metaName}, {"upload", "000002"}, {"upload", indexName}, {"upload", metaName}, {"get", metaName},
	} {
		t.Run(c.op+" "+c.suffix, func(t *testing.T) {
			b := newBed(t, "a")
			id := writeBlock(t, b.sources[0].Dir, 0, 40)
			b.bucket.refuse = func(op, name string) error {
				if op == c.op && strings.HasSuffix(name, c.suffix) {
					return boom
				}
				return nil
			}
			if _, err := b.shipper.Sync(t.Context()); !errors.Is(err, boom) {
				t.Fatalf("error %v", err)
			}
			if b.safe(0, id) {
				t.Fatal("safe without a proof")
			}
			if n := testutil.ToFloat64(b.shipper.m.pending); n != 1 {
				t.Errorf("pending %v", n)
			}
			b.bucket.refuse = nil
			b.sync(t)
			if !b.safe(0, id) || b.bucket.count(metaName) != 1 || readable(t, b.root, id) != 40*samples {
				t.Fatal("not resumed")
			}
		})
	}
}

func TestRunEndsAfterTheBlockInFlight(t *testing.T) {
	b := newBed(t, "a")
	ids := []ulid.ULID{writeBlock(t, b.sources[0].Dir, 0, 3), writeBlock(t, b.sources[0].Dir, 2*hour, 3)}
	ctx, cancel := context.WithCancel(t.Context())
	b.bucket.refuse = func(op, name string) error {
		if op == "upload" && strings.HasSuffix(name, indexName) {
			cancel() // in the middle of the first block
		}
		return nil
	}
	must(t, b.shipper.Run(ctx))
	if !b.safe(0, ids[0]) {
		t.Error("the block in flight was dropped")
	}
	if b.safe(0, ids[1]) || b.bucket.count(metaName) != 1 {
		t.Error("a block was begun after the end")
	}
}

func TestRunGivesUpWhenTheDrainIsOver(t *testing.T) {
	b := newBed(t, "a")
	writeBlock(t, b.sources[0].Dir, 0, 3)
	b.shipper.cfg.Drain = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	b.shipper.cfg.Bucket = hanging{b.bucket, cancel}
	must(t, b.shipper.Run(ctx))
	if n := testutil.ToFloat64(b.shipper.m.pending); n != 1 {
		t.Errorf("pending %v", n)
	}
}

// hanging is a bucket whose uploads last as long as their context.
type hanging struct {
	objstore.Bucket
	begun func()
}

func (h hanging) Upload(ctx context.Context, _ string, _ io.Reader, _ ...objstore.ObjectUploadOption) error {
	h.begun()
	<-ctx.Done()
	return ctx.Err()
}

func TestEveryIsAQuarterAtMostHalfAMinute(t *testing.T) {
	for block, want := range map[time.Duration]time.Duration{2 * time.Hour: 30 * time.Second, 10 * time.Second: 2500 * time.Millisecond} {
		if got := Every(block); got != want {
			t.Errorf("%v: %v", block, got)
		}
	}
}

// TestWhatMayBeOverWaits: nothing of a source is shipped before it is confirmed
// that it lives, and that is asked for once in a scan.
func TestWhatMayBeOverWaits(t *testing.T) {
	b := newBed(t, "a", "b")
	var ids []ulid.ULID
	for _, src := range b.sources {
		ids = append(ids, writeBlock(t, src.Dir, 0, 5))
		writeBlock(t, src.Dir, 2*hour, 5)
	}
	over := errors.New("over")
	asked := map[string]int{}
	var mu sync.Mutex
	b.shipper.cfg.Confirm = func(_ context.Context, src Source) error {
		mu.Lock()
		defer mu.Unlock()
		if asked[src.Tenant]++; src.Tenant == "a" {
			return over
		}
		return nil
	}
	n, err := b.shipper.Sync(t.Context())
	if n != 2 || !errors.Is(err, over) || !strings.Contains(err.Error(), "1 tenants' blocks wait") {
		t.Errorf("%d uploaded, %v; want the two of b", n, err)
	}
	if b.safe(0, ids[0]) || !b.safe(1, ids[1]) || asked["a"] != 1 || asked["b"] != 1 || b.shipper.Pending() != 2 {
		t.Errorf("a safe %v, b safe %v, asked %v, %d pending", b.safe(0, ids[0]), b.safe(1, ids[1]), asked, b.shipper.Pending())
	}
	b.shipper.cfg.Confirm = nil
	if n := b.sync(t); n != 2 {
		t.Errorf("%d uploaded later, want the two of a", n)
	}
}
