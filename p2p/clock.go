package p2p

import (
	"slices"
	"sync"
	"time"

	"github.com/asmtp/asmtp/noise"
)

const (
	// clockTolerance is by how much our clock may differ from most others without a word.
	// Mail still arrives with two hours.
	clockTolerance = 5 * time.Minute
	clockWarnEvery = time.Hour
)

// clockWarning remembers when the log last said that our clock is off.
type clockWarning struct {
	mu   sync.Mutex
	last time.Time
}

// due reports whether the log should say it now. The clock itself may be set, so the
// time is that of the process.
func (c *clockWarning) due() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last.IsZero() && time.Since(c.last) < clockWarnEvery {
		return false
	}
	c.last = time.Now()
	return true
}

// sawClock notes how far the clock of a neighbour is from ours.
func (h *Host) sawClock(key noise.PublicKey, off time.Duration) {
	h.book.clock(key, off)
	if off, warn := h.ClockOff(); warn && h.clock.due() {
		h.log.Warn("this node's clock differs from most others", "theirs_minus_ours", off.Round(time.Second).String())
	}
}

// ClockOff returns how far the clocks of connected nodes are ahead of ours, the median,
// and whether most of them say that it is ours that is wrong: more than half are off by
// more than five minutes on the same side.
func (h *Host) ClockOff() (off time.Duration, warn bool) {
	var offs []time.Duration
	for _, p := range h.book.peers() {
		if p.Connected && p.ClockKnown {
			offs = append(offs, p.Clock)
		}
	}
	off = median(offs)
	return off, off.Abs() > clockTolerance
}

// median returns the value in the middle; of two in the middle the one closer to zero,
// and zero if they are on different sides, so that more than half are at least as far off.
func median(offs []time.Duration) time.Duration {
	if len(offs) == 0 {
		return 0
	}
	slices.Sort(offs)
	low, high := offs[(len(offs)-1)/2], offs[len(offs)/2]
	switch {
	case low > 0:
		return low
	case high < 0:
		return high
	default:
		return 0
	}
}
