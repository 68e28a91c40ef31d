package ring

import "github.com/cespare/xxhash/v2"

// Key places a series: equal on every node and in every version of muster.
type Key uint64

// TenantHash is the tenant's part of its series' keys.
func TenantHash(tenant string) uint64 { return xxhash.Sum64String(tenant) }

// KeyOf joins the tenant's part with the xxhash64 of the series' canonical
// label bytes, which the TSDB needs as well. The finalizer of MurmurHash3
// spreads the sum over all bits, so that the low ones choose a slot evenly.
func KeyOf(tenant, labels uint64) Key {
	k := tenant*0x9e3779b97f4a7c15 ^ labels
	k ^= k >> 33
	k *= 0xff51afd7ed558ccd
	k ^= k >> 33
	k *= 0xc4ceb9fe1a85ec53
	k ^= k >> 33
	return Key(k)
}

// Slot is the slot of the key in a table of slots slots, a power of two.
func (k Key) Slot(slots int) int { return int(uint64(k) & uint64(slots-1)) }
