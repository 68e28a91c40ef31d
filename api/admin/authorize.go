package admin

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// role is what somebody may do on the operator door; a higher one may all that
// a lower one may.
type role int

const (
	nobody   role = iota // may what needs no credential
	viewer               // reads
	operator             // changes
	admin                // tokens, certificates, snapshots, profiles
)

func (r role) String() string { return [...]string{"nobody", "viewer", "operator", "admin"}[r] }

var tokenRoles = map[clusterpb.TokenRole]role{
	clusterpb.TokenRole_ROLE_VIEWER:   viewer,
	clusterpb.TokenRole_ROLE_OPERATOR: operator,
	clusterpb.TokenRole_ROLE_ADMIN:    admin,
}

// caller is who asks, as the events tell it.
type caller struct{ actor, source string }

type callerKey struct{}

func callerOf(r *http.Request) caller {
	if c, ok := r.Context().Value(callerKey{}).(caller); ok {
		return c
	}
	return caller{actor: "unknown", source: r.RemoteAddr}
}

// Authorize guards the operator door, whatever next serves on it. How a request
// came decides, as net/http's server tells it: over the unix socket everything
// is served; over plain HTTP only metrics and health; over TLS everything else
// wants the bearer token of a role that suffices.
func Authorize(state func() *cluster.State, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		need := needs(r)
		switch {
		case isSocket(r):
			serveAs(w, r, next, peerOf(r))
		case need == nobody:
			next.ServeHTTP(w, r)
		case r.TLS == nil:
			send(w, http.StatusForbidden, &problem{Message: "use https or the unix socket"})
		default:
			has, c, why := identify(state(), r, time.Now())
			switch {
			case has == nobody:
				w.Header().Set("WWW-Authenticate", `Bearer realm="muster"`)
				send(w, http.StatusUnauthorized, &problem{
					Message: why,
					Next:    "send Authorization: Bearer TOKEN; `muster token create --role viewer|operator|admin` makes one",
				})
			case has < need:
				send(w, http.StatusForbidden, &problem{
					Message: "the token's role is " + has.String() + ", this needs " + need.String(),
					Next:    "make one with `muster token create --role " + need.String() + "` on a node, or as an admin",
				})
			default:
				serveAs(w, r, next, c)
			}
		}
	})
}

func serveAs(w http.ResponseWriter, r *http.Request, next http.Handler, c caller) {
	next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
}

// isSocket says whether the server took the connection on a unix socket.
func isSocket(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && addr.Network() == "unix"
}

// identify finds the role of the token that the request carries, or says why
// there is none. The look-up goes by the token's SHA-256 and ends in a
// comparison of constant time. Only who has the whole token hears of its end.
func identify(st *cluster.State, r *http.Request, now time.Time) (has role, c caller, why string) {
	text, ok := bearer(r)
	if st == nil || !ok {
		return nobody, caller{}, "no operator token"
	}
	t := st.TokenByHash(pki.Hash(text))
	if t == nil || !pki.Matches(t.GetHash(), text) {
		return nobody, caller{}, "the token is not known: it was revoked, has expired long ago, or was not copied whole"
	}
	if t.GetExpiresMs() != 0 && t.GetExpiresMs() <= now.UnixMilli() {
		return nobody, caller{}, "the token " + t.GetId() + " has expired at " + timeText(t.GetExpiresMs())
	}
	if has = tokenRoles[t.GetRole()]; has == nobody {
		return nobody, caller{}, "the token " + t.GetId() + " is for a node that joins, not for this door"
	}
	return has, caller{actor: has.String() + " token " + t.GetId(), source: r.RemoteAddr}, ""
}

// bearer is the token in the Authorization header; several are none.
func bearer(r *http.Request) (string, bool) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	text = strings.TrimSpace(text)
	return text, strings.EqualFold(scheme, "Bearer") && text != ""
}

// free are the paths that need no credential.
var free = map[string]bool{"/metrics": true, "/-/healthy": true, "/-/ready": true}

// asked are the POSTs that change nothing: queries too long for a URL, and plans.
var asked = map[string]bool{
	"/api/v1/query": true, "/api/v1/query_range": true, "/api/v1/query_exemplars": true, "/api/v1/series": true,
	"/api/v1/labels": true, "/api/v1/read": true, "/api/v1/format_query": true, "/api/v1/parse_query": true,
}

// needs is the role that a request needs. Whatever it does not know is read
// with GET and HEAD, and otherwise changed.
func needs(r *http.Request) role {
	path := r.URL.Path
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case free[path] && reads:
		return nobody
	case under(path, "/debug"), under(path, "/api/v1/tokens"), under(path, "/api/v1/certificates"),
		under(path, "/api/v1/snapshot"), under(path, "/api/v1/cluster/init"), under(path, "/api/v1/cluster/join"),
		under(path, "/api/v1/cluster/recover"):
		return admin
	case reads, r.Method == http.MethodPost && (asked[path] || plans(path)):
		return viewer
	default:
		return operator
	}
}

// plans says whether the path is that of a ring's plan, which keeps nothing. A
// ring may itself be called plan.
func plans(path string) bool {
	rest, ok := strings.CutPrefix(path, "/api/v1/rings/")
	name, last, found := strings.Cut(rest, "/")
	return ok && found && name != "" && last == "plan"
}

func under(path, root string) bool {
	rest, ok := strings.CutPrefix(path, root)
	return ok && (rest == "" || rest[0] == '/')
}
