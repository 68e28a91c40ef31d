package cluster

import (
	"fmt"
	"net"
	"strings"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// by is who asked for the command, for people: bob@10.0.0.9. Whoever asked on
// the node itself has no address.
func (e *edit) by() string {
	actor, from := text(e.cmd.GetActor(), 128), text(e.cmd.GetSource(), 128)
	if host, _, err := net.SplitHostPort(from); err == nil {
		from = host
	}
	switch {
	case actor == "":
		return from
	case from == "" || strings.HasPrefix(from, LocalSource):
		return actor
	default:
		return actor + "@" + from
	}
}

// LocalSource begins the source of what was asked on a node's unix socket.
const LocalSource = "unix socket"

// conflict says how an object is that the asker took for another version.
func (e *edit) conflict(what, name string, version uint64) *clusterpb.Refusal {
	who := name
	switch what {
	case "settings":
		who = "the settings"
	case "token":
		who = "token " + name
	case "CA rotation":
		who = "the CA rotation"
	}
	want := e.cmd.GetExpectedVersion()
	if version == 0 {
		return refuse(clusterpb.Refusal_CONFLICT_VERSION, "version", "conflict: there is no %s %s, version %d was expected", what, quote(name), want)
	}
	verb := "is"
	if what == "settings" {
		verb = "are"
	}
	at := fmt.Sprintf("%s at version %d", verb, version)
	if want == 0 {
		at = fmt.Sprintf("exists already, at version %d", version)
	}
	ms, by := e.lastChange(what, name)
	if ms != 0 && by != "" {
		at += fmt.Sprintf(" (changed %s by %s)", agoText(e.now-ms), by)
	}
	return refuse(clusterpb.Refusal_CONFLICT_VERSION, "version", "conflict: %s %s", who, at)
}

// lastChange is when, in milliseconds, and by whom an object was changed last.
func (e *edit) lastChange(what, name string) (int64, string) {
	var o interface {
		GetChangedMs() int64
		GetChangedBy() string
	}
	switch what {
	case "tenant":
		o = e.next.Tenant(name)
	case "member":
		o = e.next.Member(name)
	case "settings":
		o = e.next.settings
	case "ring":
		if r := e.next.Ring(name); r != nil {
			o = r.Spec
		}
	}
	if o == nil {
		return 0, ""
	}
	return o.GetChangedMs(), o.GetChangedBy()
}

// agoText is a span of time, in milliseconds, that has passed: 12s ago.
func agoText(ms int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{day, "d"}, {hour, "h"}, {minute, "m"}, {second, "s"}} {
		if ms >= 2*u.size || u.size == second {
			return fmt.Sprintf("%d%s ago", max(ms, 0)/u.size, u.name)
		}
	}
	return ""
}
