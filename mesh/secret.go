package mesh

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/asmtp/asmtp/noise"
)

// SecretSize is the length in bytes of a [Secret] and of a [Token].
const SecretSize = 32

// ErrSecret is the error for bytes that are no [Secret] or [Token]. It never
// repeats them.
var ErrSecret = errors.New("not a secret: want 32 bytes, not all zero")

// Secret is what all members of a mesh share. It is handed over inside a joined
// session and stands in no statement and no line. Its fmt and slog forms show
// nothing of it.
type Secret [SecretSize]byte

// NewSecret draws a secret from random; nil means crypto/rand.
func NewSecret(random io.Reader) (s Secret, err error) { return s, draw(random, s[:]) }

// ParseSecret reads a secret as a joined session or a store holds it.
func ParseSecret(b []byte) (s Secret, err error) { return s, parseSecret(s[:], b) }

// PSK returns the pre-shared key of connections between members.
func (s Secret) PSK() [32]byte { return noise.H32([]byte("asmtp/2 mesh psk"), s[:]) }

// GossipTopic returns the name of the mesh's gossip topic, which tells nobody but
// members which mesh it belongs to.
func (s Secret) GossipTopic() string {
	h := noise.H16([]byte("asmtp/2 gossip topic"), s[:])
	return "asmtp/2/" + hex.EncodeToString(h[:])
}

// IsZero reports whether s is the zero value, which is no secret.
func (s Secret) IsZero() bool { return isZero(s[:]) }

// Equal reports whether both are the same, in constant time.
func (s Secret) Equal(other Secret) bool { return subtle.ConstantTimeCompare(s[:], other[:]) == 1 }

// Format prints a placeholder, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "mesh secret") }

// LogValue is what slog records of s.
func (s Secret) LogValue() slog.Value { return slog.StringValue("mesh secret") }

// MarshalText refuses, so that no secret gets into JSON or YAML by accident.
func (s Secret) MarshalText() ([]byte, error) { return nil, errNoText }

// Token is the secret of an invitation: whoever shows that he has it is let in, as
// often as the invitation says. Its fmt and slog forms show nothing of it.
type Token [SecretSize]byte

// NewToken draws a token from random; nil means crypto/rand.
func NewToken(random io.Reader) (t Token, err error) { return t, draw(random, t[:]) }

// ParseToken reads a token as a store holds it.
func ParseToken(b []byte) (t Token, err error) { return t, parseSecret(t[:], b) }

// Hash returns H32(token), which an invitation statement names.
func (t Token) Hash() [32]byte { return noise.H32(t[:]) }

// Hint returns the 8 bytes by which the node that gave the token out finds it
// again before a handshake. They say nothing of the token, but are the same each time.
func (t Token) Hint() (hint [8]byte) {
	h := noise.H16([]byte("asmtp/2 hint"), t[:])
	copy(hint[:], h[:])
	return hint
}

// PSK returns the pre-shared key of the connection by which the token is redeemed.
func (t Token) PSK() [32]byte { return noise.H32([]byte("asmtp/2 token psk"), t[:]) }

// IsZero reports whether t is the zero value, which is no token.
func (t Token) IsZero() bool { return isZero(t[:]) }

// Equal reports whether both are the same, in constant time.
func (t Token) Equal(other Token) bool { return subtle.ConstantTimeCompare(t[:], other[:]) == 1 }

// Format prints a placeholder, whatever the verb.
func (t Token) Format(f fmt.State, _ rune) { io.WriteString(f, "token") }

// LogValue is what slog records of t.
func (t Token) LogValue() slog.Value { return slog.StringValue("token") }

// MarshalText refuses, so that no token gets into JSON or YAML by accident.
func (t Token) MarshalText() ([]byte, error) { return nil, errNoText }

var errNoText = errors.New("a secret has no text form")

func draw(random io.Reader, b []byte) error {
	if random == nil {
		random = rand.Reader
	}
	if _, err := io.ReadFull(random, b); err != nil {
		clear(b)
		return fmt.Errorf("draw a secret: %w", err)
	}
	return nil
}

func parseSecret(dst, b []byte) error {
	if len(b) != len(dst) || isZero(b) {
		return ErrSecret
	}
	copy(dst, b)
	return nil
}

func isZero(b []byte) bool {
	return subtle.ConstantTimeCompare(b, make([]byte, len(b))) == 1
}
