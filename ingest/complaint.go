package ingest

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/muster-metrics/muster/ingest/wire"
)

const (
	// complaintEvery is how often one tenant's refusals of one kind make a line. A
	// sender that does something wrong does it several times a second.
	complaintEvery = time.Minute
	// complaintsKept bounds what is remembered between two lines. Kinds are few and
	// tenants are bounded; this is for the day when neither is so.
	complaintsKept = 20_000
	// complaintText bounds what a line quotes of an answer, which may quote the
	// sender.
	complaintText = 200
)

// complaints tell the operator's log what writes are refused for: the first time
// at once, then one line a minute for each tenant and kind, with what there was
// since the line before.
type complaints struct {
	log *slog.Logger

	mu   sync.Mutex
	kept map[subject]*complaint
}

// subject is what a line is about. tenant is "" where it is not known to exist:
// anybody can make up names.
type subject struct{ tenant, kind string }

// complaint is what has not been told yet.
type complaint struct {
	told              time.Time // when the last line was written
	status            int
	requests, samples int
	example           string
}

// note takes a refusal of so many samples; 0: nobody has counted them.
func (c *complaints) note(tenant, kind string, status, samples int, example string) {
	now := time.Now()
	c.mu.Lock()
	of := subject{tenant, kind}
	one := c.kept[of]
	first := one == nil
	if first {
		if len(c.kept) >= complaintsKept {
			c.mu.Unlock()
			return
		}
		one = &complaint{}
		if c.kept == nil {
			c.kept = map[subject]*complaint{}
		}
		c.kept[of] = one
	}
	one.status, one.requests, one.samples, one.example = status, one.requests+1, one.samples+samples, example
	var line complaint
	if tell := first || now.Sub(one.told) >= complaintEvery; tell {
		line = one.take(now)
	}
	c.mu.Unlock()
	c.write(of, line)
}

// take gives what is to be told, and begins anew.
func (c *complaint) take(now time.Time) complaint {
	line := *c
	*c = complaint{told: now}
	return line
}

// write writes the line; one of no request is none.
func (c *complaints) write(of subject, line complaint) {
	if line.requests == 0 {
		return
	}
	level := slog.LevelInfo // the sender's to put right
	if line.status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	c.log.Log(context.Background(), level, "writes refused", "tenant", of.tenant, "kind", of.kind, "status", line.status,
		"requests", line.requests, "samples", line.samples, "example", line.example)
}

// sweep tells what has waited for its minute, and forgets what has not come again.
func (c *complaints) sweep() {
	now := time.Now()
	due := map[subject]complaint{}
	c.mu.Lock()
	for of, one := range c.kept {
		switch {
		case now.Sub(one.told) < complaintEvery:
		case one.requests == 0:
			delete(c.kept, of)
		default:
			due[of] = one.take(now)
		}
	}
	c.mu.Unlock()
	for of, line := range due {
		c.write(of, line)
	}
}

// answered notes a request that was refused as a whole, by what it was told.
func (c *complaints) answered(tenant string, a account, status int, text string) {
	if kind, ok := refusalKinds[status]; ok {
		if !a.known {
			tenant = ""
		}
		c.note(tenant, kind, status, a.samples, text)
	}
}

// refusalKinds are what a request may be refused for before anything is stored,
// by its status.
var refusalKinds = map[int]string{
	http.StatusBadRequest:            "malformed",
	http.StatusUnauthorized:          "no credential",
	http.StatusForbidden:             "tenant",
	http.StatusRequestEntityTooLarge: "too large",
	http.StatusUnsupportedMediaType:  "form that is not taken",
	http.StatusTooManyRequests:       "rate",
	http.StatusServiceUnavailable:    "not ready or overloaded",
}

// verdicts notes what became of the samples of a write that was carried out.
func (c *complaints) verdicts(w *write, status int, text string) {
	if status < http.StatusBadRequest {
		return
	}
	sum := w.tally.sum()
	if sum.deferred > 0 {
		c.note(w.tenant, "no quorum", status, sum.deferred, excerpt(text))
	}
	for class, n := range sum.refused {
		if n > 0 {
			c.note(w.tenant, contentTexts[class], http.StatusBadRequest, n, excerpt(w.batch.Text(w.batch.Series[sum.first[class]])))
		}
	}
	c.atDoor(w.tenant, &w.batch.Refused)
}

// atDoor notes what was refused before it was sent anywhere.
func (c *complaints) atDoor(tenant string, refused *wire.Refusals) {
	refused.Each(func(r wire.Reason, n int, first string) {
		c.note(tenant, r.String(), http.StatusBadRequest, n, excerpt(first))
	})
}

// excerpt is the beginning of a text, for a line of a log.
func excerpt(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > complaintText {
		text = text[:complaintText] + "…"
	}
	return strings.ToValidUTF8(text, "")
}

// witness remembers how an answer begins.
type witness struct {
	http.ResponseWriter
	text string
}

func (w *witness) Write(b []byte) (int, error) {
	if w.text == "" {
		w.text = excerpt(string(b[:min(len(b), complaintText+1)]))
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *witness) Unwrap() http.ResponseWriter { return w.ResponseWriter }
