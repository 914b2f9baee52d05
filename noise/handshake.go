package noise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	flynn "github.com/flynn/noise"
)

var (
	// ErrWrongPeer is wrapped by [Client]'s errors for an answer that did not come
	// from the owner of the key that was called, or to other parameters.
	ErrWrongPeer = errors.New("the answer is not from the key that was called")
	// ErrRefused is wrapped by [Server]'s errors for a first message that does not
	// authenticate: garbage, another version, another server's key, another psk.
	ErrRefused = errors.New("first message does not authenticate")
	// ErrParams is wrapped by the errors for a mistake of the caller: lengths that do not fit the Params.
	ErrParams = errors.New("wrong use of a handshake")
)

// Params is what both sides of one kind of connection agree on.
type Params struct {
	// Prefix is sent in clear before the first message: a version byte, and what the
	// server needs to choose its parameters. The reply begins with its first byte.
	// Noise does not authenticate it; Prologue or PSK have to differ too.
	Prefix []byte
	// Prologue is authenticated by both sides and not sent.
	Prologue []byte
	// PSK is nil for Noise_IK_ed25519_ChaChaPoly_BLAKE2b or has 32 bytes for IKpsk0.
	PSK []byte
	// PayloadA and PayloadB are the exact lengths of the payloads of the two messages.
	PayloadA, PayloadB int
	// Random is where ephemeral keys are drawn from; nil means crypto/rand. For tests.
	Random io.Reader
}

// RequestSize is the length of all that the client sends in the handshake.
func (p Params) RequestSize() int { return len(p.Prefix) + 32 + 48 + p.PayloadA + 16 }

// ResponseSize is the length of the server's reply.
func (p Params) ResponseSize() int { return 1 + 32 + p.PayloadB + 16 }

func (p Params) check() error {
	switch {
	case len(p.Prefix) == 0:
		return fmt.Errorf("%w: no prefix", ErrParams)
	case p.PSK != nil && len(p.PSK) != 32:
		return fmt.Errorf("%w: psk of %d bytes", ErrParams, len(p.PSK))
	case p.PayloadA < 0 || p.PayloadA > MaxPayload || p.PayloadB < 0 || p.PayloadB > MaxPayload:
		return fmt.Errorf("%w: payload length", ErrParams)
	}
	return nil
}

// state begins a handshake: the initiator's if peer is not nil.
func (p Params) state(suite flynn.CipherSuite, own flynn.DHKey, peer []byte) (*flynn.HandshakeState, error) {
	return flynn.NewHandshakeState(flynn.Config{
		CipherSuite: suite, Random: p.Random, Pattern: flynn.HandshakeIK, Initiator: peer != nil,
		Prologue: p.Prologue, PresharedKey: p.PSK, StaticKeypair: own, PeerStatic: peer,
	})
}

// Gate decides about a peer after its first message was read and authenticated and
// its key checked, before one byte is answered. reply must have Params.PayloadB
// bytes. An error refuses the peer, without an answer.
//
// The first message can be a replay: who sent it has proved nothing yet. Put a stamp
// into the payload, and count a peer as present after its first frame only.
type Gate func(peer PublicKey, payload []byte) (reply []byte, err error)

// Client runs the initiator's side on c: it sends payload and returns the server's
// reply and the connection. It fails with an error wrapping [ErrWrongPeer] if the
// answer is not from peer; a server that refuses closes without an answer, so then
// the error is that of the read. ctx cancels it. It never closes c.
func Client(ctx context.Context, c net.Conn, p Params, own *PrivateKey, peer PublicKey, payload []byte) (*Conn, []byte, error) {
	if err := p.check(); err != nil {
		return nil, nil, err
	}
	if len(payload) != p.PayloadA {
		return nil, nil, fmt.Errorf("%w: payload of %d bytes, want %d", ErrParams, len(payload), p.PayloadA)
	}
	if err := peer.Check(); err != nil {
		return nil, nil, fmt.Errorf("peer to call: %w", err)
	}
	var conn *Conn
	var reply []byte
	err := within(ctx, c, func() error {
		var err error
		conn, reply, err = initiate(c, p, own, peer, payload)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return conn, reply, nil
}

func initiate(c net.Conn, p Params, own *PrivateKey, peer PublicKey, payload []byte) (*Conn, []byte, error) {
	h, err := p.state(ed25519Suite, own.pair(), peer[:])
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	request := append(make([]byte, 0, p.RequestSize()), p.Prefix...)
	request, _, _, err = h.WriteMessage(request, payload) // -> e, es, s, ss
	if err != nil {
		return nil, nil, fmt.Errorf("make the first message: %w", err)
	}
	if _, err := c.Write(request); err != nil {
		return nil, nil, fmt.Errorf("send the first message: %w", err)
	}
	response := make([]byte, p.ResponseSize())
	if _, err := io.ReadFull(c, response); err != nil {
		return nil, nil, fmt.Errorf("read the answer: %w", err)
	}
	if response[0] != p.Prefix[0] {
		return nil, nil, fmt.Errorf("%w: it begins with %d instead of %d", ErrWrongPeer, response[0], p.Prefix[0])
	}
	reply, send, receive, err := h.ReadMessage(nil, response[1:]) // <- e, ee, se
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrWrongPeer, err)
	}
	return newConn(c, peer, h.ChannelBinding(), send.UnsafeKey(), receive.UnsafeKey()), reply, nil
}

// Server runs the responder's side on c, from which the caller has read all of
// p.Prefix already. On any error not one byte was answered (unless it is the write of
// the answer that failed). ctx cancels it. It never closes c.
func Server(ctx context.Context, c net.Conn, p Params, own *PrivateKey, gate Gate) (*Conn, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	var conn *Conn
	err := within(ctx, c, func() error {
		var err error
		conn, err = respond(ctx, c, p, own, gate)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

func respond(ctx context.Context, c net.Conn, p Params, own *PrivateKey, gate Gate) (*Conn, error) {
	request := make([]byte, p.RequestSize()-len(p.Prefix))
	if _, err := io.ReadFull(c, request); err != nil {
		return nil, fmt.Errorf("read the first message: %w", err)
	}
	h, err := p.state(ed25519Suite, own.pair(), nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParams, err)
	}
	payload, _, _, err := h.ReadMessage(nil, request) // -> e, es, s, ss
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	peer := PublicKey(h.PeerStatic())
	if err := peer.Check(); err != nil {
		return nil, fmt.Errorf("peer's key: %w", err)
	}
	reply, err := gate(peer, payload)
	if err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	if len(reply) != p.PayloadB {
		return nil, fmt.Errorf("%w: reply of %d bytes, want %d", ErrParams, len(reply), p.PayloadB)
	}
	response := append(make([]byte, 0, p.ResponseSize()), p.Prefix[0])
	response, receive, send, err := h.WriteMessage(response, reply) // <- e, ee, se
	if err != nil {
		return nil, fmt.Errorf("make the answer: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, err := c.Write(response); err != nil {
		return nil, fmt.Errorf("send the answer: %w", err)
	}
	return newConn(c, peer, h.ChannelBinding(), send.UnsafeKey(), receive.UnsafeKey()), nil
}

// within runs f and makes c's deadline pass as soon as ctx is done. Then the error
// is ctx's, and c is of no further use.
func within(ctx context.Context, c net.Conn, f func() error) error {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}
