package prom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/prometheus/promql"
)

// answer is what goes into Prometheus' envelope.
type answer struct {
	data            any
	warnings, infos []string
	done            func() // the data are not used after it; may be nil
}

func (a *answer) close() {
	if a.done != nil {
		a.done()
	}
}

// envelope is the form of every answer of Prometheus' API.
type envelope struct {
	Status    string   `json:"status"`
	Data      any      `json:"data,omitempty"`
	ErrorType string   `json:"errorType,omitempty"`
	Error     string   `json:"error,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
	Infos     []string `json:"infos,omitempty"`
}

// fault is an error with its place in Prometheus' table.
type fault struct {
	status int
	kind   string
	err    error
}

func (f fault) Error() string { return f.err.Error() }
func (f fault) Unwrap() error { return f.err }

// bad is a request that cannot be understood.
func bad(param string, err error) error {
	return fault{http.StatusBadRequest, "bad_data", fmt.Errorf("invalid parameter %q: %w", param, err)}
}

// statusClosed is what nginx made usual for a caller that went away.
const statusClosed = 499

// faultOf is the one table from errors to answers.
func faultOf(err error) fault {
	var (
		f        fault
		canceled promql.ErrQueryCanceled
		timeout  promql.ErrQueryTimeout
		storage  promql.ErrStorage
	)
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &timeout), errors.Is(err, context.DeadlineExceeded):
		return fault{http.StatusServiceUnavailable, "timeout", err}
	case errors.As(err, &canceled), errors.Is(err, context.Canceled):
		return fault{statusClosed, "canceled", err}
	case errors.As(err, &storage):
		return fault{http.StatusInternalServerError, "internal", err}
	default:
		return fault{http.StatusUnprocessableEntity, "execution", err}
	}
}

func (a *API) refuse(w http.ResponseWriter, endpoint string, err error) {
	f := faultOf(err)
	a.metrics.errors.WithLabelValues(endpoint, f.kind).Inc()
	a.write(w, f.status, &envelope{Status: "error", ErrorType: f.kind, Error: f.Error()})
}

func (a *API) reply(w http.ResponseWriter, endpoint string, out *answer) {
	body, err := json.Marshal(&envelope{Status: "success", Data: out.data, Warnings: out.warnings, Infos: out.infos})
	if err != nil {
		w.Header().Del("Muster-Complete")
		a.refuse(w, endpoint, fault{http.StatusInternalServerError, "internal", fmt.Errorf("encode the answer: %w", err)})
		return
	}
	send(a, w, http.StatusOK, body)
}

func (a *API) write(w http.ResponseWriter, status int, e *envelope) {
	body, err := json.Marshal(e)
	if err != nil {
		a.log.Error("encode an answer", "err", err)
		return
	}
	send(a, w, status, body)
}

func send(a *API, w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		a.log.Debug("send an answer", "err", err)
	}
}
