package topic

import (
	"crypto/hkdf"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/asmtp/asmtp/noise"
)

// Suite is the number of the only way to seal that there is: Noise X with the
// current shared keys of both sides. It stands in the pair secret and in the
// prologue of every sealed part, so another suite gives other secrets and tags.
const Suite = 1

// pairInfo separates pair secrets from all else that is derived from a common secret.
const pairInfo = "asmtp/2 pair"

// SecretSize is the length in bytes of a [PairSecret] and of a [TagKey].
const SecretSize = 32

// ErrNotParty is the error for an own key that is neither side's.
var ErrNotParty = errors.New("own shared key is neither the sender's nor the recipient's")

// Party is one side of a pair: a passport's id and its shared key.
type Party struct {
	ID  [16]byte
	Key noise.SharedPublic
}

// PairSecret is what the two sides of a pair can compute and nobody else, for one
// direction. It never leaves the device. Its fmt and slog forms hide it.
type PairSecret struct{ b [SecretSize]byte }

// NewPairSecret returns the secret of mail from one party to another, for the
// holder of own, which is the shared key of either. t is [Derive] of their keys; it
// is taken as given because it is slow to derive.
//
// For mail among the devices of one user from and to are the same. Two parties of
// different ids with one key are refused with [ErrOwnKey], a key of the other side
// that is not canonical or leads to a common secret of zero with [ErrBadKey].
func NewPairSecret(t Topic, own *noise.SharedPrivate, from, to Party) (PairSecret, error) {
	var s PairSecret
	if from.Key == to.Key && from.ID != to.ID {
		return s, ErrOwnKey
	}
	peer := to.Key
	switch own.Public() {
	case from.Key:
	case to.Key:
		peer = from.Key
	default:
		return s, ErrNotParty
	}
	if err := peer.Check(); err != nil {
		return s, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	common, err := own.DH(peer)
	if err != nil {
		return s, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	derive(s.b[:], common, t[:], pairContext(from, to))
	return s, nil
}

// pairContext is the info of a pair secret:
// "asmtp/2 pair" | suite u8 | id a 16 | id b 16 | shared public a 32 | shared public b 32.
func pairContext(from, to Party) string {
	info := append([]byte(pairInfo), Suite)
	info = append(info, from.ID[:]...)
	info = append(info, to.ID[:]...)
	info = append(info, from.Key[:]...)
	info = append(info, to.Key[:]...)
	return string(info)
}

// ParsePairSecret reads the 32 bytes of a secret that was kept.
func ParsePairSecret(b []byte) (PairSecret, error) {
	var s PairSecret
	if len(b) != SecretSize {
		return s, fmt.Errorf("pair secret: want %d bytes, got %d", SecretSize, len(b))
	}
	copy(s.b[:], b)
	return s, nil
}

// Bytes returns a copy of the secret, for keeping it on the device.
func (s PairSecret) Bytes() []byte { return append([]byte(nil), s.b[:]...) }

// Equal reports whether both are the same secret, in constant time.
func (s PairSecret) Equal(other PairSecret) bool {
	return subtle.ConstantTimeCompare(s.b[:], other.b[:]) == 1
}

// Format prints a fixed word, whatever the verb, so that no secret is printed by accident.
func (s PairSecret) Format(f fmt.State, _ rune) { io.WriteString(f, "pair secret") }

// LogValue is what slog records of s.
func (s PairSecret) LogValue() slog.Value { return slog.StringValue("pair secret") }

// derive fills dst from HKDF-SHA512.
func derive(dst, secret, salt []byte, info string) {
	b, err := hkdf.Key(sha512.New, secret, salt, info, len(dst))
	if err != nil {
		panic(err) // only for a length that SHA-512 cannot give
	}
	copy(dst, b)
}
