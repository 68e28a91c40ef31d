package door

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// AuthInfo tells a gRPC handler who calls.
type AuthInfo struct {
	credentials.CommonAuthInfo
	Identity Identity
	KeyHash  []byte // SHA-256 of the caller's key
	Protocol string
}

// AuthType is the name that gRPC shows for it.
func (AuthInfo) AuthType() string { return "muster" }

// ServerCredentials are for a grpc.Server over one of the door's listeners: the
// handshake has been made there.
func (d *Door) ServerCredentials() credentials.TransportCredentials { return handshaken{} }

// Peer is the member that made this call. It is false for a call over join/1.
func Peer(ctx context.Context) (Identity, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Identity{}, false
	}
	info, ok := p.AuthInfo.(AuthInfo)
	if !ok || info.Protocol != ProtocolGRPC {
		return Identity{}, false
	}
	return info.Identity, true
}

var errNotOurs = errors.New("the connection did not come through the member door")

// handshaken are gRPC credentials for connections of the door. They refuse all
// others, so that a server cannot serve plain TCP by mistake.
type handshaken struct{}

func (handshaken) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return handshaken{}.ServerHandshake(conn)
}

func (handshaken) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := conn.(*Conn)
	if !ok {
		return nil, nil, errNotOurs
	}
	return c, AuthInfo{
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		Identity:       c.peer,
		KeyHash:        c.keyHash,
		Protocol:       c.protocol,
	}, nil
}

func (handshaken) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (handshaken) Clone() credentials.TransportCredentials { return handshaken{} }

func (handshaken) OverrideServerName(string) error { return nil }
