package tsdb

import (
	"fmt"
	"hash/maphash"
	"testing"

	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
)

func TestRefTableRemembersEverySeriesAndGrows(t *testing.T) {
	r := newRefTable()
	const n = 5000
	ids := make([]seriesID, n)
	for i := range ids {
		ids[i] = r.id(uint64(i), fmt.Appendf(nil, "series %d", i))
		require.Zero(t, r.find(ids[i]))
		r.put(ids[i], storage.SeriesRef(i+1))
	}
	r.put(ids[7], 70_000) // collected by the TSDB, and made again
	for i, id := range ids {
		want := storage.SeriesRef(i + 1)
		if i == 7 {
			want = 70_000
		}
		require.Equal(t, want, r.find(id))
	}
	require.Equal(t, n, r.used)
	require.LessOrEqual(t, 4*r.used, 3*len(r.slots), "room is left, so that a look ends")
}

// Two series that agree in the hash of the wire, which anybody can compute, and
// one that agrees in the keyed hash, are different ones.
func TestRefTableKnowsSeriesByBothHashes(t *testing.T) {
	r := refTable{seed: maphash.MakeSeed()}
	a := r.id(1, []byte("a"))
	b := r.id(1, []byte("b"))
	c := seriesID{hash: 2, keyed: a.keyed}
	r.put(a, 1)
	require.Zero(t, r.find(b))
	require.Zero(t, r.find(c))
	r.put(b, 2)
	r.put(c, 3)
	require.Equal(t, []storage.SeriesRef{1, 2, 3}, []storage.SeriesRef{r.find(a), r.find(b), r.find(c)})
}

// A series that the TSDB has collected, twice in one share: by its old reference
// the second entry does not look like the series of the first.
func TestACollectedSeriesTwiceInAShare(t *testing.T) {
	db, base := openDB(t), start.UnixMilli()
	mustStore(t, db, series{metric("up"), []sample{{base, 1}}})
	require.NoError(t, db.Cut(t.Context(), acme))
	require.Zero(t, db.Series(acme), "collected")
	out := write(t, db, false,
		series{metric("up"), []sample{{base + 2000, 3}}},
		series{metric("up"), []sample{{base + 1000, 2}, {base + 2000, 4}}})
	expect(t, out, Stored, Stored, Conflict)
	expectHeld(t, db, `{__name__="up"}`, sample{base, 1}, sample{base + 1000, 2}, sample{base + 2000, 3})
}

func TestRefTableStartsAgainWhereMostSeriesAreGone(t *testing.T) {
	r := newRefTable()
	for i := range 3 * spareRefs {
		r.put(r.id(uint64(i), nil), 1)
	}
	r.bound(spareRefs)
	require.Equal(t, 3*spareRefs, r.used, "twice what the head has, and some to spare")
	r.bound(10)
	require.Zero(t, r.used)
	require.Zero(t, r.find(r.id(1, nil)))
}
