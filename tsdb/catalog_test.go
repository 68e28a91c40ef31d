package tsdb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func family(i int) Metadata {
	return Metadata{Family: fmt.Sprintf("family_%05d", i), Type: "counter", Help: "What it counts.", Unit: "bytes"}
}

func keep(t testing.TB, db *DB, all ...Metadata) {
	t.Helper()
	if err := db.AppendMetadata(t.Context(), acme, all); err != nil {
		t.Fatal(err)
	}
}

func known(t testing.TB, db *DB) []Metadata {
	t.Helper()
	all, err := db.Metadata(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func expectKnown(t testing.TB, db *DB, want ...Metadata) {
	t.Helper()
	if got := known(t, db); !slices.Equal(got, want) {
		t.Fatalf("known are %v, not %v", got, want)
	}
}

func logOf(cfg Config) string { return filepath.Join(cfg.Dir, acme.String(), catalogName) }

func sizeOf(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestMetadataOutlivesARestart(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), MinFree: -1}
	db := reopenDB(t, cfg)
	expectKnown(t, db)
	keep(t, db, family(2), family(1))
	keep(t, db, family(3))
	size := sizeOf(t, logOf(cfg))
	keep(t, db, family(1), family(2), family(3))
	if now := sizeOf(t, logOf(cfg)); now != size {
		t.Fatalf("what is known was written again: %d bytes, then %d", size, now)
	}
	closeDB(t, db)
	db = reopenDB(t, cfg)
	expectKnown(t, db, family(1), family(2), family(3))
}

func TestABrokenEndOfTheMetadataLogIsCutAndMendedByTheNextWrite(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)-3] },
		"garbage": func(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3) },
		"flipped": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"headed":  func([]byte) []byte { return []byte("something else\nand more of it") },
		"empty":   func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Dir: t.TempDir(), MinFree: -1}
			db := reopenDB(t, cfg)
			keep(t, db, family(1))
			keep(t, db, family(2))
			closeDB(t, db)
			b, err := os.ReadFile(logOf(cfg))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(logOf(cfg), damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			db = reopenDB(t, cfg)
			before := known(t, db)
			if len(before) > 2 || len(before) == 2 && name != "garbage" {
				t.Fatalf("known after the damage: %v", before)
			}
			keep(t, db, family(2), family(3))
			closeDB(t, db)
			db = reopenDB(t, cfg)
			got := known(t, db)
			if !slices.Contains(got, family(2)) || !slices.Contains(got, family(3)) || len(got) < len(before) {
				t.Fatalf("known after the repair: %v", got)
			}
		})
	}
}

// What could not be written is not called kept, and is written with what comes next.
func TestMetadataThatCouldNotBeWrittenIsWrittenLater(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), MinFree: -1}
	db := reopenDB(t, cfg)
	keep(t, db, family(1))
	path := logOf(cfg)
	// Neither appended to nor replaced: both find a directory there.
	if err := errors.Join(os.Rename(path, path+".aside"), os.Mkdir(path, 0o700), os.Mkdir(path+".tmp", 0o700)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := db.AppendMetadata(t.Context(), acme, []Metadata{family(2)}); err == nil {
			t.Fatal("metadata that was not written is called kept")
		}
	}
	if err := errors.Join(os.Remove(path), os.Remove(path+".tmp")); err != nil {
		t.Fatal(err)
	}
	keep(t, db, family(2))
	closeDB(t, db)
	db = reopenDB(t, cfg)
	expectKnown(t, db, family(1), family(2))
}

func TestWhatWasNotHeardOfForLongestGoesFirst(t *testing.T) {
	wall := newClock(start)
	cfg := Config{Dir: t.TempDir(), MinFree: -1, Now: wall.now}
	db := reopenDB(t, cfg)
	put := func(from, to int) {
		var all []Metadata
		for i := from; i < to; i++ {
			all = append(all, family(i))
		}
		keep(t, db, all...)
	}
	put(0, 1000)
	wall.advance(time.Hour)
	put(1000, maxDescriptions)
	wall.advance(describedAgain)
	put(0, 500) // these are in use
	put(maxDescriptions, maxDescriptions+1)
	got := known(t, db)
	if len(got) > maxDescriptions || len(got) < maxDescriptions*7/8 {
		t.Fatalf("%d are known", len(got))
	}
	for _, m := range []Metadata{family(0), family(499), family(maxDescriptions)} {
		if !slices.Contains(got, m) {
			t.Fatalf("%s is gone", m.Family)
		}
	}
	if slices.Contains(got, family(700)) {
		t.Fatal("the oldest is there")
	}
	closeDB(t, db)
	db = reopenDB(t, cfg)
	if now := known(t, db); len(now) > maxDescriptions || !slices.Contains(now, family(499)) {
		t.Fatalf("%d are known after a restart", len(now))
	}
}

func TestADescriptionThatNobodyRepeatsGivesWayToAnother(t *testing.T) {
	wall := newClock(start)
	db := openDB(t, func(c *Config) { c.Now = wall.now })
	old, now := family(1), family(1)
	now.Help = "Better words."
	keep(t, db, old)
	wall.advance(time.Hour)
	keep(t, db, now)
	if got := known(t, db); len(got) != 2 {
		t.Fatalf("two senders' descriptions: %v", got)
	}
	wall.advance(variantOutlasted)
	keep(t, db, now)
	expectKnown(t, db, now)
	for i := range 3 * maxVariants { // somebody who says something else each time
		one := family(1)
		one.Help = strings.Repeat("x", i+1)
		wall.advance(time.Minute)
		keep(t, db, one)
	}
	if got := known(t, db); len(got) > maxVariants {
		t.Fatalf("%d descriptions of one family", len(got))
	}
}

func TestTheMetadataLogIsMadeAnewWhenMostOfItIsOld(t *testing.T) {
	wall := newClock(start)
	cfg := Config{Dir: t.TempDir(), MinFree: -1, Now: wall.now}
	db := reopenDB(t, cfg)
	var all []Metadata
	for i := range 300 {
		all = append(all, family(i))
	}
	for range 40 {
		wall.advance(describedAgain)
		keep(t, db, all...)
	}
	content := 0
	for _, m := range all {
		content += m.cost()
	}
	if size := sizeOf(t, logOf(cfg)); size > int64(max(smallCatalog, catalogBloat*content)) {
		t.Fatalf("the log has %d bytes, its content %d", size, content)
	}
	closeDB(t, db)
	db = reopenDB(t, cfg)
	expectKnown(t, db, all...)
}

func FuzzCatalogRecord(f *testing.F) {
	f.Add(appendDescription(nil, description{family(1), 7}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, rest, ok := cutDescription(b)
		if !ok {
			return
		}
		again, _, ok := cutDescription(appendDescription(nil, d))
		if !ok || again != d || len(rest) >= len(b) {
			t.Fatalf("%v became %v", d, again)
		}
	})
}
