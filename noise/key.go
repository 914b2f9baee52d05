package noise

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"filippo.io/edwards25519"
	"golang.org/x/crypto/curve25519"
)

// KeySize is the length in bytes of every key, public or secret, of both kinds.
const KeySize = 32

// SignatureSize is the length in bytes of a signature.
const SignatureSize = ed25519.SignatureSize

var (
	// ErrKey is wrapped by the errors for bytes that are no key of the kind asked
	// for. Its texts never repeat the bytes, which may be a secret in the wrong place.
	ErrKey = errors.New("not a key")
	// ErrZeroDH is the error for a Diffie-Hellman result of zero, to which only a
	// peer's key of small order leads.
	ErrZeroDH = errors.New("the peer's key gives no common secret")
)

// PublicKey is an Ed25519 public key: an Edwards point in the encoding of RFC 8032.
// It names a node, a device or the author of a block.
type PublicKey [KeySize]byte

// ParsePublicKey reads the text form of a key, 64 hex digits.
func ParsePublicKey(text string) (PublicKey, error) {
	var k PublicKey
	return k, k.UnmarshalText([]byte(text))
}

// String returns the text form, 64 lower-case hex digits.
func (k PublicKey) String() string { return hex.EncodeToString(k[:]) }

// Short returns the first 8 hex digits, enough to tell keys apart in a log.
func (k PublicKey) Short() string { return hex.EncodeToString(k[:4]) }

// IsZero reports whether k is the zero value, which is no key.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// MarshalText returns the text form.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the text form.
func (k *PublicKey) UnmarshalText(text []byte) error { return parseHexKey(k[:], text) }

// Check reports whether k is the canonical encoding of a point of prime order.
// Diffie-Hellman on the Montgomery curve loses the sign and the torsion of a
// point, so without this check one owner could show up under 16 different keys.
func (k PublicKey) Check() error {
	p, err := new(edwards25519.Point).SetBytes(k[:])
	if err != nil {
		return fmt.Errorf("%w: no point of the curve", ErrKey)
	}
	if subtle.ConstantTimeCompare(p.Bytes(), k[:]) != 1 {
		return fmt.Errorf("%w: encoding is not canonical", ErrKey)
	}
	identity := edwards25519.NewIdentityPoint()
	if p.Equal(identity) == 1 {
		return fmt.Errorf("%w: identity", ErrKey)
	}
	// (L-1)P + P is the identity for points of the prime-order group only.
	q := new(edwards25519.Point).ScalarMult(minusOne, p)
	if q.Add(q, p).Equal(identity) != 1 {
		return fmt.Errorf("%w: not of prime order", ErrKey)
	}
	return nil
}

// Verify reports whether signature is k's Ed25519 signature of message, checked as
// RFC 8032 demands (the reference also takes s >= L; FORMAT.md section 1.3).
func (k PublicKey) Verify(message, signature []byte) bool {
	if k.IsZero() || len(signature) != SignatureSize {
		return false
	}
	return ed25519.Verify(k[:], message, signature)
}

// minusOne is L-1, the scalar -1 of the prime-order group.
var minusOne = func() *edwards25519.Scalar {
	one, err := edwards25519.NewScalar().SetCanonicalBytes(append([]byte{1}, make([]byte, 31)...))
	if err != nil {
		panic(err)
	}
	return edwards25519.NewScalar().Negate(one)
}()

// PrivateKey is an Ed25519 secret key. Its fmt and slog forms show the public key only.
type PrivateKey struct {
	seed   [KeySize]byte
	scalar [KeySize]byte // SHA-512(seed)[:32], for Diffie-Hellman; X25519 clamps it
	public PublicKey
}

// NewPrivateKey returns the key of an RFC 8032 seed of 32 bytes.
func NewPrivateKey(seed []byte) (*PrivateKey, error) {
	if len(seed) != KeySize {
		return nil, fmt.Errorf("%w: want %d bytes, got %d", ErrKey, KeySize, len(seed))
	}
	k := new(PrivateKey)
	copy(k.seed[:], seed)
	h := sha512.Sum512(seed)
	copy(k.scalar[:], h[:KeySize])
	copy(k.public[:], ed25519.NewKeyFromSeed(seed)[KeySize:])
	return k, nil
}

// GenerateKey makes a key of the next 32 bytes of random; nil means crypto/rand.
func GenerateKey(random io.Reader) (*PrivateKey, error) {
	seed, err := draw(random)
	if err != nil {
		return nil, err
	}
	return NewPrivateKey(seed)
}

// Public returns the public key.
func (k *PrivateKey) Public() PublicKey { return k.public }

// Bytes returns a copy of the seed.
func (k *PrivateKey) Bytes() []byte { return append([]byte(nil), k.seed[:]...) }

// Sign returns the Ed25519 signature of message, 64 bytes.
func (k *PrivateKey) Sign(message []byte) []byte {
	return ed25519.Sign(ed25519.NewKeyFromSeed(k.seed[:]), message)
}

// DH returns the common secret with peer, 32 bytes: the u coordinate that X25519
// gives for both keys taken to the Montgomery curve (FORMAT.md section 1.2). The
// reference also computes with bytes that are no point; those are refused here.
func (k *PrivateKey) DH(peer PublicKey) ([]byte, error) {
	p, err := new(edwards25519.Point).SetBytes(peer[:])
	if err != nil {
		return nil, fmt.Errorf("%w: no point of the curve", ErrKey)
	}
	return x25519(k.scalar[:], p.BytesMontgomery())
}

// Equal reports whether both hold the same secret, in constant time.
func (k *PrivateKey) Equal(other *PrivateKey) bool {
	return subtle.ConstantTimeCompare(k.seed[:], other.seed[:]) == 1
}

// Format prints the public key, whatever the verb, so that no secret is printed by accident.
func (k *PrivateKey) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "secret of %v", k.public) }

// LogValue is what slog records of k.
func (k *PrivateKey) LogValue() slog.Value { return slog.StringValue("secret of " + k.public.String()) }

// SharedPublic is an X25519 public key: a Montgomery u. Passports publish one, and
// mail is sealed for it.
type SharedPublic [KeySize]byte

// ParseSharedPublic reads the text form of a key, 64 hex digits.
func ParseSharedPublic(text string) (SharedPublic, error) {
	var k SharedPublic
	return k, k.UnmarshalText([]byte(text))
}

// String returns the text form, 64 lower-case hex digits.
func (k SharedPublic) String() string { return hex.EncodeToString(k[:]) }

// IsZero reports whether k is the zero value, which is no key.
func (k SharedPublic) IsZero() bool { return k == SharedPublic{} }

// MarshalText returns the text form.
func (k SharedPublic) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the text form.
func (k *SharedPublic) UnmarshalText(text []byte) error { return parseHexKey(k[:], text) }

// Check reports whether k is canonical, that is below p = 2^255-19, and of an order
// that gives a common secret.
func (k SharedPublic) Check() error {
	if k[31] > 0x7f || k[31] == 0x7f && k[0] >= 0xed && allOnes(k[1:31]) {
		return fmt.Errorf("%w: encoding is not canonical", ErrKey)
	}
	probe := make([]byte, KeySize) // any clamped scalar is a multiple of the cofactor
	probe[31] = 0x40
	_, err := x25519(probe, k[:])
	return err
}

func allOnes(b []byte) bool {
	for _, v := range b {
		if v != 0xff {
			return false
		}
	}
	return true
}

// SharedPrivate is an X25519 secret key. Its fmt and slog forms show the public key only.
type SharedPrivate struct {
	scalar [KeySize]byte
	public SharedPublic
	key    *ecdh.PrivateKey // the same in the form that computes without deriving public anew
	known  commonSecrets
}

// NewSharedPrivate reads a secret of 32 bytes that is clamped already, as it
// stands inside a passport (FORMAT.md section 1.1).
func NewSharedPrivate(scalar []byte) (*SharedPrivate, error) {
	if len(scalar) != KeySize {
		return nil, fmt.Errorf("%w: want %d bytes, got %d", ErrKey, KeySize, len(scalar))
	}
	if scalar[0]&7 != 0 || scalar[31]&0xc0 != 0x40 {
		return nil, fmt.Errorf("%w: X25519 secret is not clamped", ErrKey)
	}
	key, err := ecdh.X25519().NewPrivateKey(scalar)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	k := &SharedPrivate{key: key}
	copy(k.scalar[:], scalar)
	copy(k.public[:], key.PublicKey().Bytes())
	return k, nil
}

// GenerateShared makes a key of the next 32 bytes of random, clamped; nil means crypto/rand.
func GenerateShared(random io.Reader) (*SharedPrivate, error) {
	b, err := draw(random)
	if err != nil {
		return nil, err
	}
	b[0] &= 0xf8
	b[31] = b[31]&0x3f | 0x40
	return NewSharedPrivate(b)
}

// Public returns the public key.
func (k *SharedPrivate) Public() SharedPublic { return k.public }

// Bytes returns a copy of the secret scalar.
func (k *SharedPrivate) Bytes() []byte { return append([]byte(nil), k.scalar[:]...) }

// DH returns the common secret with peer, 32 bytes, as RFC 7748 section 6.1 does it.
func (k *SharedPrivate) DH(peer SharedPublic) ([]byte, error) { return dh(k.key, peer[:]) }

// Equal reports whether both hold the same secret, in constant time.
func (k *SharedPrivate) Equal(other *SharedPrivate) bool {
	return subtle.ConstantTimeCompare(k.scalar[:], other.scalar[:]) == 1
}

// Format prints the public key, whatever the verb, so that no secret is printed by accident.
func (k *SharedPrivate) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "shared secret of %v", k.public) }

// LogValue is what slog records of k.
func (k *SharedPrivate) LogValue() slog.Value {
	return slog.StringValue("shared secret of " + k.public.String())
}

func x25519(scalar, u []byte) ([]byte, error) {
	secret, err := curve25519.X25519(scalar, u)
	if err != nil {
		return nil, ErrZeroDH // the lengths are right, so this is the only cause
	}
	return secret, nil
}

// draw reads the 32 bytes of a fresh key.
func draw(random io.Reader) ([]byte, error) {
	if random == nil {
		random = rand.Reader
	}
	b := make([]byte, KeySize)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, fmt.Errorf("draw a key: %w", err)
	}
	return b, nil
}

func parseHexKey(dst, text []byte) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("%w: want %d hex digits, got %d characters", ErrKey, 2*len(dst), len(text))
	}
	if _, err := hex.Decode(dst, text); err != nil {
		return fmt.Errorf("%w: want hex digits only", ErrKey)
	}
	return nil
}
