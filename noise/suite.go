package noise

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"io"

	"filippo.io/edwards25519"
	flynn "github.com/flynn/noise"
)

// The two suites of FORMAT.md section 2. Both hash with BLAKE2b and encrypt with
// ChaCha20-Poly1305; they differ in the kind of key.
var (
	ed25519Suite = flynn.NewCipherSuite(dhEd25519{}, flynn.CipherChaChaPoly, flynn.HashBLAKE2b)
	x25519Suite  = flynn.NewCipherSuite(flynn.DH25519, flynn.CipherChaChaPoly, flynn.HashBLAKE2b)
)

// dhEd25519 is the Diffie-Hellman function that the reference calls "ed25519"
// (FORMAT.md section 1.2). Its private half is the scalar, not the seed, so that
// no seed is hashed twice; X25519 clamps it. Its keys are drawn as seeds.
type dhEd25519 struct{}

func (dhEd25519) GenerateKeypair(random io.Reader) (flynn.DHKey, error) {
	if random == nil {
		random = rand.Reader
	}
	var seed [KeySize]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return flynn.DHKey{}, fmt.Errorf("draw an ephemeral key: %w", err)
	}
	h := sha512.Sum512(seed[:])
	return flynn.DHKey{
		Private: h[:KeySize:KeySize],
		Public:  ed25519.NewKeyFromSeed(seed[:])[KeySize:],
	}, nil
}

func (dhEd25519) DH(private, public []byte) ([]byte, error) {
	p, err := new(edwards25519.Point).SetBytes(public)
	if err != nil {
		return nil, fmt.Errorf("%w: no point of the curve", ErrKey)
	}
	return x25519(private, p.BytesMontgomery())
}

func (dhEd25519) DHLen() int     { return KeySize }
func (dhEd25519) DHName() string { return "ed25519" }

// pair is k in the form that package flynn/noise takes for ed25519Suite.
func (k *PrivateKey) pair() flynn.DHKey {
	return flynn.DHKey{Private: k.scalar[:], Public: k.public[:]}
}

// pair is k in the form that package flynn/noise takes for x25519Suite.
func (k *SharedPrivate) pair() flynn.DHKey {
	return flynn.DHKey{Private: k.scalar[:], Public: k.public[:]}
}
