package store_test

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/internal/store/storetest"
)

// On a full disk what makes room is written as long as a memtable can be written out after
// it, and not beyond: there the kernel would end the process.
func TestWhatMakesRoomNeedsRoomItself(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 30)
	s := open(t, t.TempDir(), store.Options{Free: func() (int64, error) { return free.Load(), nil }})
	defer s.Close()
	r := rand.New(rand.NewPCG(1, 2))
	put := func() (envelope.Full, error) {
		outcomes, err := s.PutEnvelopes(ctx, []envelope.Arrival{{Envelope: storetest.NewEnvelope(r, 0, storetest.Hour(1))}})
		if err != nil {
			return 0, err
		}
		return outcomes[0].Full, nil
	}
	for range 3 {
		if full, err := put(); err != nil || full != envelope.NotFull {
			t.Fatal(full, err)
		}
	}
	for _, c := range []struct {
		free    int64
		removed int
		err     error
	}{
		{0, 0, store.ErrDiskFull},
		{5 << 20, 0, store.ErrDiskFull},
		{7 << 20, 3, nil}, // half of what two memtables take as tables
	} {
		free.Store(c.free)
		if full, err := put(); full != envelope.FullDisk && !errors.Is(err, store.ErrDiskFull) {
			t.Errorf("%d MiB free: an envelope is stored (%v, %v)", c.free>>20, full, err)
		}
		n, err := s.ExpireEnvelopes(ctx, storetest.Hour(30), 100)
		if n != c.removed || !errors.Is(err, c.err) {
			t.Errorf("%d MiB free: removed %d (%v), want %d (%v)", c.free>>20, n, err, c.removed, c.err)
		}
	}
}
