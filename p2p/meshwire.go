package p2p

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
)

// Kinds of messages of /asmtp/mesh/1.
const (
	kindHello      = 1
	kindStatements = 2
	kindAddresses  = 3
	kindDone       = 4
)

// Limits of /asmtp/mesh/1. A mesh of 100 nodes makes about 400 certificates a year.
const (
	maxVersion        = 64
	maxHashes         = 8192
	maxStatementsSize = 32 << 10 // of one message
	maxTold           = 64       // nodes whose addresses are told
	maxAddresses      = 4        // told of one node
	maxAddress        = 255
	maxHello          = 1 + maxVersion + 4 + maxHashes*mesh.IDSize
	maxAddressesSize  = 2 + maxTold*(noise.KeySize+1+maxAddresses*(1+maxAddress))
)

// hello begins the exchange: which program, and which statements it has.
type hello struct {
	version string
	hashes  [][mesh.IDSize]byte
}

func (h hello) encode() []byte {
	b := append([]byte{byte(len(h.version))}, h.version...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(h.hashes)))
	for _, hash := range h.hashes {
		b = append(b, hash[:]...)
	}
	return b
}

func parseHello(b []byte) (hello, error) {
	if len(b) < 1 || b[0] > maxVersion {
		return hello{}, foreign("hello without a version")
	}
	version, b, err := cutBytes(b[1:], int(b[0]))
	if err != nil {
		return hello{}, err
	}
	h := hello{version: string(version)}
	if h.version != cleanVersion(h.version) {
		return hello{}, foreign("version that is no printable text")
	}
	count, b, err := cutBytes(b, 4)
	if err != nil {
		return hello{}, err
	}
	n := binary.BigEndian.Uint32(count)
	if n > maxHashes || len(b) != int(n)*mesh.IDSize {
		return hello{}, foreign("hello with %d hashes in %d bytes", n, len(b))
	}
	h.hashes = make([][mesh.IDSize]byte, n)
	for i := range h.hashes {
		h.hashes[i] = [mesh.IDSize]byte(b[i*mesh.IDSize:])
	}
	return h, nil
}

// cleanVersion makes of s what may stand in a hello, and so in a peer's terminal.
func cleanVersion(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), maxVersion)]
}

// encodeStatements packs statements into as few messages as the limit allows.
func encodeStatements(statements []*mesh.Statement) [][]byte {
	var bodies [][]byte
	n, b := 0, appendCount(nil, 0)
	flush := func() {
		binary.BigEndian.PutUint16(b, uint16(n))
		bodies = append(bodies, b)
		n, b = 0, appendCount(nil, 0)
	}
	for _, s := range statements {
		raw := s.Bytes()
		if len(b)+2+len(raw) > maxStatementsSize {
			flush()
		}
		b = append(appendCount(b, len(raw)), raw...)
		n++
	}
	if n > 0 {
		flush()
	}
	return bodies
}

// parseStatements takes a message apart into the bytes of its statements.
func parseStatements(b []byte) ([][]byte, error) {
	n, b, err := cutCount(b, maxHashes)
	if err != nil {
		return nil, err
	}
	if len(b) < 2*n {
		return nil, foreign("%d statements in %d bytes", n, len(b))
	}
	all := make([][]byte, 0, n)
	for range n {
		var size int
		if size, b, err = cutCount(b, mesh.MaxStatement); err != nil {
			return nil, err
		}
		var raw []byte
		if raw, b, err = cutBytes(b, size); err != nil {
			return nil, err
		}
		all = append(all, raw)
	}
	if len(b) != 0 {
		return nil, foreign("%d bytes behind the statements", len(b))
	}
	return all, nil
}

// told is what one node says of where another, or itself, can be reached.
type told struct {
	key       noise.PublicKey
	addresses []string
}

func encodeAddresses(all []told) []byte {
	b := appendCount(nil, len(all))
	for _, t := range all {
		b = append(b, t.key[:]...)
		b = append(b, byte(len(t.addresses)))
		for _, a := range t.addresses {
			b = append(append(b, byte(len(a))), a...)
		}
	}
	return b
}

func parseAddresses(b []byte) ([]told, error) {
	n, b, err := cutCount(b, maxTold)
	if err != nil {
		return nil, err
	}
	all := make([]told, 0, n)
	for range n {
		var t told
		if t, b, err = cutTold(b); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	if len(b) != 0 {
		return nil, foreign("%d bytes behind the addresses", len(b))
	}
	return all, nil
}

func cutTold(b []byte) (told, []byte, error) {
	head, b, err := cutBytes(b, noise.KeySize+1)
	if err != nil {
		return told{}, nil, err
	}
	t := told{key: noise.PublicKey(head)}
	n := int(head[noise.KeySize])
	if n > maxAddresses {
		return told{}, nil, foreign("%d addresses of one node", n)
	}
	for range n {
		var size, address []byte
		if size, b, err = cutBytes(b, 1); err != nil {
			return told{}, nil, err
		}
		if address, b, err = cutBytes(b, int(size[0])); err != nil {
			return told{}, nil, err
		}
		if !validAddress(string(address)) {
			return told{}, nil, foreign("address that is not HOST:PORT")
		}
		t.addresses = append(t.addresses, string(address))
	}
	return t, b, nil
}

// validAddress reports whether s is HOST:PORT with a host name or an address of IP
// that somebody else could dial.
func validAddress(s string) bool {
	if len(s) > maxAddress {
		return false
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	if p, err := strconv.ParseUint(port, 10, 16); err != nil || p == 0 {
		return false
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return !ip.IsUnspecified() && !ip.IsMulticast() && ip.Zone() == ""
	}
	return validName(host)
}

// validName reports whether s looks like a host name: letters, digits, hyphens, dots.
func validName(s string) bool {
	if s == "" {
		return false
	}
	for _, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && r != '-' && r != '.' && r != '_' {
			return false
		}
	}
	return true
}
