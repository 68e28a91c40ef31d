package admin

import (
	"net/http"
	"time"

	"github.com/muster-metrics/muster/cluster"
	"github.com/muster-metrics/muster/cluster/pki"
	"github.com/muster-metrics/muster/proto/clusterpb"
)

// tokenObject is a token of a node or a person, without its text.
type tokenObject struct {
	ID      string `json:"id"`
	Role    string `json:"role"`
	Created string `json:"created,omitempty"`
	By      string `json:"created_by,omitempty"`
	Expires string `json:"expires"` // "": never
	Expired bool   `json:"expired,omitempty"`
	UsedBy  string `json:"used_by,omitempty"` // the node that it let in
	Version uint64 `json:"version"`
}

var roles = map[clusterpb.TokenRole]string{
	clusterpb.TokenRole_ROLE_NODE:     "node",
	clusterpb.TokenRole_ROLE_VIEWER:   "viewer",
	clusterpb.TokenRole_ROLE_OPERATOR: "operator",
	clusterpb.TokenRole_ROLE_ADMIN:    "admin",
}

// nodeTokenLife is how long a join token lives that was not told otherwise.
const nodeTokenLife = time.Hour

// timeText is a time of the state for people and programs; "" for none.
func timeText(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format(time.RFC3339)
}

func tokenOf(t *clusterpb.Token) object {
	return object{tokenObject{
		ID: t.GetId(), Role: roles[t.GetRole()], Created: timeText(t.GetCreatedMs()), By: t.GetCreatedBy(), Expires: timeText(t.GetExpiresMs()),
		Expired: t.GetExpiresMs() != 0 && t.GetExpiresMs() <= time.Now().UnixMilli(),
		UsedBy:  t.GetBoundName(), Version: t.GetVersion(),
	}, t.GetVersion()}
}

func (a *api) tokens(_ *http.Request, st *cluster.State) (object, error) {
	list := []any{}
	for _, t := range st.Tokens() {
		list = append(list, tokenOf(t).body)
	}
	return object{body: map[string]any{"tokens": list}}, nil
}

func showToken(id string) func(*cluster.State) (object, error) {
	return func(st *cluster.State) (object, error) {
		t := st.Token(id)
		if t == nil {
			return object{}, notFound("there is no token %q", id)
		}
		return tokenOf(t), nil
	}
}

func (a *api) createToken(r *http.Request) (change, error) {
	var o struct {
		Role    string `json:"role"`
		Expires *span  `json:"expires"`
	}
	if err := decode(r, &o); err != nil {
		return change{}, err
	}
	token, err := a.newToken(r)
	if err != nil {
		return change{}, err
	}
	t := &clusterpb.Token{Id: token.ID, Hash: token.Hash()}
	for role, name := range roles {
		if name == o.Role {
			t.Role = role
		}
	}
	if t.GetRole() == clusterpb.TokenRole_TOKEN_ROLE_UNSPECIFIED {
		return change{}, bad("role", "role %q: want node, viewer, operator or admin", o.Role)
	}
	life, err := o.Expires.milliseconds("expires")
	switch {
	case err != nil:
		return change{}, err
	case life != nil && *life > 0:
		t.ExpiresMs = time.Now().UnixMilli() + *life
	case t.GetRole() == clusterpb.TokenRole_ROLE_NODE:
		t.ExpiresMs = time.Now().Add(nodeTokenLife).UnixMilli()
	}
	return change{
		command: &clusterpb.Command{Change: &clusterpb.Command_CreateToken{CreateToken: &clusterpb.CreateToken{Token: t}}},
		made:    func(st *cluster.State) bool { return st.TokenByHash(t.GetHash()) != nil },
		body: func(out outcome) any {
			return struct {
				ID      string `json:"id"`
				Role    string `json:"role"`
				Token   string `json:"token"`
				Expires string `json:"expires"`
				outcome
			}{t.GetId(), o.Role, token.Text(), timeText(t.GetExpiresMs()), out}
		},
	}, nil
}

// newToken makes a token that names the cluster's CA, so that its bearer knows
// whom to show it: the newest CA once every member shows that, else the oldest,
// which leads to both.
func (a *api) newToken(r *http.Request) (pki.Token, error) {
	c := a.node.State().Cluster()
	if c == nil {
		return pki.Token{}, cluster.ErrNoCluster
	}
	bundle, err := pki.ParseBundle(c.GetCaCertificates())
	if err != nil {
		return pki.Token{}, err
	}
	ca := bundle.Fingerprint()
	if len(a.node.AwaitedForCA()) > 0 {
		ca = pki.FingerprintOf(bundle.Certificates()[0])
	}
	return pki.TokenFrom(ca, a.secrets(r))
}

func (a *api) revokeToken(r *http.Request) (change, error) {
	id := r.PathValue("id")
	return change{
		command: &clusterpb.Command{Change: &clusterpb.Command_RevokeToken{RevokeToken: &clusterpb.RevokeToken{Id: id}}},
		present: showToken(id),
	}, nil
}
