package envelope

import (
	"fmt"
	"hash"

	"golang.org/x/crypto/blake2b"
)

// BodyCheck is a writer that compares the body written to it with what the parts of
// its mail say about it.
type BodyCheck struct {
	want  BodyHash
	total uint64
	n     uint64
	h     hash.Hash
}

// NewBodyCheck returns a check for the whole body of the mail that p is a part of.
func NewBodyCheck(p *Part) *BodyCheck {
	h, err := blake2b.New(len(p.BodyHash), nil)
	if err != nil {
		panic(err) // only for a bad digest length or key
	}
	return &BodyCheck{want: p.BodyHash, total: uint64(p.Total), h: h}
}

// Write takes in the next bytes of the body. It never fails.
func (c *BodyCheck) Write(b []byte) (int, error) {
	c.n += uint64(len(b))
	return c.h.Write(b)
}

// Check reports whether what was written is the whole body. The error wraps
// [ErrBodyHash].
func (c *BodyCheck) Check() error {
	if c.n != c.total {
		return fmt.Errorf("%w: %d bytes, want %d", ErrBodyHash, c.n, c.total)
	}
	if BodyHash(c.h.Sum(nil)) != c.want {
		return ErrBodyHash
	}
	return nil
}
