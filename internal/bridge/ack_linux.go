package bridge

import (
	"net"
	"syscall"
)

// acknowledge has the kernel confirm what came on a connection at once. It waits 40 ms for
// an answer to go with it otherwise, and a program that writes the end of a command on its
// own, as Python's imaplib does behind a literal, is kept from sending that by Nagle's
// algorithm until then (RFC 1122, section 4.2.3.4).
func acknowledge(c net.Conn) {
	tcp, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	// That it fails costs time only.
	_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1) })
}
