package tsdb

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// readBack looks for refused samples, sorted, among what is held, and says which
// of them are absent and may still go in through the out-of-order window. All
// others get their outcome.
func (e *engine) readBack(ctx context.Context, refused []straggler, repeat bool, out []Outcome) (absent []straggler, err error) {
	mint, maxt := refused[0].t, refused[0].t
	for i := range refused {
		mint, maxt = min(mint, refused[i].t), max(maxt, refused[i].t)
	}
	refused, err = e.readBackHead(refused, mint, maxt, out)
	if err != nil || len(refused) == 0 {
		return nil, err
	}
	q, err := e.db.Querier(mint, maxt)
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	defer q.Close()
	for len(refused) > 0 {
		n := 1
		for n < len(refused) && refused[n].series(&refused[0]) == 0 {
			n++
		}
		absent, err = e.readBackSeries(ctx, q, refused[:n], repeat, out, absent)
		if err != nil {
			return nil, err
		}
		refused = refused[n:]
	}
	return absent, nil
}

// readBackHead gives the samples that are not found by reference, in place.
func (e *engine) readBackHead(refused []straggler, mint, maxt int64, out []Outcome) (left []straggler, err error) {
	r, err := newHeadReader(e.db.Head(), mint, maxt)
	if err != nil {
		return nil, err
	}
	left = refused[:0]
	for _, s := range refused {
		if r.holds(&s) {
			out[s.i] = Stored
		} else {
			left = append(left, s)
		}
	}
	return left, r.close()
}

// readBackSeries is readBack for the samples of one series.
func (e *engine) readBackSeries(ctx context.Context, q storage.Querier, group []straggler, repeat bool, out []Outcome, absent []straggler) ([]straggler, error) {
	it, err := findSeries(ctx, q, group[0].labels, group[0].t, group[len(group)-1].t)
	if err != nil {
		return nil, err
	}
	at := chunkenc.ValNone
	for _, s := range group {
		if it != nil {
			at = it.Seek(s.t)
		}
		there := at != chunkenc.ValNone && it.AtT() == s.t
		same := there && s.same(readingAt(it, at))
		s.differs = there && !same
		switch {
		case same:
			out[s.i] = Stored
		case s.newest, s.tooOld, s.differs && repeat:
			out[s.i] = s.verdict()
		default:
			absent = append(absent, s)
		}
	}
	if it != nil && it.Err() != nil {
		return nil, fmt.Errorf("read back: %w", it.Err())
	}
	return absent, nil
}

// findSeries gives an iterator over the one series with exactly these labels, or
// nil where there is none.
func findSeries(ctx context.Context, q storage.Querier, raw string, mint, maxt int64) (chunkenc.Iterator, error) {
	want, ok := keepLabels(raw)
	if !ok {
		return nil, nil
	}
	var matchers []*labels.Matcher
	want.Range(func(l labels.Label) {
		matchers = append(matchers, labels.MustNewMatcher(labels.MatchEqual, l.Name, l.Value))
	})
	set := q.Select(ctx, false, &storage.SelectHints{Start: mint, End: maxt}, matchers...)
	for set.Next() {
		// A series with these labels and more matches too.
		if labels.Equal(set.At().Labels(), want) {
			return set.At().Iterator(nil), nil
		}
	}
	if err := set.Err(); err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	return nil, nil
}
