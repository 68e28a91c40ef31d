package prom

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/tsdb"
)

// newAnnexBed is a bed of which every member speaks of exemplars and metadata.
func newAnnexBed(t testing.TB, n, rf int) *bed {
	b := newBed(t, n, rf)
	b.apply(ms(time.Hour), &clusterpb.Command{Change: &clusterpb.Command_RaiseVersion{RaiseVersion: &clusterpb.RaiseVersion{Version: uint32(cluster.Exemplars)}}})
	return b
}

// exemplarShare is the exemplars of one series for tsdb.AppendExemplars.
type exemplarShare struct {
	labels []byte
	all    []exemplar.Exemplar
	begun  bool
}

func (s *exemplarShare) Labels() []byte { return s.labels }
func (s *exemplarShare) Hash() uint64   { return xxhash.Sum64(s.labels) }
func (s *exemplarShare) Next() bool     { first := !s.begun; s.begun = true; return first }
func (s *exemplarShare) Exemplar() ([]byte, int64, float64, bool) {
	if len(s.all) == 0 {
		return nil, 0, 0, false
	}
	e := s.all[0]
	s.all = s.all[1:]
	return labelBytes(e.Labels), e.Ts, e.Value, true
}

// mark stores exemplars of a series at one member.
func (m *member) mark(key tsdb.Key, ls labels.Labels, all ...exemplar.Exemplar) {
	t := m.bed.t
	t.Helper()
	out := make([]tsdb.Outcome, len(all))
	require.NoError(t, m.db.AppendExemplars(t.Context(), key, &exemplarShare{labels: labelBytes(ls), all: all}, out))
	for i, o := range out {
		require.Equal(t, tsdb.Stored, o, "exemplar %d at %s", i, m.name)
	}
}

func traced(id string, before time.Duration, v float64) exemplar.Exemplar {
	return exemplar.Exemplar{Labels: labels.FromStrings("trace_id", id), Value: v, Ts: ms(before)}
}

func examplesOf(expr string, more ...string) string {
	v := url.Values{"query": {expr}, "start": {fmt.Sprint(base.Add(-10 * time.Minute).Unix())}, "end": {fmt.Sprint(base.Unix())}}
	for i := 0; i+1 < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return v.Encode()
}

func TestExemplarsOfAllReplicasAreOneAnswer(t *testing.T) {
	for _, nodes := range []int{3, 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			b := newAnnexBed(t, nodes, 3)
			key, other := b.tenant("a"), b.tenant("b")
			ls := labels.FromStrings("__name__", "m", "i", "1")
			for _, k := range []tsdb.Key{key, other} {
				b.write(k, ls, sample{ms(0), 1})
			}
			replicas := b.replicas(key, ls)
			for i, m := range replicas { // each lacks another one
				all := []exemplar.Exemplar{traced("x", 3*time.Minute, 1), traced("y", 2*time.Minute, math.Inf(1)), traced("z", time.Minute, 0.25)}
				m.mark(key, ls, append(all[:i:i], all[i+1:]...)...)
			}
			for _, m := range b.replicas(other, ls) {
				m.mark(other, ls, traced("o", time.Minute, 9))
			}
			at := func(before time.Duration) string { return fmt.Sprint(base.Add(-before).Unix()) }
			want := `[{"seriesLabels":{"__name__":"m","i":"1"},"exemplars":[` +
				`{"labels":{"trace_id":"x"},"value":"1","timestamp":` + at(3*time.Minute) + `},` +
				`{"labels":{"trace_id":"y"},"value":"+Inf","timestamp":` + at(2*time.Minute) + `},` +
				`{"labels":{"trace_id":"z"},"value":"0.25","timestamp":` + at(time.Minute) + `}]}]`
			for _, m := range b.members {
				require.Equal(t, want, ask(t, m.api.Tenant("a"), "query_exemplars", examplesOf(`rate(m{i="1"}[5m])`)).whole(t), "at %s", m.name)
				require.Equal(t, "[]", ask(t, m.api.Tenant("a"), "query_exemplars", examplesOf(`n + m{i="2"}`)).whole(t))
				require.Equal(t, "[]", ask(t, m.api.Tenant("nobody"), "query_exemplars", examplesOf(`m`)).whole(t))
				one := ask(t, m.api.AllTenants(), "query_exemplars", examplesOf(`m{tenant_id="b"}`)).whole(t)
				require.Equal(t, `[{"seriesLabels":{"__name__":"m","i":"1","tenant_id":"b"},"exemplars":[{"labels":{"trace_id":"o"},"value":"9","timestamp":`+at(time.Minute)+`}]}]`, one)
				both := ask(t, m.api.AllTenants(), "query_exemplars", examplesOf(`m`)).whole(t)
				require.Contains(t, both, `"tenant_id":"a"`)
				require.Contains(t, both, `"tenant_id":"b"`)
			}
			// One of three may be missing, two may not, and that is said.
			replicas[0].stop()
			asked := replicas[2]
			require.Equal(t, want, ask(t, asked.api.Tenant("a"), "query_exemplars", examplesOf("m")).whole(t))
			replicas[1].stop()
			r := ask(t, asked.api.Tenant("a"), "query_exemplars", examplesOf("m"))
			require.Equal(t, http.StatusServiceUnavailable, r.code)
			require.Equal(t, "unavailable", r.Type)
			r = ask(t, asked.api.Tenant("a"), "query_exemplars", examplesOf("m", "partial_response", "true"))
			require.Equal(t, http.StatusOK, r.code)
			require.False(t, r.complete)
			require.NotEmpty(t, r.Warnings)
			require.Contains(t, string(r.Data), `"y"`)
		})
	}
}

func TestExemplarsTravelInParts(t *testing.T) {
	b := newAnnexBed(t, 2, 1)
	key := b.tenant("a")
	ls := labels.FromStrings("__name__", "m")
	b.write(key, ls, sample{ms(0), 1})
	held := b.replicas(key, ls)[0]
	const n = 15_000 // above a megabyte
	all := make([]exemplar.Exemplar, n)
	for i := range all {
		all[i] = traced(fmt.Sprintf("%0100d", i), time.Duration(n-i)*time.Millisecond, float64(i))
	}
	held.mark(key, ls, all...)
	for _, m := range b.members {
		got := ask(t, m.api.Tenant("a"), "query_exemplars", examplesOf("m")).whole(t)
		require.Contains(t, got, fmt.Sprintf("%0100d", 0))
		require.Contains(t, got, fmt.Sprintf("%0100d", n-1))
		require.Equal(t, n, strings.Count(got, `"trace_id"`))
	}
}

func TestExemplarQueriesThatCannotBeRead(t *testing.T) {
	b := newAnnexBed(t, 1, 1)
	h := b.members[0].api.Tenant("a")
	for _, form := range []string{"query=", "query=m{", "query=m&start=x", "query=m&start=2&end=1"} {
		r := ask(t, h, "query_exemplars", form)
		require.Equal(t, http.StatusBadRequest, r.code, form)
		require.Equal(t, "bad_data", r.Type, form)
	}
	for _, form := range []string{"limit=x", "limit=-1", "limit_per_metric=x"} {
		require.Equal(t, http.StatusBadRequest, ask(t, h, "metadata", form).code, form)
	}
}

func TestMetadataOfAllMembersIsOneAnswer(t *testing.T) {
	b := newAnnexBed(t, 3, 3)
	key, other := b.tenant("a"), b.tenant("b")
	keep := func(m *member, k tsdb.Key, all ...tsdb.Metadata) {
		require.NoError(t, m.db.AppendMetadata(t.Context(), k, all))
	}
	first := tsdb.Metadata{Family: "m", Type: "counter", Help: "Things.", Unit: "bytes"}
	second := first
	second.Help = "Other things."
	keep(b.members[0], key, first)
	keep(b.members[1], key, first, second)
	keep(b.members[2], key, tsdb.Metadata{Family: "n", Type: "gauge"})
	keep(b.members[2], other, tsdb.Metadata{Family: "o", Type: "info"})
	for _, m := range b.members {
		get := func(h http.Handler, form string) reply { return ask(t, h, "metadata", form) }
		require.JSONEq(t, `{"m":[{"type":"counter","help":"Other things.","unit":"bytes"},{"type":"counter","help":"Things.","unit":"bytes"}],
			"n":[{"type":"gauge","help":"","unit":""}]}`, get(m.api.Tenant("a"), "").whole(t))
		require.JSONEq(t, `{"n":[{"type":"gauge","help":"","unit":""}]}`, get(m.api.Tenant("a"), "metric=n").whole(t))
		require.JSONEq(t, `{}`, get(m.api.Tenant("a"), "metric=o").whole(t), "another tenant's")
		require.JSONEq(t, `{}`, get(m.api.Tenant("nobody"), "").whole(t))
		require.Contains(t, get(m.api.AllTenants(), "").whole(t), `"o"`)
		cut := get(m.api.Tenant("a"), "limit=1&limit_per_metric=1")
		require.JSONEq(t, `{"m":[{"type":"counter","help":"Other things.","unit":"bytes"}]}`, string(cut.Data))
		require.Equal(t, []string{truncatedText}, cut.Warnings)
	}
	b.members[1].stop()
	b.members[2].stop()
	require.Equal(t, http.StatusServiceUnavailable, ask(t, b.members[0].api.Tenant("a"), "metadata", "").code)
}

// A member of an older release cannot be asked: nobody has stored anything then.
func TestOlderMembersAreNotAskedForExemplars(t *testing.T) {
	b := newBed(t, 3, 3)
	b.tenant("a")
	for _, m := range b.members[1:] {
		m.hook = func() { t.Errorf("%s is asked", m.name) }
	}
	require.Equal(t, "[]", ask(t, b.members[0].api.Tenant("a"), "query_exemplars", examplesOf("m")).whole(t))
	require.Equal(t, "{}", ask(t, b.members[0].api.Tenant("a"), "metadata", "").whole(t))
}
