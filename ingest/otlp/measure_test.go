package otlp

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/muster-metrics/muster/ingest/wire"
)

// within puts a message into a field, again and again.
func within(m []byte, fields ...protowire.Number) []byte {
	for _, f := range fields {
		m = protowire.AppendBytes(protowire.AppendTag(nil, f, protowire.BytesType), m)
	}
	return m
}

// What decodes to the most for its bytes is known for what it is before it is
// decoded.
func TestMeasureBoundsWhatABodyBecomes(t *testing.T) {
	empty := func(f protowire.Number, n int) []byte {
		return []byte(strings.Repeat(string(within(nil, f)), n))
	}
	const n = 20_000
	for name, c := range map[string]struct {
		body   []byte
		isJSON bool
	}{
		"resources":       {empty(1, n), false},
		"old scopes":      {within(empty(1000, n), 1), false},
		"scopes":          {within(empty(2, n), 1), false},
		"metrics":         {within(empty(2, n), 2, 1), false},
		"gauges":          {within(empty(5, n), 2, 2, 1), false},
		"numbers":         {within(empty(1, n), 5, 2, 2, 1), false},
		"histograms":      {within(empty(1, n), 9, 2, 2, 1), false},
		"exponentials":    {within(empty(1, n), 10, 2, 2, 1), false},
		"summaries":       {within(empty(1, n), 11, 2, 2, 1), false},
		"quantiles":       {within(empty(6, n), 1, 11, 2, 2, 1), false},
		"attributes":      {within(empty(7, n), 1, 5, 2, 2, 1), false},
		"exemplars":       {within(empty(5, n), 1, 5, 2, 2, 1), false},
		"values":          {within(empty(1, n), 5, 2, 7, 1, 5, 2, 2, 1), false},
		"entities":        {within(empty(3, n), 1, 1), false},
		"keys":            {within(empty(3, n), 3, 1, 1), false},
		"buckets":         {within(within(make([]byte, n), 2), 8, 1, 10, 2, 2, 1), false},
		"everything":      {encoded(t, everything(), false), false},
		"JSON":            {encoded(t, everything(), true), true},
		"JSON resources":  {[]byte(`{"resourceMetrics":[{}` + strings.Repeat(",{}", n) + `]}`), true},
		"JSON numbers":    {[]byte(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{}` + strings.Repeat(",{}", n) + `]}}]}]}]}`), true},
		"JSON attributes": {[]byte(`{"resourceMetrics":[{"resource":{"attributes":[{}` + strings.Repeat(",{}", n) + `]}}]}`), true},
		"JSON buckets":    {[]byte(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{"bucketCounts":[1` + strings.Repeat(",1", n) + `]}]}}]}]}]}`), true},
	} {
		said, err := Measure(c.body, c.isJSON)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		md, err := decode(c.body, c.isJSON)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// what the test itself leaves behind is a few kilobytes
		if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > said+64<<10 {
			t.Errorf("%s: %d bytes become %d, said %d", name, len(c.body), kept, said)
		}
		runtime.KeepAlive(md)
	}
}

// A body can nest a million times in a few megabytes; a stack that deep ends the
// process.
func TestDeepBodiesAreNotDecoded(t *testing.T) {
	deep := func(n int) []byte {
		fields := []protowire.Number{}
		for range n {
			fields = append(fields, 1, 5)
		}
		return within(nil, append(fields, 2, 7, 1, 5, 2, 2, 1)...)
	}
	if _, err := Measure(deep(20), false); err != nil {
		t.Errorf("20 lists in lists: %v", err)
	}
	if _, err := Measure(deep(2000), false); !errors.Is(err, wire.ErrFraming) {
		t.Errorf("2000 lists in lists: %v", err)
	}
	text := strings.Repeat(`{"kvlistValue":{"values":[`, 9000) + strings.Repeat(`]}}`, 9000)
	if _, err := Measure([]byte(text), true); !errors.Is(err, wire.ErrFraming) {
		t.Errorf("JSON: %v", err)
	}
}

func TestMeasureReadsStringsOver(t *testing.T) {
	plain, _ := Measure([]byte(`{"a":"xxxxxxxxx"}`), true)
	tricky, err := Measure([]byte(`{"a":"{[,\"\\{,"}`), true)
	if plain != tricky || err != nil {
		t.Errorf("%d, %d, %v", plain, tricky, err)
	}
}

func FuzzLay(f *testing.F) {
	f.Add(encoded(f, everything(), false), false)
	f.Add(encoded(f, everything(), true), true)
	md, ms := scopeOf("service.name", "shop", "host.arch", "arm64")
	exponentialOf(ms, "exponential", 25)
	gauge(ms, "a", at-1_000_000, 1, "x", "y").Attributes().PutEmptyMap("map").PutEmptySlice("list").AppendEmpty().SetEmptyBytes().FromRaw([]byte{1})
	for _, isJSON := range []bool{false, true} {
		f.Add(encoded(f, md, isJSON), isJSON)
	}
	f.Fuzz(func(t *testing.T, body []byte, isJSON bool) {
		if size, err := Measure(body, isJSON); err != nil || size > 1<<24 {
			return
		}
		lim := taken
		lim.Bytes = 1 << 22
		l, err := lay(t, body, isJSON, lim)
		if err != nil {
			return
		}
		if l.points.Rejected() > l.points.Total {
			t.Errorf("%d of %d data points rejected", l.points.Rejected(), l.points.Total)
		}
		if len(l.points.of) != l.batch.Items() {
			t.Errorf("%d samples and exemplars, of %d is known whose they are", l.batch.Items(), len(l.points.of))
		}
		for i := range l.points.of {
			l.points.Refuse(i)
		}
		if l.points.Rejected() != l.points.Total { // each has a sample, stored or refused
			t.Errorf("%d of %d data points have a sample", l.points.Rejected(), l.points.Total)
		}
	})
}
