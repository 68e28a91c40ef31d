package admin

import (
	"net/http"
	"time"

	"github.com/prometheus/common/model"

	"github.com/muster-metrics/muster/cluster"
)

type eventObject struct {
	Revision uint64 `json:"revision"`
	Time     string `json:"time"`
	Actor    string `json:"actor"`
	Source   string `json:"source,omitempty"`
	Action   string `json:"action"`
	Object   string `json:"object"`
	Detail   string `json:"detail"`
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
		list = append(list, eventObject{
			e.GetRevision(), timeText(e.GetTimeMs()), e.GetActor(), e.GetSource(), e.GetAction(), e.GetObject(), e.GetDetail(),
		})
	}
	return object{body: map[string]any{"events": list}}, nil
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
