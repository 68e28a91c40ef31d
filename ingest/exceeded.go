package ingest

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// exceeded is a request refused as a whole for a limit of a second: 429.
type exceeded struct {
	tenant, limit string
	value         int64   // of the limit, for the whole cluster
	use           float64 // a second, in the whole cluster
	part          float64 // of the limit that is this node's
	after         time.Duration
}

func (e *exceeded) Error() string {
	return fmt.Sprintf("tenant %q is over %s: %d are allowed, about %.0f come; send again in %s seconds (this node grants %.0f%% of the limit)",
		e.tenant, e.limit, e.value, e.use, e.seconds(), 100*e.part)
}

// admitRate is rates.admit, counted.
func (i *Ingester) admitRate(tenant string, t Tenant, bytes int64) error {
	err := i.rates.admit(tenant, t, bytes)
	i.metrics.exceeded(err)
	return err
}

// chargeRate is rates.charge, counted.
func (i *Ingester) chargeRate(tenant string, t Tenant, samples int) error {
	err := i.rates.charge(tenant, t, samples)
	i.metrics.exceeded(err)
	return err
}

// later is the longer of two waits in seconds.
func later(a, b string) string {
	if len(a) > len(b) || len(a) == len(b) && a > b {
		return a
	}
	return b
}

// longestWait is the most that a sender is asked to wait: by then the parts of the
// nodes are others.
const longestWait = time.Minute

// seconds is what the bucket takes to fill again, rounded up.
func (e *exceeded) seconds() string {
	wait := min(max(e.after, time.Second), longestWait)
	return strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
}

// retryAfterOf is how many seconds a sender is asked to wait for an error.
func retryAfterOf(err error) string {
	var e *exceeded
	if errors.As(err, &e) {
		return e.seconds()
	}
	return retryAfter
}
