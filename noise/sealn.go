package noise

import (
	"crypto/hmac"
	"fmt"
	"hash"
	"io"

	flynn "github.com/flynn/noise"
	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/chacha20poly1305"
)

// SealN seals payload for the key to, anonymously, with the reference's pattern N:
// whoever has own's secret, and psk if it is not nil, can open it; it says nothing of
// who sealed it. The result has NOverhead more bytes. A nil random means crypto/rand.
func SealN(random io.Reader, psk *[32]byte, to PublicKey, payload []byte) ([]byte, error) {
	return sealN(ed25519Suite, random, psk, to[:], payload)
}

// OpenN opens what SealN made for own with the same psk.
func OpenN(psk *[32]byte, own *PrivateKey, message []byte) ([]byte, error) {
	return openN(ed25519Suite, psk, own.pair(), message)
}

func sealN(suite flynn.DHFunc, random io.Reader, psk *[32]byte, to, payload []byte) ([]byte, error) {
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("seal %d bytes, at most %d: %w", len(payload), MaxPayload, ErrTooLong)
	}
	e, err := suite.GenerateKeypair(random)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	dh, err := suite.DH(e.Private, to)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	message := append(make([]byte, 0, len(payload)+NOverhead), e.Public...)
	s := newNState(suite.DHName(), psk, to, e.Public, dh)
	aead, err := chacha20poly1305.New(s.k[:])
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return aead.Seal(message, make([]byte, chacha20poly1305.NonceSize), payload, s.h[:]), nil
}

func openN(suite flynn.DHFunc, psk *[32]byte, own flynn.DHKey, message []byte) ([]byte, error) {
	if len(message) < NOverhead || len(message) > MaxPayload+NOverhead {
		return nil, fmt.Errorf("%w: %d bytes", ErrOpen, len(message))
	}
	e, sealed := message[:KeySize], message[KeySize:]
	dh, err := suite.DH(own.Private, e)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOpen, err)
	}
	s := newNState(suite.DHName(), psk, own.Public, e, dh)
	aead, err := chacha20poly1305.New(s.k[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOpen, err)
	}
	payload, err := aead.Open(nil, make([]byte, chacha20poly1305.NonceSize), sealed, s.h[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOpen, err)
	}
	return payload, nil
}

// nState is the symmetric state of the Noise specification, as far as the one
// message of pattern N needs it. It is written by hand since the reference calls the
// pattern K and mixes the psk in before the pre-message (FORMAT.md sections 2.3 and
// 2.4), which no library does.
type nState struct {
	h, ck [blake2b.Size]byte
	k     [chacha20poly1305.KeySize]byte
}

// newNState is the state in which the payload of the message is sealed.
func newNState(dhName string, psk *[32]byte, to, e, dh []byte) *nState {
	pattern := "K"
	if psk != nil {
		pattern = "Kpsk0"
	}
	s := new(nState)
	copy(s.h[:], "Noise_"+pattern+"_"+dhName+"_ChaChaPoly_BLAKE2b") // shorter than 64 bytes
	s.ck = s.h
	s.mixHash(nil) // the empty prologue
	if psk != nil {
		s.mixKeyAndHash(psk[:])
	}
	s.mixHash(to) // <- s
	s.mixHash(e)  // -> e, es
	if psk != nil {
		s.mixKey(e)
	}
	s.mixKey(dh)
	return s
}

func (s *nState) mixHash(data []byte) {
	h := newBLAKE2b()
	h.Write(s.h[:])
	h.Write(data)
	h.Sum(s.h[:0])
}

func (s *nState) mixKey(input []byte) {
	temp := hmacBLAKE2b(s.ck[:], input)
	ck := hmacBLAKE2b(temp[:], []byte{1})
	k := hmacBLAKE2b(temp[:], ck[:], []byte{2})
	s.ck = ck
	copy(s.k[:], k[:])
}

func (s *nState) mixKeyAndHash(input []byte) {
	temp := hmacBLAKE2b(s.ck[:], input)
	ck := hmacBLAKE2b(temp[:], []byte{1})
	h := hmacBLAKE2b(temp[:], ck[:], []byte{2})
	k := hmacBLAKE2b(temp[:], h[:], []byte{3})
	s.ck = ck
	s.mixHash(h[:])
	copy(s.k[:], k[:])
}

func hmacBLAKE2b(key []byte, parts ...[]byte) (sum [blake2b.Size]byte) {
	m := hmac.New(newBLAKE2b, key)
	for _, p := range parts {
		m.Write(p)
	}
	m.Sum(sum[:0])
	return sum
}

func newBLAKE2b() hash.Hash {
	h, err := blake2b.New512(nil)
	if err != nil {
		panic(err) // only for a bad key
	}
	return h
}
