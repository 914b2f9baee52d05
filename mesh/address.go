package mesh

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// checkAddress reports whether a is HOST:PORT as one could dial it: an IP address
// without a zone (which means something on one machine only) or a host name, and a
// port that is not 0. It does not look the name up.
func checkAddress(a string) error {
	if len(a) > maxAddress {
		return fmt.Errorf("address of %d bytes, at most %d are allowed", len(a), maxAddress)
	}
	host, port, err := net.SplitHostPort(a)
	if err != nil || net.JoinHostPort(host, port) != a {
		return fmt.Errorf("%.40q is no address HOST:PORT", a)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%.40q has no port from 1 to 65535", a)
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		return nil
	}
	if !isHostName(host) {
		return fmt.Errorf("%.40q names no host", a)
	}
	return nil
}

// isHostName goes by RFC 1123 section 2.1 and the lengths of RFC 1035. Names with an
// underscore are taken too, since some home routers give such.
func isHostName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !isLetterOrDigit(c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

func isLetterOrDigit(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
