package ingest

import (
	"context"
	"errors"
	"maps"
	"math"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// promStorage is a Storage over one Prometheus TSDB per tenant.
type promStorage struct {
	t   testing.TB
	dir string

	mu  sync.Mutex
	dbs map[string]*promtsdb.DB
	// gate, where it is set, is called before an append begins.
	gate func(tenant string) error
	// judge, where it is set, may refuse a sample.
	judge func(ls labels.Labels) peerpb.Outcome
	// strict judges what another replica holds as well.
	strict bool
	// disowned counts series that are not to be counted.
	disowned int
	// repeats counts the shares that came as repeats.
	repeats int
	shares  int
	annexed annexed
}

func newPromStorage(t testing.TB) *promStorage {
	t.Helper()
	s := &promStorage{t: t, dir: t.TempDir(), dbs: map[string]*promtsdb.DB{}}
	t.Cleanup(func() {
		for _, db := range s.dbs {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func (s *promStorage) open(tenant string) (*promtsdb.DB, error) {
	if db := s.dbs[tenant]; db != nil {
		return db, nil
	}
	opts := promtsdb.DefaultOptions()
	opts.OutOfOrderTimeWindow = (2 * time.Hour).Milliseconds()
	opts.StripeSize = 512
	db, err := promtsdb.Open(s.dir+"/"+tenant, nil, nil, opts, nil)
	if err == nil {
		db.DisableCompactions()
		s.dbs[tenant] = db
	}
	return db, err
}

func (s *promStorage) Append(ctx context.Context, tenant string, _ uint64, share Share, repeat, held bool, out []peerpb.Outcome) (uint64, int, error) {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		if err := gate(tenant); err != nil {
			return 0, 0, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares++
	if repeat {
		s.repeats++
	}
	db, err := s.open(tenant)
	if err != nil {
		return 0, 0, err
	}
	app := db.AppenderV2(ctx)
	born := 0
	for i := 0; share.Next(); {
		b := share.Labels()
		ls := *(*labels.Labels)(unsafe.Pointer(&b)) // a string is the head of a slice
		ref, _ := app.(storage.GetRef).GetRef(ls, share.Hash())
		isNew := ref == 0
		for {
			t, v, ok := share.Sample()
			if !ok {
				break
			}
			out[i] = peerpb.Outcome_STORED
			if s.judge != nil {
				out[i] = s.judge(ls)
			}
			if out[i] == peerpb.Outcome_SERIES_LIMIT && held && !s.strict {
				out[i] = peerpb.Outcome_STORED
			}
			if out[i] == peerpb.Outcome_STORED {
				ref, err = appendTo(app, ref, b, t, v)
				out[i] = outcomeOf(err)
			}
			i++
		}
		for {
			t, h, fh, ok := share.Histogram()
			if !ok {
				break
			}
			own := strings.Clone(string(b))
			_, err := app.Append(0, *(*labels.Labels)(unsafe.Pointer(&own)), 0, t, 0, h, fh, storage.AOptions{})
			out[i] = outcomeOf(err)
			i++
		}
		if isNew && ref != 0 {
			born++
		}
	}
	return 1, born, app.Commit()
}

// Disown notes how many series are not to be counted.
func (s *promStorage) Disown(_ context.Context, _ string, _ uint64, share Share) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for share.Next() {
		s.disowned++
	}
	return nil
}

func appendTo(app storage.AppenderV2, ref storage.SeriesRef, b []byte, t int64, v float64) (storage.SeriesRef, error) {
	ls := labels.EmptyLabels()
	if ref == 0 {
		own := strings.Clone(string(b))
		ls = *(*labels.Labels)(unsafe.Pointer(&own))
	}
	return app.Append(ref, ls, 0, t, v, nil, nil, storage.AOptions{})
}

func outcomeOf(err error) peerpb.Outcome {
	switch {
	case err == nil:
		return peerpb.Outcome_STORED
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		return peerpb.Outcome_CONFLICT
	default:
		return peerpb.Outcome_FAILED
	}
}

// set changes the storage's behaviour.
func (s *promStorage) set(f func(*promStorage)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// content is what a tenant has: series, times, values.
func (s *promStorage) content(tenant string) map[string]map[int64]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]map[int64]float64{}
	db := s.dbs[tenant]
	if db == nil {
		return all
	}
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		s.t.Fatal(err)
	}
	defer q.Close()
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	for set.Next() {
		points := map[int64]float64{}
		it := set.At().Iterator(nil)
		for it.Next() == chunkenc.ValFloat {
			t, v := it.At()
			points[t] = v
		}
		all[set.At().Labels().String()] = maps.Clone(points)
	}
	if set.Err() != nil {
		s.t.Fatal(set.Err())
	}
	return all
}

func (s *promStorage) count(tenant string) int {
	n := 0
	for _, points := range s.content(tenant) {
		n += len(points)
	}
	return n
}
