package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/muster-metrics/muster/ingest/wire"
)

// oracle is a storage behind Prometheus' own OTLP endpoint.
type oracle struct{ samples, exemplars, families []string }

func (o *oracle) AppenderV2(context.Context) storage.AppenderV2 { return o }
func (*oracle) Commit() error                                   { return nil }
func (*oracle) Rollback() error                                 { return nil }

func (o *oracle) Append(_ storage.SeriesRef, ls labels.Labels, _, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, with storage.AOptions) (storage.SeriesRef, error) {
	for _, e := range with.Exemplars {
		o.exemplars = append(o.exemplars, line(ls, e.Ts, e.Value)+" "+e.Labels.String())
	}
	family := fmt.Sprintf("%s %s %s %s", with.MetricFamilyName, with.Metadata.Type, with.Metadata.Unit, with.Metadata.Help)
	if len(o.families) == 0 || o.families[len(o.families)-1] != family {
		o.families = append(o.families, family)
	}
	if h == nil && fh == nil {
		o.samples = append(o.samples, line(ls, t, v))
	} else {
		o.samples = append(o.samples, histogramLine(ls, t, h, fh))
	}
	return 1, nil
}

// prometheus is what Prometheus stores of a request.
func prometheus(t *testing.T, body []byte, media string) *oracle {
	t.Helper()
	o := &oracle{}
	h := remote.NewOTLPWriteHandler(slog.New(slog.DiscardHandler), nil, o, func() config.Config { return config.DefaultConfig }, remote.OTLPOptions{})
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	r.Header.Set("Content-Type", media)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("Prometheus says %d %s", w.Code, w.Body)
	}
	return o
}

// Whoever moves from Prometheus' endpoint to this one keeps each series.
func TestSamplesAreThoseThatPrometheusStores(t *testing.T) {
	for media, isJSON := range map[string]bool{"application/x-protobuf": false, "application/json": true} {
		body := encoded(t, everything(), isJSON)
		want := prometheus(t, body, media)
		got, err := lay(t, body, isJSON, taken)
		if err != nil {
			t.Fatal(err)
		}
		for what, lists := range map[string][2][]string{
			"samples": {got.samples, want.samples}, "exemplars": {got.exemplars, want.exemplars}, "families": {got.families, want.families},
		} {
			if len(lists[1]) < 6 || !slices.Equal(lists[0], lists[1]) {
				t.Errorf("%s in %s:\n%s\nwant\n%s", what, media, strings.Join(lists[0], "\n"), strings.Join(lists[1], "\n"))
			}
		}
		if got.points.Total != everything().DataPointCount() || got.points.Rejected() != 0 {
			t.Errorf("%d of %d data points rejected", got.points.Rejected(), got.points.Total)
		}
	}
}

func TestSettingsAreThoseOfPrometheus(t *testing.T) {
	d := config.DefaultOTLPConfig
	got := [...]bool{settings.AddMetricSuffixes, settings.AllowUTF8, settings.KeepIdentifyingResourceAttributes, settings.ConvertHistogramsToNHCB, settings.PromoteScopeMetadata, settings.LabelNameUnderscoreSanitization, settings.LabelNamePreserveMultipleUnderscores}
	want := [...]bool{d.TranslationStrategy.ShouldAddSuffixes(), !d.TranslationStrategy.ShouldEscape(), d.KeepIdentifyingResourceAttributes, d.ConvertHistogramsToNHCB, d.PromoteScopeMetadata, d.LabelNameUnderscoreSanitization, d.LabelNamePreserveMultipleUnderscores}
	if got != want {
		t.Errorf("%v, Prometheus has %v: its users' series would have other names here", got, want)
	}
}

// Each sample of a batch belongs to one data point, however many it has.
func TestADataPointIsRejectedOnce(t *testing.T) {
	md, ms := scopeOf("service.name", "shop", "host.arch", "arm64")
	quantiles(ms, "gc.pause", 2)
	classic(ms, "latency", 3)
	counter(ms, "io", pmetric.AggregationTemporalityCumulative, 5, 6)
	quantiles(ms, "again", 1)
	exponentialOf(ms, "size", 3)
	exponentialOf(ms, "size", 4)
	l := mustLay(t, md)
	for i := range l.points.of {
		one := *l.points
		one.Refuse(i)
		if want := 1; strings.Contains(l.samples[i], "target_info") {
			if one.Rejected() != 0 {
				t.Errorf("%s is no data point", l.samples[i])
			}
		} else if one.Rejected() != want {
			t.Errorf("%s rejects %d data points", l.samples[i], one.Rejected())
		}
	}
	points := map[uint32]int{}
	for _, p := range l.points.of {
		points[p]++
	}
	// summaries: sum, count, two quantiles; histograms: perhaps a sum, count, four buckets
	want := map[uint32]int{0: 4, 1: 4, 2: 6, 3: 5, 4: 6, 5: 1, 6: 1, 7: 4, 8: 1, 9: 1, none: 1}
	for p, n := range want {
		if points[p] != n {
			t.Errorf("data point %d has %d samples, want %d", p, points[p], n)
		}
	}
	if len(points) != len(want) {
		t.Errorf("%d data points, want %d", len(points), len(want))
	}
}

func TestWhatIsNoRequestFailsAsAWhole(t *testing.T) {
	good := encoded(t, everything(), false)
	for name, c := range map[string]struct {
		body   string
		isJSON bool
	}{
		"cut":              {string(good[:len(good)-3]), false},
		"text":             {"hello", false},
		"wrong type":       {"\x08\x01", false},
		"JSON, cut":        {`{"resourceMetrics":[`, true},
		"JSON, a list":     {`[]`, true},
		"JSON, wrong type": {`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":5}]}]}]}`, true},
	} {
		_, err := Measure([]byte(c.body), c.isJSON)
		if err == nil {
			_, err = lay(t, []byte(c.body), c.isJSON, taken)
		}
		if !errors.Is(err, wire.ErrFraming) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLimitsOfARequestHold(t *testing.T) {
	body := encoded(t, everything(), false)
	for name, change := range map[string]func(*wire.Limits){
		"series":  func(l *wire.Limits) { l.Series = 20 },
		"samples": func(l *wire.Limits) { l.Samples = 20 },
		"bytes":   func(l *wire.Limits) { l.Bytes = 500 },
	} {
		lim := taken
		change(&lim)
		var large *wire.TooLarge
		if _, err := lay(t, body, false, lim); !errors.As(err, &large) || !strings.Contains(large.What, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARequestThatNobodyWaitsForEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	md, ms := scopeOf("service.name", "shop")
	for range 1000 {
		gauge(ms, "queue.length", at, 3)
	}
	if _, _, err := Lay(ctx, encoded(t, md, false), false, taken, &wire.Batch{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
