package noise

import (
	"errors"
	"fmt"
	"io"

	flynn "github.com/flynn/noise"
)

// XOverhead is how many bytes a message of pattern X is longer than its payload:
// an ephemeral key, an encrypted static key, two tags.
const XOverhead = 32 + 32 + 16 + 16

// NOverhead is how many bytes a message of pattern N is longer than its payload:
// an ephemeral key and a tag.
const NOverhead = 32 + 16

// MaxPayload is the largest payload of one sealed message (FORMAT.md section 2.1).
const MaxPayload = 65519

var (
	// ErrOpen is wrapped by the errors for a sealed message that is cut, changed, or
	// sealed for another key, prologue or psk. Which of these, nobody can tell.
	ErrOpen = errors.New("sealed message does not open")
	// ErrTooLong is wrapped by the errors for a payload or frame that is too long to send.
	ErrTooLong = errors.New("too long")
)

// SealX seals payload for the key to as Noise_X_25519_ChaChaPoly_BLAKE2b does it:
// only its owner can open it and then knows that from sealed it, or that its own
// key leaked. The result has XOverhead more bytes. A nil random means crypto/rand.
func SealX(random io.Reader, prologue []byte, from *SharedPrivate, to SharedPublic, payload []byte) ([]byte, error) {
	return sealX(suiteFor(&sealingDH{own: from, to: to}), random, prologue, from.pair(), to[:], payload)
}

// OpenX opens what SealX made for own with the same prologue, and returns the
// sender's key as it stands in the message. Compare it, byte by byte, with the one
// expected: everybody can seal for own.
func OpenX(prologue []byte, own *SharedPrivate, message []byte) (payload []byte, from SharedPublic, err error) {
	payload, static, err := openX(suiteFor(&sealingDH{own: own}), prologue, own.pair(), message)
	if err != nil {
		return nil, SharedPublic{}, err
	}
	return payload, SharedPublic(static), nil
}

func sealX(suite flynn.CipherSuite, random io.Reader, prologue []byte, from flynn.DHKey, to, payload []byte) ([]byte, error) {
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("seal %d bytes, at most %d: %w", len(payload), MaxPayload, ErrTooLong)
	}
	h, err := flynn.NewHandshakeState(flynn.Config{
		CipherSuite: suite, Random: random, Pattern: flynn.HandshakeX, Initiator: true,
		Prologue: prologue, StaticKeypair: from, PeerStatic: to,
	})
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	message, _, _, err := h.WriteMessage(make([]byte, 0, len(payload)+XOverhead), payload)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return message, nil
}

func openX(suite flynn.CipherSuite, prologue []byte, own flynn.DHKey, message []byte) (payload, from []byte, err error) {
	if len(message) < XOverhead || len(message) > MaxPayload+XOverhead {
		return nil, nil, fmt.Errorf("%w: %d bytes", ErrOpen, len(message))
	}
	h, err := flynn.NewHandshakeState(flynn.Config{
		CipherSuite: suite, Pattern: flynn.HandshakeX,
		Prologue: prologue, StaticKeypair: own,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrOpen, err)
	}
	payload, _, _, err = h.ReadMessage(nil, message)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrOpen, err)
	}
	return payload, h.PeerStatic(), nil
}
