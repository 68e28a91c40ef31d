package prom

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/muster-metrics/muster/proto/clusterpb"
	"github.com/muster-metrics/muster/proto/peerpb"
	"github.com/muster-metrics/muster/ring"
	"github.com/muster-metrics/muster/tsdb"
)

// load writes forty series of four samples, and says what a sum must give.
func load(b *bed, key tsdb.Key) {
	for i := range 40 {
		ls := labels.FromStrings("__name__", "m", "i", fmt.Sprint(i))
		b.write(key, ls, sample{ms(3 * time.Minute), 1}, sample{ms(2 * time.Minute), 2}, sample{ms(time.Minute), 3}, sample{ms(0), float64(i)})
	}
}

const queries = `sum(m) | count(m) | sum(rate(m[3m])) | sort_desc(m{i=~"1.*"}) | m{i="7"}[3m] | absent(nothing) | 1+1`

func answers(m *member, t testing.TB) string {
	t.Helper()
	var out []string
	for q := range strings.SplitSeq(queries, "|") {
		out = append(out, m.query("a", strings.TrimSpace(q)).whole(t))
	}
	return strings.Join(out, "\n")
}

func TestEveryNodeGivesTheSameAnswerWithAnyOneSilent(t *testing.T) {
	for _, nodes := range []int{3, 5} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			b := newBed(t, nodes, 3)
			load(b, b.tenant("a"))
			want := answers(b.members[0], t)
			require.Contains(t, want, `"780"`)
			require.Contains(t, want, `"40"`)
			for _, m := range b.members[1:] {
				require.Equal(t, want, answers(m, t), "asked at %s", m.name)
			}
			for _, silent := range b.members {
				silent.stop()
				for _, m := range b.members {
					if m != silent {
						require.Equal(t, want, answers(m, t), "asked at %s without %s", m.name, silent.name)
					}
				}
				silent.serve(silent.reader)
			}
		})
	}
}

func TestANodeWithoutAReplicaAnswers(t *testing.T) {
	b := newBed(t, 5, 3)
	key := b.tenant("a")
	ls := labels.FromStrings("__name__", "m")
	b.write(key, ls, sample{ms(0), 7})
	holds := map[*member]bool{}
	for _, m := range b.replicas(key, ls) {
		holds[m] = true
	}
	require.Len(t, holds, 3)
	for _, m := range b.members {
		if !holds[m] {
			require.Zero(t, m.db.Series(key))
			require.Contains(t, m.query("a", "m").whole(t), `"7"`)
		}
	}
}

func TestTwoSilentStoresMakeAnAnswerIncomplete(t *testing.T) {
	b := newBed(t, 3, 3)
	load(b, b.tenant("a"))
	b.members[1].stop()
	b.members[2].stop()
	text := b.members[0].query("a", "sum(m)").lacking(t)
	require.Contains(t, text, `ring "main" slots 0-15: 1 of 2 needed stores answered, missing n2, n3`)
	require.Contains(t, text, base.Format(time.RFC3339))

	part := b.members[0].query("a", "sum(m)", "partial_response", "true")
	require.Equal(t, http.StatusOK, part.code)
	require.False(t, part.complete)
	require.Equal(t, []string{text}, part.Warnings)
	require.Contains(t, string(part.Data), `"780"`, "what the one store has is all there is")

	require.Contains(t, b.members[0].query("a", "1+1").whole(t), `"2"`, "no select, nothing to lack")
	require.Contains(t, ask(t, b.members[0].api.Tenant("a"), "series", "match[]=m").lacking(t), "n2, n3")
	require.Contains(t, ask(t, b.members[0].api.Tenant("a"), "labels", "").lacking(t), "n2, n3")
}

func TestAtTwoCopiesNoneMayBeSilent(t *testing.T) {
	b := newBed(t, 2, 2)
	load(b, b.tenant("a"))
	b.members[0].query("a", "sum(m)").whole(t)
	b.members[1].stop()
	require.Contains(t, b.members[0].query("a", "sum(m)").lacking(t), "missing n2")
}

func TestAHungMemberIsSilentAfterItsTime(t *testing.T) {
	b := newBed(t, 3, 3, func(c *Config) { c.MemberTimeout = 2 * time.Second })
	load(b, b.tenant("a"))
	asked := b.members[0]
	want := asked.query("a", "sum(m) + sum(m) + count(m)").whole(t)
	b.members[2].hang()
	for range 3 { // the later ones wait for a tenth of the time
		require.Equal(t, want, asked.query("a", "sum(m) + sum(m) + count(m)").whole(t))
	}
	ask(t, asked.api.Tenant("a"), "labels", "").whole(t)
	require.Equal(t, 200*time.Millisecond, asked.api.members.patience("n3"))
	require.Equal(t, 2*time.Second, asked.api.members.patience("n2"))
	b.members[1].hang()
	require.Contains(t, asked.query("a", "sum(m)").lacking(t), "n2, n3")

	asked.api.members.now = func() time.Time { return base.Add(time.Minute) }
	b.members[2].serve(b.members[2].reader)
	require.Equal(t, want, asked.query("a", "sum(m) + sum(m) + count(m)").whole(t), "it is asked again")
	require.Equal(t, 2*time.Second, asked.api.members.patience("n3"))
}

// cutting ends its answer without saying whose it was.
type cutting struct {
	peerpb.UnimplementedReadServer
	from *Reader
}

func (c cutting) Select(req *peerpb.SelectRequest, s grpc.ServerStreamingServer[peerpb.SelectResponse]) error {
	return c.from.read(s.Context(), req, func(r *peerpb.SelectResponse) error {
		r.Provenance = nil
		return s.Send(r)
	})
}

// lying sends what no store would.
type lying struct {
	peerpb.UnimplementedReadServer
	series []*peerpb.Series
	id     []byte
}

func (l lying) Select(_ *peerpb.SelectRequest, s grpc.ServerStreamingServer[peerpb.SelectResponse]) error {
	return s.Send(&peerpb.SelectResponse{Series: l.series, Provenance: &peerpb.Provenance{
		Stores: []*peerpb.StoreAnswer{{Store: l.id, Replayed: true}},
	}})
}

func TestAnswersThatDoNotCount(t *testing.T) {
	name := func(s string) []byte { return labelBytes(labels.FromStrings("__name__", s)) }
	for what, spoil := range map[string]func(m *member){
		"cut":             func(m *member) { m.serve(cutting{from: m.reader}) },
		"not replayed":    func(m *member) { m.status = func(s tsdb.Status) tsdb.Status { s.Replayed = false; return s } },
		"a gap":           func(m *member) { m.status = gap(ms(2*time.Minute), ms(time.Minute)) },
		"a gap, by slack": func(m *member) { m.status = gap(ms(-time.Hour), ms(-2*time.Hour)) },
		"another store":   func(m *member) { m.serve(lying{id: []byte("somebody else's.")}) },
		"out of order": func(m *member) {
			m.serve(lying{series: []*peerpb.Series{{Labels: name("z")}, {Labels: name("a")}}, id: m.id[:]})
		},
		"bad labels": func(m *member) { m.serve(lying{series: []*peerpb.Series{{Labels: []byte{9, 'a'}}}, id: m.id[:]}) },
		"bad chunk": func(m *member) {
			m.serve(lying{series: []*peerpb.Series{{Labels: name("m"), Chunks: []*peerpb.Chunk{{Encoding: 1}}}}, id: m.id[:]})
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBed(t, 3, 3)
			load(b, b.tenant("a"))
			want := b.members[0].query("a", "sum(m)").whole(t)
			spoil(b.members[1])
			require.Equal(t, want, b.members[0].query("a", "sum(m)").whole(t), "one may be missing")
			b.members[2].stop()
			require.Contains(t, b.members[0].query("a", "sum(m)").lacking(t), "missing n2, n3")
		})
	}
}

func gap(mint, maxt int64) func(tsdb.Status) tsdb.Status {
	return func(s tsdb.Status) tsdb.Status {
		s.Gaps = append(s.Gaps, tsdb.Interval{Mint: min(mint, maxt), Maxt: max(mint, maxt)})
		return s
	}
}

func TestAGapElsewhereInTimeDoesNotMatter(t *testing.T) {
	b := newBed(t, 3, 3)
	load(b, b.tenant("a"))
	b.members[1].status = gap(ms(30*24*time.Hour), ms(29*24*time.Hour))
	b.members[2].stop()
	b.members[0].query("a", "sum(m)").whole(t)
}

func TestReplicasAreMergedIntoOneHistory(t *testing.T) {
	b := newBed(t, 3, 3)
	key := b.tenant("a")
	ls := labels.FromStrings("__name__", "m")
	r := b.replicas(key, ls)
	stale := math.Float64frombits(value.StaleNaN)
	at := func(i int, v float64) sample { return sample{ms(time.Minute) + int64(i)*1000, v} }
	r[0].write(key, ls, at(1, 1), at(3, 3), at(4, 4), at(5, stale))
	r[1].write(key, ls, at(2, 2), at(3, 3), at(4, 40), at(5, 5))
	r[2].write(key, ls, at(1, 1), at(2, 2), at(4, -4), at(5, 5))
	var want []string
	for i, v := range []int{1, 2, 3, -4, 5} {
		want = append(want, fmt.Sprintf(`[%d,"%d"]`, at(i+1, 0).t/1000, v))
	}
	for _, m := range b.members {
		require.JSONEq(t, `{"resultType":"matrix","result":[{"metric":{"__name__":"m"},"values":[`+strings.Join(want, ",")+`]}]}`,
			m.query("a", "m[5m]").whole(t))
	}
}

// TestOldOwnersAreAskedForOldTimes: after a slot has moved, its past belongs to
// the store it left, which counts for the time in which it held the slot.
func TestOldOwnersAreAskedForOldTimes(t *testing.T) {
	b := newBed(t, 4, 3)
	key := b.tenant("a")
	ls := labels.FromStrings("__name__", "m")
	b.write(key, ls, sample{ms(time.Minute), 1})
	old := b.replicas(key, ls)
	var from, to *member
	for _, m := range b.members {
		if m != old[0] && m != old[1] && m != old[2] {
			to = m
		}
	}
	from = old[2]
	b.move(key, from, to)
	b.write(key, ls, sample{ms(0), 2})
	require.Contains(t, to.query("a", "m[5m]").whole(t), `"1"],[`)

	// A write of the old epoch is met by two of old[0], old[1] and from.
	from.stop()
	to.query("a", "m[5m]").whole(t)
	old[1].stop()
	text := to.query("a", "m[5m]").lacking(t)
	require.Contains(t, text, from.name)
	require.Contains(t, text, old[1].name)
	from.serve(from.reader)
	to.query("a", "m[5m]").whole(t)
}

// move gives a slot replica of every slot that from holds and to does not to
// the latter, and closes the epochs that this ends.
func (b *bed) move(key tsdb.Key, from, to *member) {
	b.t.Helper()
	st := b.state.Load()
	rg := st.RingByID(st.Tenant(key.Tenant).Route.Ring)
	a, z := ring.Store(st.Member(from.name).Store), ring.Store(st.Member(to.name).Store)
	cmd := &clusterpb.MoveSlots{Ring: rg.Spec.Id}
	for i := range rg.Table.Slots() {
		slot := rg.Table.Slot(i)
		if !slot.Replicas.Has(a) || slot.Replicas.Has(z) {
			continue
		}
		step := &clusterpb.SlotStep{Slot: uint32(i), Quorum: uint32(slot.Quorum), Base: slot.Changed}
		for _, s := range slot.Replicas.Replace(a, z).Append(nil) {
			step.Replicas = append(step.Replicas, uint32(s))
		}
		cmd.Steps = append(cmd.Steps, step)
	}
	require.NotEmpty(b.t, cmd.Steps)
	b.apply(ms(30*time.Second), &clusterpb.Command{Change: &clusterpb.Command_MoveSlots{MoveSlots: cmd}})
	closing := &clusterpb.CloseEpochs{Ring: rg.Spec.Id}
	for _, e := range b.state.Load().RingByID(rg.Spec.Id).Table.Open() {
		closing.Epochs = append(closing.Epochs, &clusterpb.EpochKey{Slot: uint32(e.Slot), To: e.To})
	}
	b.apply(ms(30*time.Second), &clusterpb.Command{Change: &clusterpb.Command_CloseEpochs{CloseEpochs: closing}})
}

// TestANodeThatIsBehindAsksAgain: the slot has moved, a write was acknowledged
// by the new owners, and this node hears of it only from those it asks.
func TestANodeThatIsBehindAsksAgain(t *testing.T) {
	b := newBed(t, 3, 3)
	key := b.tenant("a")
	ls := labels.FromStrings("__name__", "m")
	old := b.replicas(key, ls)
	asker, gone, left := old[0], old[1], old[2]
	asker.state.Store(b.state.Load())
	joined := b.newMember()
	b.join(joined)
	joined.start(nil)
	b.move(key, left, joined)
	// The quorum of the write is gone and joined; then gone fails.
	for _, m := range []*member{gone, joined} {
		m.write(key, ls, sample{ms(0), 2})
	}
	gone.stop()
	left.hook = func() { asker.state.Store(nil) } // the change comes in while the query runs
	require.Contains(t, asker.query("a", "m").whole(t), `"2"`)
}

func TestANodeThatStaysBehindDoesNotCallItsAnswerComplete(t *testing.T) {
	b := newBed(t, 3, 3)
	load(b, b.tenant("a"))
	b.members[0].state.Store(b.state.Load())
	b.tenant("b")
	require.Contains(t, b.members[0].query("a", "sum(m)").lacking(t), "this node has seen revision")
}

func TestTheReadPointIsWaitedFor(t *testing.T) {
	point := uint64(0)
	b := newBed(t, 3, 3)
	load(b, b.tenant("a"))
	cfg := b.members[0].api.cfg
	cfg.ReadPoint = func(context.Context) (uint64, error) { return point, nil }
	api := New(cfg)
	point = b.state.Load().Revision()
	ask(t, api.Tenant("a"), "query", instant("sum(m)")).whole(t)
	point++
	require.Contains(t, ask(t, api.Tenant("a"), "query", instant("sum(m)")).lacking(t), "cannot tell who holds what")
	cfg.ReadPoint = func(context.Context) (uint64, error) { return 0, fmt.Errorf("no leader") }
	require.Contains(t, ask(t, New(cfg).Tenant("a"), "query", instant("sum(m)")).lacking(t), "no leader has confirmed")
}

func TestTheOperatorSeesEveryTenant(t *testing.T) {
	b := newBed(t, 3, 3)
	for i, id := range []string{"a", "b", "c"} {
		key := b.tenant(id)
		for j := range i + 1 {
			b.write(key, labels.FromStrings("__name__", "up", "i", fmt.Sprint(j)), sample{ms(0), 1})
		}
	}
	// A label of that name is overruled, and may make two series one.
	forged := tsdb.Key{Tenant: "c", Incarnation: b.state.Load().Tenant("c").Incarnation}
	b.write(forged, labels.FromStrings("__name__", "up", "i", "0", "tenant_id", "a"), sample{ms(0), 1})
	for _, m := range b.members {
		all := m.api.AllTenants()
		require.JSONEq(t, `{"resultType":"vector","result":[
			{"metric":{"tenant_id":"a"},"value":[`+fmt.Sprint(base.Unix())+`,"1"]},
			{"metric":{"tenant_id":"b"},"value":[`+fmt.Sprint(base.Unix())+`,"2"]},
			{"metric":{"tenant_id":"c"},"value":[`+fmt.Sprint(base.Unix())+`,"3"]}]}`,
			ask(t, all, "query", instant(`sort(count(up) by (tenant_id))`)).whole(t))
	}
	all := b.members[1].api.AllTenants()
	require.Contains(t, ask(t, all, "query", instant(`count({tenant_id=~"b|c"})`)).whole(t), `"5"`)
	require.Contains(t, ask(t, all, "query", instant(`count(up{tenant_id!="c"})`)).whole(t), `"3"`)
	require.JSONEq(t, `["a","b","c"]`, ask(t, all, "label/tenant_id/values", "").whole(t))
	require.JSONEq(t, `["b"]`, ask(t, all, "label/tenant_id/values", "match[]=up{tenant_id=\"b\"}").whole(t))
	require.JSONEq(t, `["__name__","i","tenant_id"]`, ask(t, all, "labels", "").whole(t))
	require.JSONEq(t, `["0","1"]`, ask(t, all, "label/i/values", `match[]={tenant_id="b"}`).whole(t))
	require.JSONEq(t, `[{"__name__":"up","i":"0","tenant_id":"b"},{"__name__":"up","i":"1","tenant_id":"b"}]`,
		ask(t, all, "series", `match[]={tenant_id="b"}`).whole(t))
	require.Contains(t, ask(t, b.members[0].api.Tenant("b"), "query", instant("count(up)")).whole(t), `"2"`, "a tenant sees its own")
}

// TestAFormerRingIsAsked: a tenant that was routed to another ring has its past
// there, and its answers need that ring's stores as well.
func TestAFormerRingIsAsked(t *testing.T) {
	b := newBed(t, 4, 3)
	key := b.tenant("a")
	ls := labels.FromStrings("__name__", "m")
	old := b.replicas(key, ls)
	b.write(key, ls, sample{ms(time.Minute), 1})
	b.apply(ms(30*time.Second), &clusterpb.Command{Change: &clusterpb.Command_PutRing{PutRing: &clusterpb.PutRing{
		Name: "hard", Tenants: []string{"a"}, ReplicationFactor: 1, Slots: 4, Nodes: []string{old[0].name},
	}}})
	require.Equal(t, []*member{old[0]}, b.replicas(key, ls))
	b.write(key, ls, sample{ms(0), 2})
	for _, m := range b.members {
		require.Contains(t, m.query("a", "m[5m]").whole(t), `"1"],[`)
	}
	old[1].stop()
	old[0].query("a", "m[5m]").whole(t)
	old[2].stop()
	require.Contains(t, old[0].query("a", "m[5m]").lacking(t), `ring "main"`)

	old[1].serve(old[1].reader)
	old[2].serve(old[2].reader)
	old[0].stop()
	require.Contains(t, old[1].query("a", "m[5m]").lacking(t), `ring "hard" slots 0-3: 0 of 1 needed stores answered, missing `+old[0].name)
}

// TestATenantThisNodeHasNotHeardOf: it was created, and wrote, through another
// node just before the query came in.
func TestATenantThisNodeHasNotHeardOf(t *testing.T) {
	b := newBed(t, 3, 3)
	asker := b.members[0]
	asker.state.Store(b.state.Load())
	load(b, b.tenant("a"))
	cfg := asker.api.cfg
	cfg.ReadPoint = func(context.Context) (uint64, error) {
		asker.state.Store(nil)
		return b.state.Load().Revision(), nil
	}
	require.Contains(t, ask(t, New(cfg).Tenant("a"), "query", instant("sum(m)")).whole(t), `"780"`)

	before := b.state.Load()
	load(b, b.tenant("z"))
	asker.state.Store(before)
	require.Contains(t, ask(t, New(cfg).AllTenants(), "query", instant("count(m)")).whole(t), `"80"`)

	// As many tenants as before, but not the same.
	before = b.state.Load()
	b.apply(ms(0), &clusterpb.Command{Change: &clusterpb.Command_DeleteTenant{DeleteTenant: &clusterpb.DeleteTenant{Id: "z"}}})
	load(b, b.tenant("y"))
	asker.state.Store(before)
	require.Contains(t, ask(t, New(cfg).AllTenants(), "query", instant(`count(m{tenant_id="y"})`)).whole(t), `"40"`)

	asker.state.Store(before)
	cfg.ReadPoint = func(context.Context) (uint64, error) { return b.state.Load().Revision(), nil }
	require.Contains(t, ask(t, New(cfg).Tenant("y"), "query", instant("m")).lacking(t), "this node has seen revision")
}
