// Package pki is the cluster's own certificate authority: certificates,
// keys and tokens that nobody has to make, copy or renew by hand.
//
// `cluster init` makes a CA (ECDSA P-256, ten years). Its certificate is part of
// the control state, its key lies in pki/ca.key of the voters only and never
// enters Raft. A node makes one key, pki/node.key, for as long as its data
// directory lives, and asks for certificates with PKCS #10 requests. A
// certificate lasts thirty days and is renewed between 50 and 80 % of its life.
//
// A CA is replaced by another without a moment in which somebody is not believed:
// both are believed for a while, and the old one vouches for the new one
// (Bundle.Rotated), so that whoever has heard of the old one alone can follow a
// chain to every certificate. Nodes get certificates of the new one; then the old
// one is dropped, and whoever has its key can do nothing with it any more.
//
// Who somebody is stands in one URI of the certificate:
//
//	muster://<cluster-id>/<role>/<name>[/<incarnation>][?tenant=<id>]
//
// Role is node, reader or writer. Whether a node of that name, incarnation and
// key is still a member is not the certificate's business: the member door asks
// the committed state, so that a removal is a revocation at once.
//
// A token lets somebody in who has no certificate yet:
//
//	MUSTER1.<ca-hash>.<id>.<secret>    a node that joins, or a person (viewer, operator, admin)
//	MUSTERT1.<id>.<secret>             a tenant
//
// ca-hash is the SHA-256 of the CA certificate's public key (SPKI), in hex: the
// bearer knows whom to trust before it sends the token. Tokens are compared as
// text, by their SHA-256, and only that hash is kept anywhere.
package pki
