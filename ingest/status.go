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
	var rate *exceeded
	switch {
	case errors.As(err, &r):
		return r.status
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &rate):
		return http.StatusTooManyRequests
	case errors.Is(err, wire.ErrFraming):
		return http.StatusBadRequest
	case errors.Is(err, ErrTenantRefused):
		return http.StatusForbidden
	case errors.Is(err, ErrTenantName):
		return http.StatusBadRequest
	default:
		return http.StatusServiceUnavailable
	}
}

// fail answers a request of which nothing was stored.
func fail(w http.ResponseWriter, err error) int {
	w.Header().Set("Retry-After", retryAfterOf(err))
	return say(w, statusOf(err), err.Error()+"\n")
}

func say(w http.ResponseWriter, status int, text string) int {
	h := w.Header()
	switch passing := status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests; {
	case !passing:
		h.Del("Retry-After")
	case h.Get("Retry-After") == "":
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

// report is what became of the samples of a write, or of several that one request
// became.
type report struct {
	total, stored, forGood, deferred int
	// histograms are those of the stored that are native histograms.
	histograms int
	// Of the exemplars only what may pass is told: those that can never be stored
	// change no answer but that of answerV2.
	exemplars, deferredExemplars, refusedExemplars int
	// why says what the deferred lack, lines what is wrong with those refused for good.
	why, lines []reason
	// conflicting are those refused for good because something else is held, or may
	// be, at their time.
	conflicting int
	// limited of the deferred are over a rate, and denied of those refused for good
	// were never looked at: deniedBy is the status that says so.
	limited, denied, deniedBy int
	// after is how many seconds the limited wait; "": there are none.
	after string
	// refused calls f with the number of each sample of the request that was laid out and
	// then refused for good.
	refused func(f func(sample int))
}

// reportOf tells of a write that has been carried out.
func reportOf(w *write) *report {
	b, sum := w.batch, w.tally.sum()
	r := &report{total: b.Samples, stored: sum.stored, histograms: sum.histograms, deferred: sum.deferred, refused: w.tally.refused}
	r.exemplars, r.deferredExemplars = sum.exemplars, sum.deferredExemplars
	r.refusedExemplars = b.LeftOut.Total()
	for _, n := range sum.refusedExemplars {
		r.refusedExemplars += n
	}
	r.refuse(&b.Refused)
	for class, n := range sum.refused {
		if n > 0 {
			r.forGood += n
			if class == conflictClass {
				r.conflicting += n
			}
			r.lines = append(r.lines, reason{w.blame(class), n, b.Text(b.Series[sum.first[class]])})
		}
	}
	deferred := sum.deferred
	if deferred == 0 {
		deferred = sum.deferredExemplars
	}
	if deferred > 0 {
		for t, n := range w.troubles {
			r.why = append(r.why, reason{t, n, ""})
		}
		slices.SortFunc(r.why, func(a, b reason) int { return cmp.Or(b.count-a.count, strings.Compare(a.text, b.text)) })
		for k := range r.why {
			r.why[k].count, r.why[k].first = deferred, b.Text(b.Series[sum.firstDeferred])
		}
	}
	return r
}

// refuse adds what was refused at the door.
func (r *report) refuse(refused *wire.Refusals) {
	r.total += refused.Total()
	r.forGood += refused.Total()
	refused.Each(func(why wire.Reason, n int, first string) {
		if why == wire.TooOld {
			r.conflicting += n
		}
		r.lines = append(r.lines, reason{why.String(), n, first})
	})
}

// answer is 204, 400 or 503, or what a part of a request says of the whole.
func (r *report) answer() (status int, text string) {
	switch {
	case r.deferred > 0:
		status = http.StatusServiceUnavailable
		if r.limited == r.deferred {
			status = http.StatusTooManyRequests
		}
		return status, page(fmt.Sprintf("%d of %d samples lack their quorum: send again", r.deferred, r.total), append(r.why, r.lines...))
	case r.deferredExemplars > 0:
		return http.StatusServiceUnavailable, page(fmt.Sprintf("%d exemplars lack their quorum: send again", r.deferredExemplars), append(r.why, r.lines...))
	case r.forGood > 0:
		status = http.StatusBadRequest
		if r.denied == r.total {
			status = r.deniedBy
		}
		return status, page(fmt.Sprintf("%d of %d samples refused for good, %d stored", r.forGood, r.total, r.stored), r.lines)
	default:
		return http.StatusNoContent, ""
	}
}

// answerV2 is the answer to a sender of remote write 2.0, which may not be 204 where
// nothing came but exemplars that can never be stored. Senders of 1.0 cut their
// requests so, too, and are not told how many are written: they get no error for it.
func (r *report) answerV2() (status int, text string) {
	if status, text = r.answer(); status == http.StatusNoContent && r.total == 0 && r.refusedExemplars > 0 {
		return http.StatusBadRequest, page(fmt.Sprintf("%d exemplars refused for good, %d stored: of series that are not held, out of order, or not valid", r.refusedExemplars, r.exemplars), nil)
	}
	return status, text
}

// conflictClass is the class of a value that contradicts another.
const conflictClass = 0

// contentTexts are the classes of ballot.content, in words.
var contentTexts = [contents]string{
	"another value is held at that time",
	"labels cannot be stored",
	"histogram is not valid",
	"series would be new and active_series is reached",
}

// blame is a class in words, with the limit's value where it is one.
func (w *write) blame(class int) string {
	if class == seriesLimit && w.activeSeries > 0 {
		return fmt.Sprintf("series would be new and active_series, %d, is reached", w.activeSeries)
	}
	return contentTexts[class]
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
