package tenancy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// refusal is an answer in the place of the handler's.
type refusal struct {
	code    int
	message string
}

func refuse(code int, format string, args ...any) *refusal {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

func (r *refusal) Error() string { return r.message }

// header writes what clients of any kind act upon.
func (r *refusal) header(w http.ResponseWriter, contentType string) {
	h := w.Header()
	switch r.code {
	case http.StatusUnauthorized:
		h.Add("WWW-Authenticate", `Bearer realm="muster"`)
		h.Add("WWW-Authenticate", `Basic realm="muster", charset="UTF-8"`)
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "5")
	}
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(r.code)
}

func writeText(w http.ResponseWriter, r *refusal) {
	r.header(w, "text/plain; charset=utf-8")
	_, _ = fmt.Fprintln(w, r.message) //nolint:gosec // plain text, not sniffed; the client may be gone.
}

func writeJSON(w http.ResponseWriter, r *refusal) {
	kind := "forbidden"
	switch r.code {
	case http.StatusBadRequest:
		kind = "bad_data"
	case http.StatusUnauthorized:
		kind = "unauthorized"
	case http.StatusServiceUnavailable:
		kind = "unavailable"
	}
	r.header(w, "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": kind, "error": r.message})
}

// quote shows what somebody sent, in ASCII and not at length.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
