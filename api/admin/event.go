package admin

import (
	"net/http"
	"time"

	"github.com/prometheus/common/model"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

type eventObject struct {
	Revision uint64 `json:"revision"`
	Time     string `json:"time"`
	Actor    string `json:"actor"`
	Source   string `json:"source,omitempty"`
	Action   string `json:"action"`
	Object   string `json:"object"`
	Detail   string `json:"detail"`
	// Changes are the fields of the object before and after, without secrets.
	Changes []fieldChange `json:"changes"`
}

type fieldChange struct {
	Field  string `json:"field"`
	Before string `json:"before"` // "": it had none
	After  string `json:"after"`
}

// events lists who changed what and when, the oldest first: all that are kept,
// or those `since` a time (RFC 3339) or a duration ago.
func (a *api) events(r *http.Request, st *cluster.State) (object, error) {
	since, err := sinceOf(r.URL.Query().Get("since"), time.Now())
	if err != nil {
		return object{}, err
	}
	list := []eventObject{}
	for _, e := range st.Events(0) {
		if e.GetTimeMs() < since {
			continue
		}
		list = append(list, eventOf(e))
	}
	return object{body: map[string]any{"events": list}}, nil
}

func eventOf(e *clusterpb.Event) eventObject {
	o := eventObject{
		Revision: e.GetRevision(), Time: timeText(e.GetTimeMs()), Actor: e.GetActor(), Source: e.GetSource(),
		Action: e.GetAction(), Object: e.GetObject(), Detail: e.GetDetail(), Changes: []fieldChange{},
	}
	for _, c := range e.GetChanges() {
		o.Changes = append(o.Changes, fieldChange{c.GetField(), c.GetBefore(), c.GetAfter()})
	}
	return o
}

// sinceOf is the time that a text names, Unix milliseconds.
func sinceOf(text string, now time.Time) (int64, error) {
	if text == "" {
		return 0, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UnixMilli(), nil
	}
	d, err := model.ParseDuration(text)
	if err != nil {
		return 0, bad("since", "since %q: want a duration such as 24h, or a time such as 2026-01-02T15:04:05Z", text)
	}
	return now.Add(-time.Duration(d)).UnixMilli(), nil
}
