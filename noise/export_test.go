package noise

import (
	"io"
	"net"
)

// What follows opens the generic halves to the tests: the reference's vectors use
// every pattern with both kinds of keys, the product with one each.

// CanRekey is whether the AEAD's key is exchanged in place.
var CanRekey = canRekey

// SealXEd25519 is SealX with keys of the other kind.
func SealXEd25519(random io.Reader, prologue []byte, from *PrivateKey, to PublicKey, payload []byte) ([]byte, error) {
	return sealX(ed25519Suite, random, prologue, from.pair(), to[:], payload)
}

// OpenXEd25519 is OpenX with keys of the other kind.
func OpenXEd25519(prologue []byte, own *PrivateKey, message []byte) (payload, from []byte, err error) {
	return openX(ed25519Suite, prologue, own.pair(), message)
}

// SealNX25519 is SealN with keys of the other kind.
func SealNX25519(random io.Reader, psk *[32]byte, to SharedPublic, payload []byte) ([]byte, error) {
	return sealN(x25519Suite, random, psk, to[:], payload)
}

// OpenNX25519 is OpenN with keys of the other kind.
func OpenNX25519(psk *[32]byte, own *SharedPrivate, message []byte) ([]byte, error) {
	return openN(x25519Suite, psk, own.pair(), message)
}

// IKX25519 runs the handshake with keys of the other kind and returns its messages
// and both ends, which talk over a and b.
func IKX25519(p Params, randomA, randomB io.Reader, initiator, responder *SharedPrivate, a, b net.Conn) (messages [2][]byte, ends [2]*Conn, err error) {
	p.Random = randomA
	to := responder.Public()
	ha, err := p.state(x25519Suite, initiator.pair(), to[:])
	if err != nil {
		return messages, ends, err
	}
	p.Random = randomB
	hb, err := p.state(x25519Suite, responder.pair(), nil)
	if err != nil {
		return messages, ends, err
	}
	if messages[0], _, _, err = ha.WriteMessage(nil, nil); err != nil {
		return messages, ends, err
	}
	if _, _, _, err = hb.ReadMessage(nil, messages[0]); err != nil {
		return messages, ends, err
	}
	var reply []byte
	reply, receive, send, err := hb.WriteMessage(nil, nil)
	if err != nil {
		return messages, ends, err
	}
	messages[1] = reply
	ends[1] = newConn(b, PublicKey(hb.PeerStatic()), hb.ChannelBinding(), send.UnsafeKey(), receive.UnsafeKey())
	_, send, receive, err = ha.ReadMessage(nil, reply)
	if err != nil {
		return messages, ends, err
	}
	ends[0] = newConn(a, PublicKey(to), ha.ChannelBinding(), send.UnsafeKey(), receive.UnsafeKey())
	return messages, ends, nil
}

// NewTestConn is a connection with the given keys.
func NewTestConn(c net.Conn, send, receive [32]byte) *Conn {
	return newConn(c, PublicKey{}, make([]byte, 64), send, receive)
}

// WithPublic is k under another name.
func WithPublic(k *PrivateKey, public PublicKey) *PrivateKey {
	other := *k
	other.public = public
	return &other
}

// KnownSecrets is how many common secrets k remembers, and how many it may.
func KnownSecrets(k *SharedPrivate) (n, most int) { return len(k.known.of), maxCommonSecrets }
