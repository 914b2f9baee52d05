package invite

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
)

// Limits of a reply. They bound what a guest keeps in memory for a host.
const (
	// MaxReply is the greatest length in bytes of a reply after its own length.
	MaxReply = 4 << 20
	// MaxPeers and MaxAddresses bound the list of peers and that of each.
	MaxPeers     = 256
	MaxAddresses = 16
)

// Kind is what a guest asks for.
type Kind byte

// The kinds of requests.
const (
	JoinMesh Kind = 1 // a node, with a line of kind mesh
	BeUser   Kind = 2 // a device, with a line of kind user
)

// Reply is what the host hands over. That for [BeUser] is empty.
type Reply struct {
	Secret      mesh.Secret
	Certificate []byte   // of the guest's key
	Statements  [][]byte // all that the host has, the founding statement among them
	Peers       []Peer   // members to connect with, the host among them
}

// Peer is a member of the mesh and where it is reached.
type Peer struct {
	Key       noise.PublicKey
	Addresses []string // HOST:PORT
}

var (
	// ErrFormat is wrapped by the errors for bytes that are no reply.
	ErrFormat = errors.New("not a reply to an invitation")
	// ErrUsed is for a line that was used as often as it may be.
	ErrUsed = errors.New("the invitation was used up")
	// ErrEnded is for a line whose time is over, here by the host's clock.
	ErrEnded = mesh.ErrEnded
	// ErrNotAllowed is for a line of the other kind, or a host that may not let in
	// any more.
	ErrNotAllowed = errors.New("the inviting node may not let this one in")
	// ErrLater is for a host that failed by no fault of the guest; asking again helps.
	ErrLater = errors.New("the inviting node could not answer now")
)

// codes joins errors and their codes on the wire.
var codes = map[byte]error{1: ErrUsed, 2: ErrEnded, 3: ErrNotAllowed, 4: ErrLater}

// codeOf returns the code for an error of the host; what is not named is 4.
func codeOf(err error) byte {
	for code, known := range codes {
		if errors.Is(err, known) {
			return code
		}
	}
	return 4
}

// Encode returns what goes over the wire for a request of kind, without the length.
func (r *Reply) Encode(kind Kind) ([]byte, error) {
	b := []byte{0}
	if kind == BeUser {
		return b, nil
	}
	b = append(b, r.Secret[:]...)
	b, err := appendBytes(b, r.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Statements)))
	for _, s := range r.Statements {
		if b, err = appendBytes(b, s); err != nil {
			return nil, fmt.Errorf("statement: %w", err)
		}
	}
	if b, err = appendPeers(b, r.Peers); err != nil {
		return nil, err
	}
	if len(b) > MaxReply {
		return nil, fmt.Errorf("a reply of %d bytes, %d are allowed", len(b), MaxReply)
	}
	return b, nil
}

func appendBytes(b, v []byte) ([]byte, error) {
	if len(v) == 0 || len(v) > mesh.MaxStatement {
		return nil, fmt.Errorf("%d bytes, 1 to %d are allowed", len(v), mesh.MaxStatement)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(v)))
	return append(b, v...), nil
}

func appendPeers(b []byte, peers []Peer) ([]byte, error) {
	if len(peers) > MaxPeers {
		return nil, fmt.Errorf("%d peers, %d are allowed", len(peers), MaxPeers)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(peers)))
	for _, p := range peers {
		if len(p.Addresses) > MaxAddresses {
			return nil, fmt.Errorf("%d addresses of a peer, %d are allowed", len(p.Addresses), MaxAddresses)
		}
		b = append(b, p.Key[:]...)
		b = append(b, byte(len(p.Addresses)))
		for _, a := range p.Addresses {
			if len(a) == 0 || len(a) > 255 {
				return nil, fmt.Errorf("address of %d bytes, 1 to 255 are allowed", len(a))
			}
			b = append(b, byte(len(a)))
			b = append(b, a...)
		}
	}
	return b, nil
}

// ParseReply reads a reply to a request of kind, without the length. If the host
// refused, the error wraps the reason. The reply keeps no part of b. Statements are
// not looked into: that is for package mesh.
func ParseReply(b []byte, kind Kind) (*Reply, error) {
	if len(b) > MaxReply {
		return nil, fmt.Errorf("%w: %d bytes", ErrFormat, len(b))
	}
	r := reader{rest: b}
	if code := r.u8(); code != 0 && !r.failed {
		reason, known := codes[code]
		if !known || len(r.rest) != 0 {
			return nil, fmt.Errorf("%w: unknown code %d or bytes behind it", ErrFormat, code)
		}
		return nil, reason
	}
	reply := new(Reply)
	if kind == JoinMesh {
		r.reply(reply)
	}
	if r.failed || len(r.rest) != 0 {
		return nil, fmt.Errorf("%w: cut, too long or beyond a limit", ErrFormat)
	}
	return reply, nil
}

// reader takes fields off the front of what it has. After the first that is not
// there every one is zero.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) reply(reply *Reply) {
	copy(reply.Secret[:], r.take(mesh.SecretSize))
	r.failed = r.failed || reply.Secret.IsZero()
	reply.Certificate = r.statement()
	// Each takes three bytes at least, so a lying count ends the loop soon.
	for n := r.u32(); n > 0 && !r.failed; n-- {
		reply.Statements = append(reply.Statements, r.statement())
	}
	n := r.u16()
	r.failed = r.failed || n > MaxPeers
	for ; n > 0 && !r.failed; n-- {
		reply.Peers = append(reply.Peers, r.peer())
	}
}

func (r *reader) statement() []byte {
	n := int(r.u16())
	r.failed = r.failed || n == 0 || n > mesh.MaxStatement
	return append([]byte(nil), r.take(n)...)
}

func (r *reader) peer() (p Peer) {
	copy(p.Key[:], r.take(noise.KeySize))
	n := r.u8()
	r.failed = r.failed || n > MaxAddresses
	for ; n > 0 && !r.failed; n-- {
		size := int(r.u8())
		r.failed = r.failed || size == 0
		p.Addresses = append(p.Addresses, string(r.take(size)))
	}
	return p
}

func (r *reader) take(n int) []byte {
	if r.failed || n > len(r.rest) {
		r.failed = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}
