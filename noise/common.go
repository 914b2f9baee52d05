package noise

import (
	"crypto/ecdh"
	"fmt"
	"io"
	"sync"

	flynn "github.com/flynn/noise"
)

// maxCommonSecrets bounds how many common secrets a key remembers.
const maxCommonSecrets = 1024

// commonSecrets are what Diffie-Hellman gave with the keys that mail was sealed for: it is
// the same for every mail, and computing it takes a third of the time of sealing one.
type commonSecrets struct {
	mu sync.Mutex
	of map[SharedPublic][KeySize]byte
}

func (c *commonSecrets) get(peer SharedPublic) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	secret, ok := c.of[peer]
	return secret[:], ok
}

func (c *commonSecrets) put(peer SharedPublic, secret []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil || len(c.of) >= maxCommonSecrets {
		c.of = make(map[SharedPublic][KeySize]byte)
	}
	c.of[peer] = [KeySize]byte(secret)
}

// sealingDH is flynn.DH25519 for one message of pattern X: crypto/ecdh derives a public key
// from every secret that it is given as bytes, which costs as much as what it is needed for,
// so the keys are kept in its own form. It has no use for a second message.
type sealingDH struct {
	own       *SharedPrivate
	to        SharedPublic // zero when a message is opened
	ephemeral *ecdh.PrivateKey
	private   []byte // of ephemeral, as flynn has it
}

func suiteFor(dh flynn.DHFunc) flynn.CipherSuite {
	return flynn.NewCipherSuite(dh, flynn.CipherChaChaPoly, flynn.HashBLAKE2b)
}

// GenerateKeypair implements flynn.DHFunc.
func (d *sealingDH) GenerateKeypair(random io.Reader) (flynn.DHKey, error) {
	b, err := draw(random)
	if err != nil {
		return flynn.DHKey{}, err
	}
	if d.ephemeral, err = ecdh.X25519().NewPrivateKey(b); err != nil {
		return flynn.DHKey{}, fmt.Errorf("draw an ephemeral key: %w", err)
	}
	d.private = b
	return flynn.DHKey{Private: b, Public: d.ephemeral.PublicKey().Bytes()}, nil
}

// DH implements flynn.DHFunc.
func (d *sealingDH) DH(private, public []byte) ([]byte, error) {
	if d.private != nil && &private[0] == &d.private[0] {
		return dh(d.ephemeral, public)
	}
	peer := SharedPublic(public)
	if secret, ok := d.own.known.get(peer); ok {
		return secret, nil
	}
	secret, err := dh(d.own.key, public)
	if err == nil && peer == d.to {
		d.own.known.put(peer, secret)
	}
	return secret, err
}

// DHLen implements flynn.DHFunc.
func (d *sealingDH) DHLen() int { return KeySize }

// DHName implements flynn.DHFunc.
func (d *sealingDH) DHName() string { return flynn.DH25519.DHName() }

func dh(private *ecdh.PrivateKey, u []byte) ([]byte, error) {
	public, err := ecdh.X25519().NewPublicKey(u)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	secret, err := private.ECDH(public)
	if err != nil {
		return nil, ErrZeroDH // the lengths are right, so this is the only cause
	}
	return secret, nil
}
