package noise

import (
	"bytes"
	"crypto/cipher"
	"reflect"
	"unsafe"

	"golang.org/x/crypto/chacha20poly1305"
)

// rekeyable is a ChaCha20-Poly1305 whose key is exchanged in place.
//
// Every frame has a key of its own, and chacha20poly1305.New allocates a new AEAD
// for each. That AEAD is a pointer to a struct of nothing but the key, so one AEAD
// can serve all keys by writing the next into it. canRekey proves, once at start,
// by reflection that the layout is this and by a trial that the effect is; if
// x/crypto ever changes it, setKey falls back to New and only the allocation is
// back. Nothing but 32 bytes inside our own AEAD is ever written.
type rekeyable struct{ cipher.AEAD }

func (r *rekeyable) setKey(key *[chacha20poly1305.KeySize]byte) {
	if canRekey && r.AEAD != nil {
		*keyOf(r.AEAD) = *key
		return
	}
	r.AEAD = newAEAD(key)
}

func newAEAD(key *[chacha20poly1305.KeySize]byte) cipher.AEAD {
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic(err) // only for a wrong length, or where FIPS 140-only mode forbids the algorithm
	}
	return aead
}

// keyOf is where aead has its key. Only for an AEAD of newAEAD, and if canRekey.
func keyOf(aead cipher.AEAD) *[chacha20poly1305.KeySize]byte {
	return (*[chacha20poly1305.KeySize]byte)(unsafe.Pointer(reflect.ValueOf(aead).Pointer()))
}

var canRekey = func() bool {
	from, to := [chacha20poly1305.KeySize]byte{1}, [chacha20poly1305.KeySize]byte{2}
	aead := newAEAD(&from)
	t := reflect.TypeOf(aead)
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct || t.Elem().NumField() != 1 ||
		t.Elem().Field(0).Type != reflect.TypeOf(from) {
		return false
	}
	if *keyOf(aead) != from {
		return false
	}
	*keyOf(aead) = to
	var nonce [chacha20poly1305.NonceSize]byte
	return bytes.Equal(aead.Seal(nil, nonce[:], nil, nil), newAEAD(&to).Seal(nil, nonce[:], nil, nil))
}()
