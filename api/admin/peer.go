package admin

import (
	"context"
	"net"
	"net/http"
	"os/user"
	"strconv"

	"github.com/muster-metrics/muster/cluster"
)

// peer is who opened the unix socket, by the kernel's word.
type peer struct{ uid, pid int }

type peerKey struct{}

// ConnContext is for http.Server.ConnContext of the operator door: it notes who
// is at the other end of a unix socket, so that the events can tell.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	unix, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	p, err := peerOn(unix)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// peerOf is the caller on the unix socket; "local" where the system does not
// tell who that is.
func peerOf(r *http.Request) caller {
	p, ok := r.Context().Value(peerKey{}).(peer)
	if !ok {
		return caller{"local", cluster.LocalSource}
	}
	uid := strconv.Itoa(p.uid)
	name := "uid " + uid
	if u, err := user.LookupId(uid); err == nil && u.Username != "" {
		name = u.Username
	}
	return caller{name, cluster.LocalSource + ", uid " + uid + ", pid " + strconv.Itoa(p.pid)}
}
