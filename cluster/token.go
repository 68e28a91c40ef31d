package cluster

import "github.com/muster-metrics/muster/proto/clusterpb"

// Token is the node's or person's token of that id; nil where there is none.
func (s *State) Token(id string) *clusterpb.Token {
	t, _ := s.tokens.Get([]byte(id))
	return t
}

// TokenByHash is the token whose text has that SHA-256; nil where there is
// none. The caller looks at its role and expiry.
func (s *State) TokenByHash(hash []byte) *clusterpb.Token {
	id, ok := s.tokenHashes.Get(hash)
	if !ok {
		return nil
	}
	return s.Token(id)
}

// Tokens are all tokens, by id.
func (s *State) Tokens() []*clusterpb.Token {
	out := make([]*clusterpb.Token, 0, s.tokens.Len())
	it := s.tokens.Root().Iterator()
	for _, t, ok := it.Next(); ok; _, t, ok = it.Next() {
		out = append(out, t)
	}
	return out
}
