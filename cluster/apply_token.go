package cluster

import (
	"bytes"

	"github.com/muster-metrics/muster/proto/clusterpb"
)

// maxTokens bounds the tokens of nodes and people.
const maxTokens = 10_000

func (e *edit) createToken(c *clusterpb.CreateToken) (uint64, *clusterpb.Refusal) {
	id := c.GetToken().GetId()
	if r := e.expect("token", id, e.next.Token(id).GetVersion()); r != nil {
		return 0, r
	}
	if r := e.addToken(c.GetToken()); r != nil {
		return 0, r
	}
	e.note("token created", id, "")
	return e.rev, nil
}

// addToken takes a token into the state: its hash, never the secret.
func (e *edit) addToken(t *clusterpb.Token) *clusterpb.Refusal {
	if r := firstOf(checkName("id", "token id", t.GetId()), checkBytes("hash", t.GetHash(), hashLen)); r != nil {
		return r
	}
	_, taken := e.next.tokenHashes.Get(t.GetHash())
	switch {
	case roleText(t.GetRole()) == "":
		return invalid("role", "role %d: want node, viewer, operator or admin", t.GetRole())
	case t.GetExpiresMs() < 0 || t.GetExpiresMs() > maxTime || t.GetExpiresMs() == 0 && t.GetRole() == clusterpb.TokenRole_ROLE_NODE:
		return invalid("expires", "a token needs a time at which it expires; 0, never, is for people's tokens only")
	case t.GetExpiresMs() != 0 && t.GetExpiresMs() <= e.now:
		return invalid("expires", "the token would have expired already")
	case t.GetBoundName() != "" || len(t.GetBoundKeyHash()) > 0:
		return invalid("bound_name", "a new token is bound to nobody: its first use binds it")
	case taken || e.next.Token(t.GetId()) != nil:
		return refuse(clusterpb.Refusal_EXISTS, "id", "token %s exists already", t.GetId())
	case e.next.tokens.Len() >= maxTokens:
		return full("id", "there are %d tokens: revoke some first", maxTokens)
	}
	e.setToken(&clusterpb.Token{
		Id: t.GetId(), Role: t.GetRole(), Hash: bytes.Clone(t.GetHash()),
		CreatedMs: e.now, CreatedBy: e.by(), ExpiresMs: t.GetExpiresMs(), Version: e.rev,
	})
	return nil
}

// bindToken binds a node's token to the name and key of its first use.
func (e *edit) bindToken(c *clusterpb.BindToken) (uint64, *clusterpb.Refusal) {
	t := e.next.Token(c.GetId())
	r := firstOf(
		checkName("name", "node name", c.GetName()),
		checkBytes("key_hash", c.GetKeyHash(), keyHashLen),
		e.expect("token", c.GetId(), t.GetVersion()),
	)
	if r != nil {
		return 0, r
	}
	if r := e.useToken(c.GetId(), c.GetName(), c.GetKeyHash()); r != nil {
		return 0, r
	}
	next := e.next.Token(c.GetId())
	if next.GetVersion() == e.rev {
		e.note("token used", next.GetId(), "by "+c.GetName())
	}
	return next.GetVersion(), nil
}

// useToken lets a node in by its token: the first use binds it, the same name
// and key may use it again until it expires.
func (e *edit) useToken(id, name string, keyHash []byte) *clusterpb.Refusal {
	t := e.next.Token(id)
	denied := func(format string, args ...any) *clusterpb.Refusal {
		return refuse(clusterpb.Refusal_DENIED, "token", format, args...)
	}
	switch {
	case t == nil:
		return denied("there is no token %s: it was revoked, or its time is over; `muster token create --role node` makes one", quote(id))
	case t.GetRole() != clusterpb.TokenRole_ROLE_NODE:
		return denied("token %s is a person's, not a node's: `muster token create --role node` makes one", t.GetId())
	case t.GetExpiresMs() <= e.now:
		return denied("token %s has expired: `muster token create --role node` makes another", t.GetId())
	case t.GetBoundName() == name && bytes.Equal(t.GetBoundKeyHash(), keyHash):
		return nil
	case t.GetBoundName() != "":
		return denied("token %s was used by %s, with its key: each node needs a token of its own", t.GetId(), t.GetBoundName())
	}
	next := copyOf(t)
	next.BoundName, next.BoundKeyHash, next.Version = name, bytes.Clone(keyHash), e.rev
	e.setToken(next)
	return nil
}

func (e *edit) revokeToken(c *clusterpb.RevokeToken) (uint64, *clusterpb.Refusal) {
	t := e.next.Token(c.GetId())
	if r := e.expect("token", c.GetId(), t.GetVersion()); r != nil {
		return 0, r
	}
	if t == nil {
		return 0, notFound("there is no token %s", quote(c.GetId()))
	}
	e.dropToken(t)
	e.differ("token", t.GetId(), tokenFacts(t), nil)
	e.note("token revoked", t.GetId(), "")
	return 0, nil
}

func (e *edit) setToken(t *clusterpb.Token) {
	e.differ("token", t.GetId(), tokenFacts(e.next.Token(t.GetId())), tokenFacts(t))
	e.next.tokens = insert(e, e.next.tokens, []byte(t.GetId()), kindToken, t)
	e.next.tokenHashes, _, _ = e.next.tokenHashes.Insert(t.GetHash(), t.GetId())
	e.changed.Tokens = true
}

func (e *edit) dropToken(t *clusterpb.Token) {
	e.next.tokens = drop(e, e.next.tokens, []byte(t.GetId()), kindToken)
	e.next.tokenHashes, _, _ = e.next.tokenHashes.Delete(t.GetHash())
	e.changed.Tokens = true
}

// roleText is the role as people write it; "" for one that is none.
func roleText(r clusterpb.TokenRole) string {
	switch r {
	case clusterpb.TokenRole_ROLE_NODE:
		return "node"
	case clusterpb.TokenRole_ROLE_VIEWER:
		return "viewer"
	case clusterpb.TokenRole_ROLE_OPERATOR:
		return "operator"
	case clusterpb.TokenRole_ROLE_ADMIN:
		return "admin"
	default:
		return ""
	}
}
