package prom

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

func shown(t testing.TB) *bed {
	b := newBed(t, 3, 3)
	key := b.tenant("a")
	for i := range 3 {
		b.write(key, labels.FromStrings("__name__", "m", "i", fmt.Sprint(i)), sample{ms(time.Minute), 1}, sample{ms(0), float64(i)})
	}
	b.write(key, labels.FromStrings("__name__", "other", "with.dot", "x"), sample{ms(0), 1})
	return b
}

func TestEndpoints(t *testing.T) {
	b := shown(t)
	now := base.Unix()
	for name, tc := range map[string]struct{ path, form, want string }{
		"instant": {"query", instant(`m{i="2"}`), fmt.Sprintf(`{"resultType":"vector","result":[{"metric":{"__name__":"m","i":"2"},"value":[%d,"2"]}]}`, now)},
		"scalar":  {"query", instant("1"), fmt.Sprintf(`{"resultType":"scalar","result":[%d,"1"]}`, now)},
		"string":  {"query", instant(`"x"`), fmt.Sprintf(`{"resultType":"string","result":[%d,"x"]}`, now)},
		"nothing": {"query", instant("nothing"), `{"resultType":"vector","result":[]}`},
		"range": {"query_range", fmt.Sprintf("query=sum(m)&start=%d&end=%d&step=1m", now-60, now), fmt.Sprintf(
			`{"resultType":"matrix","result":[{"metric":{},"values":[[%d,"3"],[%d,"3"]]}]}`, now-60, now)},
		"range of nothing":   {"query_range", fmt.Sprintf("query=nothing&start=%d&end=%d&step=60", now-60, now), `{"resultType":"matrix","result":[]}`},
		"time in RFC 3339":   {"query", "query=sum(m)&time=" + base.Format(time.RFC3339), fmt.Sprintf(`{"resultType":"vector","result":[{"metric":{},"value":[%d,"3"]}]}`, now)},
		"series":             {"series", `match[]=m{i="1"}&match[]={i=~"0|1"}`, `[{"__name__":"m","i":"0"},{"__name__":"m","i":"1"}]`},
		"series of a time":   {"series", fmt.Sprintf("match[]=m&start=%d&end=%d", now-7200, now-7000), `[]`},
		"names":              {"labels", "", `["__name__","i","with.dot"]`},
		"names by selector":  {"labels", "match[]=m", `["__name__","i"]`},
		"values":             {"label/__name__/values", "", `["m","other"]`},
		"values by selector": {"label/__name__/values", "match[]=m", `["m"]`},
		"escaped name":       {"label/U__with_2e_dot/values", "", `["x"]`},
		"no values":          {"label/nothing/values", "", `[]`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, m := range b.members {
				require.JSONEq(t, tc.want, ask(t, m.api.Tenant("a"), tc.path, tc.form).whole(t))
			}
		})
	}
}

func TestFormsArePostedToo(t *testing.T) {
	b := shown(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/query", strings.NewReader(instant("sum(m)")))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	require.Contains(t, record(t, b.members[0].api.Tenant("a"), r).whole(t), `"3"`)

	w := httptest.NewRecorder()
	b.members[0].api.ServeTenant(w, httptest.NewRequestWithContext(t.Context(), http.MethodDelete, "/api/v1/query", nil), "a")
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
}

func TestErrorsHaveTheirTypes(t *testing.T) {
	b := shown(t)
	now := base.Unix()
	h := b.members[0].api.Tenant("a")
	for name, tc := range map[string]struct {
		path, form string
		code       int
		kind       string
	}{
		"no query":         {"query", "", 400, "bad_data"},
		"syntax":           {"query", "query=sum(", 400, "bad_data"},
		"time":             {"query", "query=1&time=never", 400, "bad_data"},
		"time beyond all":  {"query", "query=1&time=1e300", 400, "bad_data"},
		"timeout":          {"query", "query=1&timeout=x", 400, "bad_data"},
		"partial":          {"query", "query=1&partial_response=perhaps", 400, "bad_data"},
		"limit":            {"query", "query=1&limit=-1", 400, "bad_data"},
		"no step":          {"query_range", "query=1&start=1&end=2", 400, "bad_data"},
		"step of zero":     {"query_range", "query=1&start=1&end=2&step=0", 400, "bad_data"},
		"too many points":  {"query_range", "query=1&start=1&end=20000&step=1", 400, "bad_data"},
		"end before start": {"query_range", "query=1&start=2&end=1&step=1", 400, "bad_data"},
		"no selector":      {"series", "", 400, "bad_data"},
		"bad selector":     {"series", "match[]=m{", 400, "bad_data"},
		"bad name":         {"label/%ff/values", "", 400, "bad_data"},
		"no endpoint":      {"nothing", "", 404, "not_found"},
		"matching":         {"query", instant(`m + on(x) group_left m`), 422, "execution"},
		"out of time":      {"query_range", fmt.Sprintf("query=sum(m)&start=%d&end=%d&step=1&timeout=0.0000001", now-600, now), 503, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ask(t, h, tc.path, tc.form)
			require.Equal(t, tc.code, got.code, "%s", got.Error)
			require.Equal(t, tc.kind, got.Type)
			require.Equal(t, "error", got.Status)
			require.NotEmpty(t, got.Error)
			require.False(t, got.complete)
		})
	}
}

func TestACallerThatLeaves(t *testing.T) {
	b := shown(t)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/query?"+instant("m"), nil)
	got := record(t, b.members[0].api.Tenant("a"), r)
	require.Equal(t, statusClosed, got.code)
	require.Equal(t, "canceled", got.Type)
	b.members[0].query("a", "m").whole(t) // nobody was taken for silent
}

func TestLimits(t *testing.T) {
	b := shown(t)
	h := b.members[0].api.Tenant("a")
	for path, form := range map[string]string{
		"query": instant("m", "limit", "2"), "series": "match[]=m&limit=2", "labels": "limit=2", "label/i/values": "limit=2",
	} {
		got := ask(t, h, path, form)
		require.Equal(t, []string{truncatedText}, got.Warnings, path)
		require.True(t, got.complete, path)
	}
	require.JSONEq(t, `["0","1"]`, string(ask(t, h, "label/i/values", "limit=2").Data))
	ask(t, h, "label/i/values", "limit=3").whole(t)

	cfg := b.members[0].api.cfg
	cfg.MaxSamples = 2
	got := ask(t, New(cfg).Tenant("a"), "query", instant("m[5m]"))
	require.Equal(t, "execution", got.Type, "%s", got.Error)
	cfg.MaxSamples, cfg.MaxBytes = 0, 100
	got = ask(t, New(cfg).Tenant("a"), "query", instant("m"))
	require.Equal(t, "execution", got.Type)
	require.Contains(t, got.Error, errTooMuch.Error())
	got = ask(t, New(cfg).Tenant("a"), "series", "match[]=m")
	require.Contains(t, got.Error, errTooMuch.Error())
}

func TestQueriesWaitForAPlace(t *testing.T) {
	b := shown(t)
	cfg := b.members[0].api.cfg
	cfg.Concurrency = 1
	api := New(cfg)
	api.gate <- struct{}{}
	got := ask(t, api.Tenant("a"), "query", instant("m", "timeout", "10ms"))
	require.Equal(t, "timeout", got.Type)
	<-api.gate
	ask(t, api.Tenant("a"), "query", instant("m")).whole(t)
}

func TestATenantThatIsNotKnownHasNothing(t *testing.T) {
	b := shown(t)
	require.JSONEq(t, `{"resultType":"vector","result":[]}`, b.members[0].query("nobody", "m").whole(t))
	require.JSONEq(t, `[]`, ask(t, b.members[0].api.Tenant("nobody"), "labels", "").whole(t))
	b.apply(ms(0), &clusterpb.Command{Change: &clusterpb.Command_DeleteTenant{DeleteTenant: &clusterpb.DeleteTenant{Id: "a"}}})
	require.JSONEq(t, `{"resultType":"vector","result":[]}`, b.members[0].query("a", "m").whole(t))
}

func TestWhatIsOlderThanTheRetentionIsNamed(t *testing.T) {
	b := shown(t)
	old := url.Values{"query": {"m"}, "time": {fmt.Sprint(base.Add(-16 * 24 * time.Hour).Unix())}}
	got := ask(t, b.members[0].api.Tenant("a"), "query", old.Encode())
	got.whole(t)
	require.Len(t, got.Infos, 1)
	require.Contains(t, got.Infos[0], base.Add(-15*24*time.Hour).Format(time.RFC3339))
	require.Contains(t, got.Infos[0], "Store Gateway")
}

func TestBuildInfo(t *testing.T) {
	b := shown(t)
	got := ask(t, b.members[0].api.AllTenants(), "status/buildinfo", "")
	require.Contains(t, string(got.Data), `"version":"1.2.3"`)
}

func TestPathsAreServed(t *testing.T) {
	b := shown(t)
	mux := http.NewServeMux()
	for _, p := range Paths() {
		mux.Handle(p, b.members[0].api.Tenant("a"))
	}
	ask(t, mux, "label/i/values", "").whole(t)
	ask(t, mux, "query", instant("m")).whole(t)
}

func TestRangesAndNames(t *testing.T) {
	require.Equal(t, "0-3,5,7-8", ranges([]int{8, 7, 0, 1, 2, 3, 5, 5}))
	require.Equal(t, "", ranges(nil))
	require.Equal(t, "the beginning", timeText(-farTime))
	require.Equal(t, "the end", timeText(farTime))
}
