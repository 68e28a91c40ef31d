package ingest

import (
	"slices"
	"time"
)

// flights bounds the parcels that a tenant has under way in a lane, queued or
// unanswered. A tenant whose storage hangs at the peer keeps every place there
// that it is given, and there are streamShares of them in a stream: without a
// bound of its own it would soon have all, and stop the tenants that share its
// lane. What is beyond the bound waits here, in order. Its lane guards it.
type flights struct {
	away map[string]int       // under way, by tenant
	held map[string][]*parcel // that wait; only of tenants at their bound
}

// tenantFlights is the bound: enough to keep a storage busy, which takes the
// shares of a tenant one after the other, and few enough that it takes eight
// tenants that hang to stop a lane.
const tenantFlights = streamShares / 8

// begin says whether a parcel may go; else it is kept until then.
func (f *flights) begin(c *parcel) bool {
	if f.away == nil {
		f.away, f.held = map[string]int{}, map[string][]*parcel{}
	}
	tenant := c.share.Tenant
	if f.away[tenant] >= tenantFlights {
		f.held[tenant] = append(f.held[tenant], c)
		return false
	}
	f.away[tenant]++
	return true
}

// end takes a parcel that is not under way any more, and gives the one that goes
// in its place; nil: there is none.
func (f *flights) end(c *parcel) (next *parcel) {
	tenant := c.share.Tenant
	wait := f.held[tenant]
	if len(wait) == 0 {
		if f.away[tenant]--; f.away[tenant] <= 0 {
			delete(f.away, tenant)
		}
		return nil
	}
	next, wait[0] = wait[0], nil
	f.keep(tenant, wait[1:])
	return next
}

// expire gives up those that were made before limit.
func (f *flights) expire(limit time.Time) (old []*parcel) {
	for tenant, wait := range f.held {
		f.keep(tenant, slices.DeleteFunc(wait, func(c *parcel) bool {
			late := c.born.Before(limit)
			if late {
				old = append(old, c)
			}
			return late
		}))
	}
	return old
}

// clear forgets what is under way, and gives those that wait.
func (f *flights) clear() (left []*parcel) {
	for _, wait := range f.held {
		left = append(left, wait...)
	}
	clear(f.away)
	clear(f.held)
	return left
}

func (f *flights) keep(tenant string, wait []*parcel) {
	if len(wait) == 0 {
		delete(f.held, tenant)
		return
	}
	f.held[tenant] = wait
}
