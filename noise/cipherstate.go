package noise

import (
	"encoding/binary"
	"errors"
	"math"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
)

// errExhausted ends a direction that has sent all messages its nonce can number.
var errExhausted = errors.New("the connection has sent all the messages it can")

// cipherState is one direction of a connection: message i has nonce i and a key
// that was rekeyed i times (FORMAT.md section 2.2). It allocates nothing per message.
type cipherState struct {
	key   [chacha20poly1305.KeySize]byte
	aead  rekeyable // holds key
	n     uint64
	nonce [chacha20poly1305.NonceSize]byte
}

func newCipherState(key [chacha20poly1305.KeySize]byte) *cipherState {
	s := &cipherState{key: key}
	s.aead.setKey(&s.key)
	return s
}

// seal appends the ciphertext of plaintext to dst and goes on to the next message.
func (s *cipherState) seal(dst, plaintext []byte) ([]byte, error) {
	if s.n == math.MaxUint64 {
		return nil, errExhausted // this nonce is the one of the rekey
	}
	out := s.aead.Seal(dst, s.nonce[:], plaintext, nil)
	s.next()
	return out, nil
}

// open appends the plaintext of ciphertext to dst and goes on to the next message.
// If it does not authenticate nothing changes but the spare room of dst.
func (s *cipherState) open(dst, ciphertext []byte) ([]byte, error) {
	if s.n == math.MaxUint64 {
		return nil, errExhausted
	}
	out, err := s.aead.Open(dst, s.nonce[:], ciphertext, nil)
	if err != nil {
		return nil, err
	}
	s.next()
	return out, nil
}

// next counts the nonce up and rekeys. REKEY(k) of the Noise specification is the
// first 32 bytes of ENCRYPT(k, 2^64-1, "", zeros): of ChaCha20's key stream under
// that nonce, block 1, so there is no need to compute the tag.
func (s *cipherState) next() {
	var nonce [chacha20.NonceSize]byte
	binary.LittleEndian.PutUint64(nonce[4:], math.MaxUint64)
	c, err := chacha20.NewUnauthenticatedCipher(s.key[:], nonce[:])
	if err != nil {
		panic(err) // only for wrong lengths
	}
	c.SetCounter(1)
	clear(s.key[:])
	c.XORKeyStream(s.key[:], s.key[:])
	s.aead.setKey(&s.key)
	s.n++
	binary.LittleEndian.PutUint64(s.nonce[4:], s.n)
}
