package store

import (
	"context"

	"github.com/asmtp/asmtp/noise"
)

// forgotten is the record of a peer after [Store.ForgetStamps]: the one stamp 0, which
// no peer sends.
var forgotten = be64(0)

// ForgetStamps forgets the stamps of a peer, so that one whose clock or state went back
// is heard again. Its next stamp, whatever it is, takes the place of all that were seen:
// what is older is refused from then on. Whoever replays an old first message before
// that gets one answer, of no use to him, and the peer has to be forgotten once more.
func (s *Store) ForgetStamps(ctx context.Context, kind byte, peer noise.PublicKey) error {
	return s.updateAlways(ctx, func(t *tx) error {
		t.set(key(kindStamps, []byte{kind}, peer[:]), forgotten)
		return nil
	})
}
