package p2p

import (
	"fmt"
	"net"
	"net/netip"

	ma "github.com/multiformats/go-multiaddr"
)

// multiaddr writes HOST:PORT as libp2p does. A host name becomes /dns/, which
// stands for both families; our transport resolves it when it dials.
func multiaddr(address string) (ma.Multiaddr, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	kind := "dns"
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		host, kind = ip.String(), "ip6"
		if ip.Is4() {
			kind = "ip4"
		}
	}
	m, err := ma.NewMultiaddr("/" + kind + "/" + host + "/tcp/" + port)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	return m, nil
}

// hostPort is the inverse of multiaddr.
func hostPort(m ma.Multiaddr) (string, error) {
	port, err := m.ValueForProtocol(ma.P_TCP)
	if err != nil {
		return "", fmt.Errorf("address %s: %w", m, err)
	}
	for _, code := range []int{ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6} {
		if host, err := m.ValueForProtocol(code); err == nil {
			return net.JoinHostPort(host, port), nil
		}
	}
	return "", fmt.Errorf("address %s has no host", m)
}
