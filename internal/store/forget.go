package store

import (
	"context"

	"github.com/asmtp/asmtp/noise"
)

// ForgetStamps forgets the stamps of a peer, so that one whose clock or state went back
// is heard again. Until its next connection an old first message of it can be replayed
// for an answer, which gives the replayer nothing but that.
func (s *Store) ForgetStamps(ctx context.Context, kind byte, peer noise.PublicKey) error {
	return s.updateAlways(ctx, func(t *tx) error {
		t.delete(key(kindStamps, []byte{kind}, peer[:]))
		return nil
	})
}
