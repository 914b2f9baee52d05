package port

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
)

// Version is the first byte of a connection: who calls. 1 is kept for clients of the
// reference implementation.
type Version byte

// The versions of design.md section 5.
const (
	Client Version = 2 // a device of a user of this node
	Mesh   Version = 3 // a member of the mesh
	Join   Version = 4 // who holds an invitation
)

// String is how logs name a version.
func (v Version) String() string {
	switch v {
	case Client:
		return "client"
	case Mesh:
		return "mesh"
	case Join:
		return "join"
	}
	return fmt.Sprintf("version %d", byte(v))
}

// StampSize is the length of a stamp: 4 zero bytes and nanoseconds as a u64.
const StampSize = 12

// HintSize is the length of what follows version byte 4: which invitation it is.
const HintSize = 8

// payloadSize is the length of both payloads of versions 3 and 4.
const payloadSize = 512

// CertificateSpace and ReplyCertificateSpace are the lengths of the payloads that
// carry a certificate: the first message's has a stamp before it.
const (
	CertificateSpace      = payloadSize - StampSize
	ReplyCertificateSpace = payloadSize
)

// ClientParams are those of a client's connection to its node: 109 bytes, 49 back.
func ClientParams() noise.Params {
	return noise.Params{Prefix: []byte{byte(Client)}, Prologue: []byte("asmtp/2 client"), PayloadA: StampSize}
}

// MeshParams are those of a connection between two members of a mesh.
func MeshParams(id mesh.ID, psk [32]byte) noise.Params {
	return noise.Params{
		Prefix: []byte{byte(Mesh)}, Prologue: append([]byte("asmtp/2 mesh"), id[:]...), PSK: psk[:],
		PayloadA: payloadSize, PayloadB: payloadSize,
	}
}

// JoinParams are those of a connection of who holds an invitation's token.
func JoinParams(token mesh.Token) noise.Params {
	hint, psk := token.Hint(), token.PSK()
	return noise.Params{
		Prefix: append([]byte{byte(Join)}, hint[:]...), Prologue: []byte("asmtp/2 join"), PSK: psk[:],
		PayloadA: payloadSize, PayloadB: payloadSize,
	}
}

// ErrPayload is wrapped by the errors for a payload that is no certificate and zeros.
var ErrPayload = errors.New("payload is not as agreed")

// PackCertificate returns n u16 | certificate | zeros, size bytes in all.
func PackCertificate(certificate []byte, size int) ([]byte, error) {
	if 2+len(certificate) > size {
		return nil, fmt.Errorf("%w: certificate of %d bytes", ErrPayload, len(certificate))
	}
	b := make([]byte, size)
	binary.BigEndian.PutUint16(b, uint16(len(certificate)))
	copy(b[2:], certificate)
	return b, nil
}

// UnpackCertificate reads what PackCertificate made. The certificate is empty where
// none was packed.
func UnpackCertificate(payload []byte) ([]byte, error) {
	if len(payload) < 2 {
		return nil, fmt.Errorf("%w: %d bytes", ErrPayload, len(payload))
	}
	n := int(binary.BigEndian.Uint16(payload))
	if 2+n > len(payload) {
		return nil, fmt.Errorf("%w: certificate of %d bytes in %d", ErrPayload, n, len(payload))
	}
	for _, b := range payload[2+n:] {
		if b != 0 {
			return nil, fmt.Errorf("%w: not zero behind the certificate", ErrPayload)
		}
	}
	return payload[2 : 2+n : 2+n], nil
}
