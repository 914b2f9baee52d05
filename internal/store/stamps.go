package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/asmtp/asmtp/noise"
)

// stampWindow is how many of the highest stamps of a peer are remembered, so that its
// connections may overtake each other.
const stampWindow = 64

// FreshStamp reports whether the peer's stamp was not seen before and is not below the
// 64 highest of its kind, and remembers it. It is durable when it returns: a replay is
// refused after a crash too. One record is kept for each kind and peer, so ask only for
// peers that are admitted.
func (s *Store) FreshStamp(ctx context.Context, kind byte, peer noise.PublicKey, stamp uint64) (bool, error) {
	fresh := false
	err := s.updateAlways(ctx, func(t *tx) error {
		k := key(kindStamps, []byte{kind}, peer[:])
		b, err := t.get(k)
		if err != nil {
			return err
		}
		if len(b)%8 != 0 || len(b) > 8*stampWindow {
			return damaged(k)
		}
		var seen []byte
		if seen, fresh = addStamp(b, stamp); fresh {
			t.set(k, seen)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("stamp of %s: %w", peer.Short(), err)
	}
	return fresh, nil
}

// addStamp returns the record with the stamp in its place, and false if the stamp is
// in it or below a full one. The first stamp after all were forgotten fills the record.
func addStamp(b []byte, stamp uint64) ([]byte, bool) {
	seen := make([]uint64, 0, stampWindow+1)
	if bytes.Equal(b, forgotten) {
		for n := min(stamp, stampWindow); n > 1; n-- {
			seen = append(seen, stamp-n+1)
		}
		b = nil
	}
	for ; len(b) > 0; b = b[8:] {
		seen = append(seen, binary.BigEndian.Uint64(b))
	}
	i, found := slices.BinarySearch(seen, stamp)
	if found || i == 0 && len(seen) == stampWindow {
		return nil, false
	}
	seen = slices.Insert(seen, i, stamp)
	if len(seen) > stampWindow {
		seen = seen[1:]
	}
	var out []byte
	for _, n := range seen {
		out = binary.BigEndian.AppendUint64(out, n)
	}
	return out, true
}

// stampSource gives out stamps. What is on disk is a number that no stamp given out
// exceeds, a minute ahead of the last, so that most calls need no write.
type stampSource struct {
	mu             sync.Mutex
	last, reserved uint64
}

const stampReserve = uint64(time.Minute)

// NextStamp returns max(clock in ns, last stamp + 1). After a start the last stamp is
// taken to be the highest that may have been given out before, so stamps grow even if
// the clock goes back.
func (s *Store) NextStamp() (uint64, error) {
	p := &s.stamps
	p.mu.Lock()
	defer p.mu.Unlock()
	stamp := max(uint64(max(s.now().UnixNano(), 0)), p.last+1)
	if stamp > p.reserved {
		reserve := stamp + stampReserve
		err := s.updateAlways(context.Background(), func(t *tx) error {
			t.set(keyStamp, be64(reserve))
			return nil
		})
		if err != nil {
			return 0, fmt.Errorf("next stamp: %w", err)
		}
		p.reserved = reserve
	}
	p.last = stamp
	return stamp, nil
}
