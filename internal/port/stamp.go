package port

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/asmtp/asmtp/noise"
)

// StampStore remembers stamps durably.
type StampStore interface {
	// FreshStamp records stamp for peer under kind and reports whether it is new: not
	// seen before, and not below the 64 highest that were.
	FreshStamp(ctx context.Context, kind byte, peer noise.PublicKey, stamp uint64) (bool, error)
}

// StampSource gives the stamps that this side sends: each is larger than all before,
// also after a restart.
type StampSource interface {
	NextStamp() (uint64, error)
}

// ClockStamps is a StampSource for callers that keep nothing: max(clock, last + 1).
// Its stamps grow over restarts as far as the clock does.
type ClockStamps struct {
	now  func() time.Time
	mu   sync.Mutex
	last uint64
}

// NewClockStamps returns a source on the clock now; nil means time.Now.
func NewClockStamps(now func() time.Time) *ClockStamps {
	if now == nil {
		now = time.Now
	}
	return &ClockStamps{now: now}
}

// NextStamp returns the next stamp. It never fails.
func (s *ClockStamps) NextStamp() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(uint64(max(s.now().UnixNano(), 0)), s.last+1)
	return s.last, nil
}

// errStamp is the cause of a refusal: the stamp is malformed, or was seen before.
var errStamp = errors.New("stamp was seen before, or is older than the 64 newest of this key")

func packStamp(stamp uint64) []byte {
	b := make([]byte, StampSize)
	binary.BigEndian.PutUint64(b[4:], stamp)
	return b
}

func unpackStamp(payload []byte) (uint64, error) {
	if len(payload) < StampSize {
		return 0, fmt.Errorf("%w: no stamp", ErrPayload)
	}
	if binary.BigEndian.Uint32(payload) != 0 {
		return 0, fmt.Errorf("%w: stamp does not begin with zeros", ErrPayload)
	}
	return binary.BigEndian.Uint64(payload[4:]), nil
}
