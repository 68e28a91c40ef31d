package ingest

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// journal is a log without times, as a test reads it.
func journal() (*slog.Logger, func() []string) {
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	return log, func() []string {
		defer b.Reset()
		return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	}
}

func TestARefusalMakesALineAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, lines := journal()
		c := &complaints{log: log}
		expect := func(want ...string) {
			t.Helper()
			if got := lines(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v\nhave %q\nwant %q", time.Now(), got, want)
			}
		}
		line := func(level, tenant, kind string, status, requests, samples int) string {
			return fmt.Sprintf(`level=%s msg="writes refused" tenant=%s kind=%q status=%d requests=%d samples=%d example=first`, level, tenant, kind, status, requests, samples)
		}
		for range 100 {
			c.note("a", "no metric name", 400, 2, "first")
		}
		expect(line("INFO", "a", "no metric name", 400, 1, 2))
		c.note("b", "no metric name", 400, 1, "first")
		c.note("a", "no quorum", 503, 5, "first")
		expect(line("INFO", "b", "no metric name", 400, 1, 1), line("WARN", "a", "no quorum", 503, 1, 5))
		time.Sleep(59 * time.Second)
		c.sweep()
		c.note("a", "no metric name", 400, 2, "first")
		expect("")
		time.Sleep(time.Second)
		c.sweep()
		expect(line("INFO", "a", "no metric name", 400, 100, 200))
		time.Sleep(time.Minute)
		c.sweep()
		expect("")
		if len(c.kept) != 0 {
			t.Errorf("%d kept though nothing came for a minute", len(c.kept))
		}
		c.note("a", "no metric name", 400, 2, "first")
		time.Sleep(time.Hour)
		c.note("a", "no metric name", 400, 3, "first")
		expect(line("INFO", "a", "no metric name", 400, 1, 2), line("INFO", "a", "no metric name", 400, 1, 3))
	})
}

func TestComplaintsAreBounded(t *testing.T) {
	c := &complaints{log: slog.New(slog.DiscardHandler)}
	for i := range complaintsKept + 100 {
		c.note(fmt.Sprint(i), "kind", 400, 1, "")
	}
	if len(c.kept) != complaintsKept {
		t.Errorf("%d kept", len(c.kept))
	}
}

// TestEveryKindOfRefusalHasItsLine sends what is refused, each kind many times.
func TestEveryKindOfRefusalHasItsLine(t *testing.T) {
	n := single(t, nil, func(tn *Tenant) { tn.Limits = Limits{SeriesPerRequest: 50} })
	log, lines := journal()
	n.ing.complaints.log = log
	n.storage.judge = func(ls labels.Labels) peerpb.Outcome {
		switch ls.Get("instance") {
		case "host-0001":
			return peerpb.Outcome_SERIES_LIMIT
		case "host-0002":
			return peerpb.Outcome_FAILED
		}
		return peerpb.Outcome_STORED
	}
	for range 20 {
		old := samplesOf(1, 5, 1)
		old.Timeseries[0].Labels[1].Value = strings.Repeat("long", 100)
		n.mustPost(samplesOf(1, now(), 1), http.StatusNoContent)
		n.mustPost(old, http.StatusBadRequest)
		n.mustPost(samplesOf(2, now(), 1), http.StatusBadRequest)
		n.mustPost(samplesOf(3, now(), 1), http.StatusServiceUnavailable)
		n.mustPost(samplesOf(51, now(), 1), http.StatusRequestEntityTooLarge)
		if w := n.postRaw([]byte("nonsense")); w.Code != http.StatusBadRequest {
			t.Fatal(w.Code, w.Body)
		}
		if w := n.post(samplesOf(1, now(), 1), header("Content-Type", "text/html")); w.Code != http.StatusUnsupportedMediaType {
			t.Fatal(w.Code, w.Body)
		}
	}
	got := lines()
	for _, kind := range []string{
		`kind="older than out_of_order_window" status=400 requests=1 samples=1 example=`,
		`kind="series would be new and active_series is reached" status=400 requests=1 samples=1`,
		`kind="no quorum" status=503 requests=1 samples=1`,
		`kind="too large" status=413`,
		`kind=malformed status=400`,
		`kind="form that is not taken" status=415`,
	} {
		found := 0
		for _, l := range got {
			if strings.Contains(l, kind) && strings.Contains(l, "tenant="+tenantID) && len(l) < 500 {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d lines with %s: %q", found, kind, got)
		}
	}
	if len(got) != 6 {
		t.Errorf("%d lines: %q", len(got), got)
	}
}
