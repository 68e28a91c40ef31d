package admin

import (
	"net/http"
	"strconv"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// tenantObject is a tenant. What is left out takes the settings' default; ring
// is where its series go now, and is not read.
type tenantObject struct {
	ID    string `json:"id"`
	State string `json:"state"`
	specObject
	Ring    string `json:"ring"`
	Version uint64 `json:"version"`
	history
}

// specObject is what a tenant is given, and what the settings give all tenants.
type specObject struct {
	Retention        *span         `json:"retention,omitempty"`
	OutOfOrderWindow *span         `json:"out_of_order_window,omitempty"`
	FutureWindow     *span         `json:"future_window,omitempty"`
	Limits           *limitsObject `json:"limits,omitempty"`
	// Relabel are the rules that the series go through; none, but there: none.
	Relabel *[]relabelObject `json:"relabel,omitempty"`
}

type limitsObject struct {
	ActiveSeries        *int64 `json:"active_series,omitempty"`
	NewSeriesPerSecond  *int64 `json:"new_series_per_second,omitempty"`
	SamplesPerSecond    *int64 `json:"samples_per_second,omitempty"`
	BurstSamples        *int64 `json:"burst_samples,omitempty"`
	RequestBytes        *int64 `json:"request_bytes,omitempty"`
	SeriesPerRequest    *int64 `json:"series_per_request,omitempty"`
	SamplesPerRequest   *int64 `json:"samples_per_request,omitempty"`
	LabelNamesPerSeries *int64 `json:"label_names_per_series,omitempty"`
	LabelNameLength     *int64 `json:"label_name_length,omitempty"`
	LabelValueLength    *int64 `json:"label_value_length,omitempty"`
	Exemplars           *int64 `json:"exemplars,omitempty"`
}

func tenantOf(st *cluster.State, t *clusterpb.Tenant) object {
	o := tenantObject{ID: t.GetId(), State: tenantState(t.GetState()), specObject: specOf(t.GetSpec()), Version: t.GetVersion(), history: historyOf(t)}
	if ring := st.RingByID(t.GetRoute().GetRing()); ring != nil {
		o.Ring = ring.Spec.GetName()
	}
	return object{o, t.GetVersion()}
}

func specOf(s *clusterpb.TenantSpec) specObject {
	if s == nil {
		return specObject{}
	}
	return specObject{
		Retention: spanOrNil(s.RetentionMs), OutOfOrderWindow: spanOrNil(s.OutOfOrderWindowMs),
		FutureWindow: spanOrNil(s.FutureWindowMs), Limits: limitsOf(s.GetLimits()),
		Relabel: relabelOf(s.GetRelabel()),
	}
}

func limitsOf(l *clusterpb.Limits) *limitsObject {
	if l == nil {
		return nil
	}
	return &limitsObject{
		ActiveSeries: l.ActiveSeries, NewSeriesPerSecond: l.NewSeriesPerSecond, SamplesPerSecond: l.SamplesPerSecond,
		BurstSamples: l.BurstSamples, RequestBytes: l.RequestBytes, SeriesPerRequest: l.SeriesPerRequest,
		SamplesPerRequest: l.SamplesPerRequest, LabelNamesPerSeries: l.LabelNamesPerSeries,
		LabelNameLength: l.LabelNameLength, LabelValueLength: l.LabelValueLength, Exemplars: l.Exemplars,
	}
}

// spec is what the state keeps; prefix is where the fields stand in the body.
func (o specObject) spec(prefix string) (*clusterpb.TenantSpec, error) {
	var s clusterpb.TenantSpec
	for _, f := range []struct {
		from *span
		to   **int64
		name string
	}{
		{o.Retention, &s.RetentionMs, "retention"},
		{o.OutOfOrderWindow, &s.OutOfOrderWindowMs, "out_of_order_window"},
		{o.FutureWindow, &s.FutureWindowMs, "future_window"},
	} {
		ms, err := f.from.milliseconds(prefix + f.name)
		if err != nil {
			return nil, err
		}
		*f.to = ms
	}
	if l := o.Limits; l != nil {
		s.Limits = &clusterpb.Limits{
			ActiveSeries: l.ActiveSeries, NewSeriesPerSecond: l.NewSeriesPerSecond, SamplesPerSecond: l.SamplesPerSecond,
			BurstSamples: l.BurstSamples, RequestBytes: l.RequestBytes, SeriesPerRequest: l.SeriesPerRequest,
			SamplesPerRequest: l.SamplesPerRequest, LabelNamesPerSeries: l.LabelNamesPerSeries,
			LabelNameLength: l.LabelNameLength, LabelValueLength: l.LabelValueLength, Exemplars: l.Exemplars,
		}
	}
	var err error
	s.Relabel, err = relabelRules(prefix+"relabel", o.Relabel)
	return &s, err
}

func tenantState(s clusterpb.TenantState) string {
	if s == clusterpb.TenantState_TENANT_SUSPENDED {
		return "suspended"
	}
	return "active"
}

func (a *api) tenant(r *http.Request, st *cluster.State) (object, error) {
	if id := r.PathValue("id"); !cluster.ValidTenantID(id) {
		return object{}, badTenant("id", id)
	}
	return showTenant(r.PathValue("id"))(st)
}

func badTenant(field, id string) error {
	return bad(field, "%q is no tenant's id: want letters, digits and ._:@=+-, at most 128, beginning with a letter or a digit", cut(id))
}

func showTenant(id string) func(*cluster.State) (object, error) {
	return func(st *cluster.State) (object, error) {
		t := st.Tenant(id)
		if t == nil {
			return object{}, notFound("there is no tenant %q", id)
		}
		return tenantOf(st, t), nil
	}
}

// Pages of the list of tenants.
const (
	tenantsPerPage    = 100
	maxTenantsPerPage = 1000
)

// tenants lists a page of them by id: `after` is exclusive, `next` is the value
// of `after` for the page that follows, if there is one.
func (a *api) tenants(r *http.Request, st *cluster.State) (object, error) {
	limit := tenantsPerPage
	if v := r.URL.Query().Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxTenantsPerPage {
			return object{}, bad("limit", "limit %q: want 1 to %d", cut(v), maxTenantsPerPage)
		}
		limit = n
	}
	after := r.URL.Query().Get("after")
	if after != "" && !cluster.ValidTenantID(after) {
		return object{}, badTenant("after", after)
	}
	page := struct {
		Tenants []any  `json:"tenants"`
		Next    string `json:"next,omitempty"`
	}{Tenants: []any{}}
	last := ""
	st.WalkTenants(after, func(t *clusterpb.Tenant) bool {
		if len(page.Tenants) == limit {
			page.Next = last
			return false
		}
		page.Tenants = append(page.Tenants, tenantOf(st, t).body)
		last = t.GetId()
		return true
	})
	return object{body: page}, nil
}

func (a *api) putTenant(r *http.Request) (change, error) {
	id := r.PathValue("id")
	var o tenantObject
	if err := decode(r, &o); err != nil {
		return change{}, err
	}
	if err := matches("id", o.ID, id); err != nil {
		return change{}, err
	}
	put := &clusterpb.PutTenant{Id: id}
	switch o.State {
	case "active", "":
	case "suspended":
		put.State = clusterpb.TenantState_TENANT_SUSPENDED
	default:
		return change{}, bad("state", "state %q: want active or suspended", o.State)
	}
	var err error
	if put.Spec, err = o.spec(""); err != nil {
		return change{}, err
	}
	return change{
		command: &clusterpb.Command{Change: &clusterpb.Command_PutTenant{PutTenant: put}},
		present: showTenant(id),
	}, nil
}

func (a *api) deleteTenant(r *http.Request) (change, error) {
	id := r.PathValue("id")
	return change{
		command: &clusterpb.Command{Change: &clusterpb.Command_DeleteTenant{DeleteTenant: &clusterpb.DeleteTenant{Id: id}}},
		present: showTenant(id),
	}, nil
}

// tenantTokenObject is a tenant's token; its text is shown where it is made only.
type tenantTokenObject struct {
	ID      string `json:"id"`
	Tenant  string `json:"tenant"`
	Created string `json:"created,omitempty"`
	By      string `json:"created_by,omitempty"`
	Expires string `json:"expires"` // "": never
	Expired bool   `json:"expired,omitempty"`
}

func (a *api) tenantTokens(r *http.Request, st *cluster.State) (object, error) {
	t := st.Tenant(r.PathValue("id"))
	if t == nil {
		return object{}, notFound("there is no tenant %q", r.PathValue("id"))
	}
	list := []tenantTokenObject{}
	for _, token := range t.GetTokens() {
		list = append(list, tenantTokenObject{
			ID: token.GetId(), Tenant: t.GetId(), Created: timeText(token.GetCreatedMs()), By: token.GetCreatedBy(), Expires: timeText(token.GetExpiresMs()),
			Expired: token.GetExpiresMs() != 0 && token.GetExpiresMs() <= time.Now().UnixMilli(),
		})
	}
	return object{struct {
		Tokens []tenantTokenObject `json:"tokens"`
	}{list}, t.GetVersion()}, nil
}

func (a *api) createTenantToken(r *http.Request) (change, error) {
	id := r.PathValue("id")
	var o struct {
		Expires *span `json:"expires"`
	}
	if err := decode(r, &o); err != nil {
		return change{}, err
	}
	life, err := o.Expires.milliseconds("expires")
	if err != nil {
		return change{}, err
	}
	token, err := pki.TokenFrom(pki.Fingerprint{}, a.secrets(r))
	if err != nil {
		return change{}, err
	}
	made := &clusterpb.TenantToken{Id: token.ID, Hash: token.Hash()}
	if life != nil && *life > 0 {
		made.ExpiresMs = time.Now().UnixMilli() + *life
	}
	return change{
		command: &clusterpb.Command{Change: &clusterpb.Command_CreateTenantToken{CreateTenantToken: &clusterpb.CreateTenantToken{
			Tenant: id, Token: made,
		}}},
		present: showTenant(id),
		made:    func(st *cluster.State) bool { return st.TenantByToken(token.Hash()) != nil },
		body: func(out outcome) any {
			return struct {
				ID     string `json:"id"`
				Tenant string `json:"tenant"`
				Token  string `json:"token"`
				// Expires is left out where the token never does.
				Expires string `json:"expires,omitempty"`
				outcome
			}{token.ID, id, token.Text(), timeText(made.GetExpiresMs()), out}
		},
	}, nil
}

func (a *api) revokeTenantToken(r *http.Request) (change, error) {
	id := r.PathValue("id")
	return change{
		command: &clusterpb.Command{Change: &clusterpb.Command_RevokeTenantToken{RevokeTenantToken: &clusterpb.RevokeTenantToken{
			Tenant: id, Id: r.PathValue("tid"),
		}}},
		present: showTenant(id),
	}, nil
}
