package ingest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/prompb"

	"github.com/muster-metrics/muster/proto/peerpb"
)

// rewrite is a relabelling rule with Prometheus' defaults.
func rewrite(change func(*relabel.Config)) *relabel.Config {
	c := relabel.DefaultRelabelConfig
	change(&c)
	c.NameValidationScheme = model.UTF8Validation
	return &c
}

func dropping(name string) *relabel.Config {
	return rewrite(func(c *relabel.Config) {
		c.Action, c.SourceLabels, c.Regex = relabel.Drop, model.LabelNames{"__name__"}, relabel.MustNewRegexp(name)
	})
}

func setting(label, value string) *relabel.Config {
	return rewrite(func(c *relabel.Config) { c.TargetLabel, c.Replacement = label, value })
}

func without(name string) *relabel.Config {
	return rewrite(func(c *relabel.Config) { c.Action, c.Regex = relabel.LabelDrop, relabel.MustNewRegexp(name) })
}

// asked is one series of a request: its labels and a time.
func asked(at int64, pairs ...string) prompb.TimeSeries {
	ts := prompb.TimeSeries{Samples: []prompb.Sample{{Timestamp: at, Value: 1}}}
	for i := 0; i < len(pairs); i += 2 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return ts
}

func request(series ...prompb.TimeSeries) *prompb.WriteRequest {
	return &prompb.WriteRequest{Timeseries: series}
}

// has wants a tenant to have exactly these series on the node.
func (n *node) has(tenant string, want ...string) {
	n.t.Helper()
	got := slices.Sorted(maps.Keys(n.storage.content(tenant)))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		n.t.Errorf("%s has of %s %v, want %v", n.name, tenant, got, want)
	}
}

func TestATenantsRulesChangeAndDropItsSeries(t *testing.T) {
	n := single(t, nil, func(tn *Tenant) {
		tn.Relabel = []*relabel.Config{dropping("go_.*"), setting("cluster", "eu"), without("pod"), rewrite(func(c *relabel.Config) {
			c.SourceLabels, c.TargetLabel, c.Regex = model.LabelNames{"alias"}, "__name__", relabel.MustNewRegexp("(.+)")
		}), without("alias")}
		tn.Limits.LabelNames, tn.Limits.LabelValueLength = 3, 20
	})
	at := now()
	w := n.post(request(
		asked(at, "__name__", "go_gc", "job", "a"),
		asked(1, "__name__", "go_old", "job", "a"), // dropped before anybody asks how old it is
		asked(at, "__name__", "up", "job", "a", "pod", strings.Repeat("x", 30)),
		asked(at, "alias", "named", "job", "a"),
	))
	if w.Code != http.StatusNoContent {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	want := []string{`{__name__="up", cluster="eu", job="a"}`, `{__name__="named", cluster="eu", job="a"}`}
	n.has(tenantID, want...)
	if got := testutil.ToFloat64(n.ing.metrics.relabel.WithLabelValues(tenantID)); got != 2 {
		t.Errorf("%v samples dropped, want 2", got)
	}

	// What is wrong is judged by what the rules make of it, and the rest is stored.
	w = n.post(request(
		asked(at, "__name__", "more", "a", "1", "b", "2"),
		asked(at, "__name__", "long", "job", strings.Repeat("x", 21)),
		asked(1, "__name__", "old"),
		asked(at, "job", "nameless"),
		asked(at, "__name__", "good"),
	))
	for _, line := range []string{
		"4 of 5 samples refused for good, 1 stored", "more labels than label_names_per_series: 1, {__name__=\"more\", a=\"1\", b=\"2\", cluster=\"eu\"}",
		"label value longer than label_value_length: 1, ", "older than out_of_order_window: 1, ", "no metric name: 1, ",
	} {
		if !strings.Contains(w.Body.String(), line) {
			t.Errorf("the answer lacks %q: %s", line, w.Body)
		}
	}
	if w.Code != http.StatusBadRequest {
		t.Error(w.Code)
	}
	n.has(tenantID, append(want, `{__name__="good", cluster="eu"}`)...)
}

func TestWhatRulesDropIsNotCalledWritten(t *testing.T) {
	n := single(t, nil, func(tn *Tenant) { tn.Relabel = []*relabel.Config{dropping("go_.*")} })
	w := n.postV2(inV2(t, request(asked(now(), "__name__", "go_gc"), asked(now(), "__name__", "up"))))
	if w.Code != http.StatusNoContent || w.Header().Get("X-Prometheus-Remote-Write-Samples-Written") != "1" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

// split is a node whose requests are split by the label "team".
func split(t *testing.T, tenants map[string]Tenant, change func(*View)) *node {
	t.Helper()
	b := newBed(t, 1, nil)
	n := b.nodes[0]
	for id, tn := range tenants {
		tn.Incarnation, tn.Ring, tn.Routed, tn.OutOfOrderWindow, tn.FutureWindow = 1, 1, 1, max(tn.OutOfOrderWindow, time.Hour), 10*time.Minute
		tenants[id] = tn
	}
	v := b.view(n, 10, tableOf(t, 64, 1, 1, 1, 5), tenants)
	v.SplitLabel = "team"
	if change != nil {
		change(v)
	}
	n.ing.SetView(v)
	return n
}

func TestALabelSplitsARequest(t *testing.T) {
	n := split(t, map[string]Tenant{
		tenantID: {}, "a": {Relabel: []*relabel.Config{setting("by", "a")}}, "b": {OutOfOrderWindow: 5 * time.Hour},
	}, nil)
	at := now()
	old := at - 2*time.Hour.Milliseconds()
	n.mustPost(request(
		asked(at, "__name__", "up", "team", "a"), asked(at, "__name__", "up", "team", "b"), asked(at, "__name__", "up"),
		asked(at, "__name__", "down", "team", "b"), asked(old, "__name__", "old", "team", "b"),
	), http.StatusNoContent)
	n.has("a", `{__name__="up", by="a"}`)
	n.has("b", `{__name__="up"}`, `{__name__="down"}`, `{__name__="old"}`)
	n.has(tenantID, `{__name__="up"}`)

	// Each part is judged by its tenant's own limits.
	text := n.mustPost(request(asked(old, "__name__", "old", "team", "a"), asked(at+1, "__name__", "up", "team", "b")), http.StatusBadRequest)
	if !strings.Contains(text, "1 of 2 samples refused for good, 1 stored") || !strings.Contains(text, `tenant "a": older than out_of_order_window: 1, {__name__="old", by="a"}`) {
		t.Error(text)
	}
	if len(n.storage.content("b")[`{__name__="up"}`]) != 2 {
		t.Error("the good part is not stored")
	}
}

func TestAPartThatMayNotBeWrittenLeavesTheOthers(t *testing.T) {
	n := split(t, map[string]Tenant{tenantID: {}, "a": {}, "sam": {Suspended: true}}, func(v *View) {
		v.Admit = func(from, id string) error {
			switch {
			case from != tenantID:
				return fmt.Errorf("asked for %s", from)
			case id == "gone":
				return fmt.Errorf("tenant gone was deleted: %w", ErrTenantRefused)
			case strings.Contains(id, "/"):
				return fmt.Errorf("no: %w", ErrTenantName)
			}
			return nil
		}
	})
	at := now()
	text := n.mustPost(request(
		asked(at, "__name__", "up", "team", "gone"), asked(at, "__name__", "up", "team", "../a"), asked(at, "__name__", "up", "team", "sam"),
		asked(at, "__name__", "up", "team", "a"), asked(at, "__name__", "up"),
	), http.StatusBadRequest)
	for _, line := range []string{
		"3 of 5 samples refused for good, 2 stored", `tenant "gone": tenant gone was deleted`, `tenant "../a": no: not a tenant's id`, `tenant "sam": tenant "sam" is suspended`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the answer lacks %q: %s", line, text)
		}
	}
	n.has("a", `{__name__="up"}`)
	n.has(tenantID, `{__name__="up"}`)
	n.mustPost(request(asked(at, "__name__", "up", "team", "gone")), http.StatusForbidden)
	n.mustPost(request(asked(at, "__name__", "up", "team", "../a")), http.StatusBadRequest)

	many := request()
	for k := range maxParts {
		many.Timeseries = append(many.Timeseries, asked(at, "__name__", "up", "team", fmt.Sprintf("t%d", k)))
	}
	if text := n.mustPost(many, http.StatusRequestEntityTooLarge); !strings.Contains(text, "more than 1000 tenants in a request") {
		t.Error(text)
	}
}

func TestTenantsOfALabelAreCreated(t *testing.T) {
	var made sync.Map
	n := split(t, map[string]Tenant{tenantID: {}}, func(v *View) {
		v.AutoCreate = true
		known := v.Tenant
		v.Tenant = func(id string) (Tenant, bool) {
			if _, ok := made.Load(id); ok {
				return known(tenantID)
			}
			return known(id)
		}
	})
	n.ing.ensure = ensurer(func(_ context.Context, id string) error { made.Store(id, true); return nil })
	req := request()
	for k := range 40 {
		req.Timeseries = append(req.Timeseries, asked(now(), "__name__", "up", "team", fmt.Sprintf("t%d", k)))
	}
	n.mustPost(req, http.StatusNoContent)
	for k := range 40 {
		n.has(fmt.Sprintf("t%d", k), `{__name__="up"}`)
	}
}

func TestOnePartWithoutAQuorumIsAskedForAgain(t *testing.T) {
	n := split(t, map[string]Tenant{tenantID: {}, "a": {}, "b": {}}, nil)
	n.storage.set(func(s *promStorage) {
		s.gate = func(tenant string) error {
			if tenant == "b" {
				return fmt.Errorf("disk full")
			}
			return nil
		}
		s.judge = func(ls labels.Labels) peerpb.Outcome {
			if ls.Get("__name__") == "bad" {
				return peerpb.Outcome_CONFLICT
			}
			return peerpb.Outcome_STORED
		}
	})
	text := n.mustPost(request(
		asked(now(), "__name__", "up", "team", "a"), asked(now(), "__name__", "up", "team", "b"), asked(now(), "__name__", "bad"),
	), http.StatusServiceUnavailable)
	for _, line := range []string{"1 of 3 samples lack their quorum", `tenant "b": n1: disk full: 1, `, `tenant "team-a": another value is held at that time: 1, `} {
		if !strings.Contains(text, line) {
			t.Errorf("the answer lacks %q: %s", line, text)
		}
	}
	n.has("a", `{__name__="up"}`)
}

// TestARecastRequestGivesEverythingBack: rooms and buffers, whatever became of it.
func TestARecastRequestGivesEverythingBack(t *testing.T) {
	poison.Store(true)
	defer poison.Store(false)
	n := split(t, map[string]Tenant{tenantID: {}, "a": {Relabel: []*relabel.Config{setting("x", strings.Repeat("y", 200))}}}, nil)
	for k := range int64(50) {
		req := request()
		for s := range 100 {
			req.Timeseries = append(req.Timeseries, asked(now()+k, "__name__", "up", "n", fmt.Sprint(s), "team", "a"))
		}
		n.mustPost(req, http.StatusNoContent)
	}
	if got := n.storage.count("a"); got != 5000 {
		t.Errorf("%d samples, want 5000", got)
	}
	eventually(t, "everything is given back", func() bool {
		inside, _ := n.ing.admission.decoded.held()
		return inside == 0
	})
}
