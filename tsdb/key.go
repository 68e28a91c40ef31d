package tsdb

import (
	"cmp"
	"strconv"
	"strings"
)

// Key names the data of one tenant's life: its id, and the revision at which
// the cluster created it. A tenant that is deleted and created again has the
// same id and another incarnation, and shares nothing with its past.
type Key struct {
	Tenant      string
	Incarnation uint64
}

// String is also the name of the key's directory: <tenant>.<incarnation>.
func (k Key) String() string {
	return k.Tenant + "." + strconv.FormatUint(k.Incarnation, 10)
}

func (k Key) compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Tenant, o.Tenant), cmp.Compare(k.Incarnation, o.Incarnation))
}

// valid reports whether the id keeps to the cluster's charset, which makes it
// safe as a file name. Ids are checked at the door; this is the second look
// before a path is built from one.
func (k Key) valid() bool {
	if len(k.Tenant) == 0 || len(k.Tenant) > 128 {
		return false
	}
	for i := range len(k.Tenant) {
		c := k.Tenant[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("._:@=+-", rune(c))) {
			return false
		}
	}
	return true
}

// parseKey is the inverse of String; ok is false for names that no key has.
func parseKey(name string) (k Key, ok bool) {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return Key{}, false
	}
	n, err := strconv.ParseUint(name[dot+1:], 10, 64)
	if err != nil {
		return Key{}, false
	}
	k = Key{Tenant: name[:dot], Incarnation: n}
	return k, k.valid() && k.String() == name
}
