// Package door is the member door: the one TCP port through which the nodes of a
// cluster reach each other.
//
// TLS 1.3 is all it speaks, and ALPN says what for:
//
//	raft/1   Raft's stream            a node's certificate, and a member
//	h2       gRPC between members     a node's certificate, and a member
//	join/1   gRPC of a joining node   no certificate: its token is judged behind the door
//	         and of a greeting        a certificate of the cluster, of a member or not
//
// A handshake runs in a goroutine of its own and ends within five seconds;
// afterwards the connection goes to the listener of its protocol. A peer is let in
// when its certificate comes from one of the cluster's CAs, names this cluster and
// the role node, and the committed state (SetMembers) knows that name, incarnation
// and key. Recheck applies a newer state to connections that are already open.
//
// Credentials are read again for each handshake, so a renewed certificate needs no
// restart. Without credentials the door is shut: connections are closed at once,
// but that a node which waits to join proves, to whoever knocks, who it is.
//
// The dialling side checks the server in the same way, and that it is the node
// that was asked for.
package door
