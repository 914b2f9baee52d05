package envelope

import (
	"fmt"
	"hash"

	"golang.org/x/crypto/blake2b"
)

// BodyHasher is a writer that makes the hash of the body written to it.
type BodyHasher struct {
	n int64
	h hash.Hash
}

// NewBodyHasher returns the hasher of an empty body.
func NewBodyHasher() *BodyHasher {
	h, err := blake2b.New(len(BodyHash{}), nil)
	if err != nil {
		panic(err) // only for a bad digest length or key
	}
	return &BodyHasher{h: h}
}

// Write takes in the next bytes of the body. It never fails.
func (b *BodyHasher) Write(p []byte) (int, error) {
	b.n += int64(len(p))
	return b.h.Write(p)
}

// Sum returns the hash of what was written, as [HashBody] does.
func (b *BodyHasher) Sum() BodyHash { return BodyHash(b.h.Sum(nil)) }

// Size returns how many bytes were written.
func (b *BodyHasher) Size() int64 { return b.n }

// BodyCheck is a writer that compares the body written to it with what the parts of
// its mail say about it.
type BodyCheck struct {
	*BodyHasher
	want  BodyHash
	total int64
}

// NewBodyCheck returns a check for the whole body of the mail that p is a part of.
func NewBodyCheck(p *Part) *BodyCheck {
	return &BodyCheck{NewBodyHasher(), p.BodyHash, int64(p.Total)}
}

// Check reports whether what was written is the whole body. The error wraps
// [ErrBodyHash].
func (c *BodyCheck) Check() error {
	if c.Size() != c.total {
		return fmt.Errorf("%w: %d bytes, want %d", ErrBodyHash, c.Size(), c.total)
	}
	if c.Sum() != c.want {
		return ErrBodyHash
	}
	return nil
}
