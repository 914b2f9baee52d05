package store_test

import (
	"testing"

	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/noise"
)

// After a reset a peer is heard with whatever stamp, and what it sent before the reset
// cannot be replayed once it was heard again.
func TestForgottenStampsCannotBeReplayedLater(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	peer := noise.PublicKey{7}
	fresh := func(stamp uint64, want bool) {
		t.Helper()
		if got, err := s.FreshStamp(ctx, 2, peer, stamp); got != want || err != nil {
			t.Errorf("stamp %d: fresh %v (%v), want %v", stamp, got, err, want)
		}
	}
	for stamp := uint64(5000); stamp < 5100; stamp++ {
		fresh(stamp, true)
	}
	fresh(4000, false) // the clock went back
	if err := s.ForgetStamps(ctx, 2, peer); err != nil {
		t.Fatal(err)
	}
	fresh(4000, true)
	fresh(4000, false)
	fresh(3900, false) // recorded before the reset
	fresh(4002, true)
	fresh(4001, true) // connections may overtake each other
	if err := s.ForgetStamps(ctx, 2, peer); err != nil {
		t.Fatal(err)
	}
	fresh(1, true)
	fresh(1, false)
	fresh(2, true)
}
