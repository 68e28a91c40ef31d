package ingest

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/muster-metrics/muster/ingest/wire"
)

// refusal is an answer given before anything is stored.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

// retryAfter is the seconds that a sender is asked to wait.
const retryAfter = "1"

// statusOf is the one table from an error to an answer.
func statusOf(err error) int {
	var r refusal
	var large *wire.TooLarge
	switch {
	case errors.As(err, &r):
		return r.status
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, wire.ErrFraming):
		return http.StatusBadRequest
	case errors.Is(err, ErrTenantRefused):
		return http.StatusForbidden
	default:
		return http.StatusServiceUnavailable
	}
}

// fail answers a request of which nothing was stored.
func fail(w http.ResponseWriter, err error) int {
	return say(w, statusOf(err), err.Error()+"\n")
}

func say(w http.ResponseWriter, status int, text string) int {
	h := w.Header()
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		h.Set("Retry-After", retryAfter)
	}
	if text != "" {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) //nolint:gosec // plain text, not sniffed; a sender that is gone needs no answer
	return status
}

// maxLines bounds the reasons that an answer lists.
const maxLines = 10

// reason is a line of an answer.
type reason struct {
	text  string
	count int
	first string
}

// answerOf is the answer to a write that has been carried out, as far as it
// could be: 204, 400 or 503.
func answerOf(w *write) (status int, text string) {
	b, sum := w.batch, w.tally.sum()
	var lines []reason
	total, forGood := b.Samples+b.Refused.Total(), b.Refused.Total()
	b.Refused.Each(func(r wire.Reason, n int, first string) {
		lines = append(lines, reason{r.String(), n, first})
	})
	for class, n := range sum.refused {
		if n > 0 {
			forGood += n
			lines = append(lines, reason{contentTexts[class], n, b.Text(b.Series[sum.first[class]])})
		}
	}
	switch {
	case sum.deferred > 0:
		why := make([]reason, 0, len(w.troubles))
		for t, n := range w.troubles {
			why = append(why, reason{t, n, ""})
		}
		slices.SortFunc(why, func(a, b reason) int { return cmp.Or(b.count-a.count, strings.Compare(a.text, b.text)) })
		for k := range why {
			why[k].count, why[k].first = sum.deferred, b.Text(b.Series[sum.firstDeferred])
		}
		return http.StatusServiceUnavailable, page(
			fmt.Sprintf("%d of %d samples lack their quorum: send again", sum.deferred, total), append(why, lines...))
	case forGood > 0:
		return http.StatusBadRequest, page(
			fmt.Sprintf("%d of %d samples refused for good, %d stored", forGood, total, sum.stored), lines)
	default:
		return http.StatusNoContent, ""
	}
}

// contentTexts are the classes of ballot.content, in words.
var contentTexts = [contents]string{
	"another value is held at that time",
	"labels cannot be stored",
	"histogram is not valid",
	"series would be new and active_series is reached",
}

func page(summary string, lines []reason) string {
	var b strings.Builder
	b.WriteString(summary)
	b.WriteByte('\n')
	for _, l := range lines[:min(len(lines), maxLines)] {
		fmt.Fprintf(&b, "%s: %d, %s\n", l.text, l.count, l.first)
	}
	return b.String()
}
