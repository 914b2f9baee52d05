//go:build !linux && !darwin

package control

import (
	"errors"
	"net"
)

// peerUID fails, so that nobody is let in where the peer's user is not known.
func peerUID(*net.UnixConn) (uid int, err error) {
	return 0, errors.New("this system does not tell the user of a connection")
}
