package noise

import "golang.org/x/crypto/blake2b"

// H16 returns the BLAKE2b hash of the concatenated parts with a digest of 16
// bytes. The digest length is a parameter of BLAKE2b, so H16 is not a cut H32.
func H16(parts ...[]byte) (sum [16]byte) {
	h, err := blake2b.New(16, nil)
	if err != nil {
		panic(err) // only for a bad digest length or key
	}
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}

// H32 returns the BLAKE2b hash of the concatenated parts with a digest of 32 bytes.
func H32(parts ...[]byte) (sum [32]byte) {
	h, err := blake2b.New256(nil)
	if err != nil {
		panic(err) // only for a bad key
	}
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}
