package noise

import (
	"crypto/pbkdf2"
	"crypto/sha512"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20"
)

// SeedSize is the length in bytes of a seed, and of the psk of a passphrase.
const SeedSize = 32

// EntropySize is the length in bytes of the entropy that a node key is made of.
const EntropySize = 64

// seedRounds is the number of PBKDF2 rounds of a derived seed; one takes about half a second.
const seedRounds = 1_000_000

// EmptyPassphrasePSK is PassphrasePSK(""), the psk of every shared-key entry of
// our own: the key file is what a passphrase protects, not the passport.
// Computed with Python's hashlib; a test compares it with DeriveSeed.
var EmptyPassphrasePSK = [SeedSize]byte{
	0xea, 0x7d, 0xbd, 0xd6, 0x44, 0x2d, 0x69, 0x0b,
	0x10, 0x55, 0x1d, 0xd6, 0x63, 0x5d, 0x20, 0x3a,
	0xe2, 0xbb, 0x8b, 0xb5, 0x82, 0x1a, 0x13, 0x32,
	0xca, 0x3c, 0x62, 0x1e, 0xcb, 0xc5, 0xd4, 0x8b,
}

// NewStream returns the reference's random stream of a seed: the ChaCha20 key
// stream with nonce 0 from block 0 on (FORMAT.md section 1.4). It never ends before
// 256 GiB and never fails before.
func NewStream(seed [SeedSize]byte) io.Reader {
	c, err := chacha20.NewUnauthenticatedCipher(seed[:], make([]byte, chacha20.NonceSize))
	if err != nil {
		panic(err) // only for wrong lengths
	}
	return stream{c}
}

type stream struct{ c *chacha20.Cipher }

func (s stream) Read(p []byte) (int, error) {
	clear(p)
	s.c.XORKeyStream(p, p)
	return len(p), nil
}

// DeriveSeed is the reference's derived seed: PBKDF2-HMAC-SHA512 over password
// with key as the salt, 1,000,000 rounds (FORMAT.md section 1.4).
func DeriveSeed(key, password []byte) (seed [SeedSize]byte) {
	b, err := pbkdf2.Key(sha512.New, string(password), key, seedRounds, SeedSize)
	if err != nil {
		panic(err) // only for a length that SHA-512 cannot give
	}
	copy(seed[:], b)
	return seed
}

// NodeKey returns the key of a node from the 64 bytes of its entropy file and the
// password that its operator types (FORMAT.md section 6). It takes about half a second.
func NodeKey(entropy []byte, password string) (*PrivateKey, error) {
	if len(entropy) != EntropySize {
		return nil, fmt.Errorf("entropy of a node key: want %d bytes, got %d", EntropySize, len(entropy))
	}
	return GenerateKey(NewStream(DeriveSeed(entropy, []byte(password))))
}

// PassphrasePSK returns the psk with which the reference's client seals shared
// keys inside a passport. It takes about half a second.
func PassphrasePSK(passphrase string) [SeedSize]byte {
	k := H32([]byte(passphrase))
	return DeriveSeed(k[:], nil)
}
