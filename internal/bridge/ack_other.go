//go:build !linux

package bridge

import "net"

// acknowledge would have the kernel confirm what came at once, see ack_linux.go.
func acknowledge(net.Conn) {}
