package clientapi

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
)

// authenticated is gRPC's view of connections on which noise has done all there is to
// do. On the node it finds the session of a connection; on the client there is nothing to find.
type authenticated struct{}

// authInfo is what gRPC keeps with a connection.
type authInfo struct {
	credentials.CommonAuthInfo
	session *session // nil on the client
}

// AuthType names the kind of authentication.
func (authInfo) AuthType() string { return "noise" }

func newAuthInfo(s *session) authInfo {
	return authInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, s}
}

// ClientHandshake returns c as it is.
func (authenticated) ClientHandshake(_ context.Context, _ string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, newAuthInfo(nil), nil
}

// ServerHandshake returns c with its session.
func (authenticated) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	s, ok := c.(*session)
	if !ok {
		return nil, nil, errors.New("the connection is not of an authenticated listener")
	}
	return c, newAuthInfo(s), nil
}

// Info names the protocol.
func (authenticated) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "noise"}
}

// Clone returns the same, which holds nothing.
func (a authenticated) Clone() credentials.TransportCredentials { return a }

// OverrideServerName does nothing: the peer is known by its key.
func (authenticated) OverrideServerName(string) error { return nil }
