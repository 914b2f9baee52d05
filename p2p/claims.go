package p2p

import (
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
)

const (
	// claimTime is how long a neighbour may take to send what it was asked for, before
	// another one is asked; and how long one that failed is not asked for it again.
	claimTime = time.Minute
	// maxClaims bounds the claims of all, maxClaimsOf those of one neighbour: what it may
	// offer on all its streams, and a fetch from it.
	maxClaims   = 32768
	maxClaimsOf = maxStreams*maxOffer + fetchAhead*maxGet
	// sweepPause is the least time between two sweeps of what has ended.
	sweepPause = time.Second
)

// claims says which envelopes are being fetched, so that two neighbours do not send
// the same one at the same time. It is an economy: what was claimed and not brought can
// be claimed again, first by others that were put off. Else a neighbour that offers and does not send could
// keep an envelope away for as long as it likes.
type claims struct {
	now   func() time.Time
	mu    sync.Mutex
	of    map[envelope.ID]claim
	count map[noise.PublicKey]int
	swept time.Time
}

type claim struct {
	by     noise.PublicKey
	end    time.Time
	failed bool // it did not bring it
	wanted bool // another neighbour could have brought it meanwhile
}

func newClaims(now func() time.Time) *claims {
	return &claims{now: now, of: map[envelope.ID]claim{}, count: map[noise.PublicKey]int{}}
}

// claim reports whether id may be fetched from a neighbour; then release has to be called.
func (c *claims) claim(by noise.PublicKey, id envelope.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if x, taken := c.of[id]; taken && x.lasts(now) && (!x.failed || x.by == by) {
		x.wanted = x.wanted || x.by != by
		c.of[id] = x
		return false
	}
	c.drop(id)
	if c.full(by) && now.Sub(c.swept).Abs() >= sweepPause {
		c.swept = now
		for id, x := range c.of {
			if !x.lasts(now) {
				c.drop(id)
			}
		}
	}
	if c.full(by) {
		return false
	}
	c.of[id] = claim{by: by, end: now.Add(claimTime)}
	c.count[by]++
	return true
}

// lasts is false also for a claim of a time that is not yet: the clock was set back.
func (x claim) lasts(now time.Time) bool {
	left := x.end.Sub(now)
	return left > 0 && left <= claimTime
}

func (c *claims) full(by noise.PublicKey) bool {
	return len(c.of) >= maxClaims || c.count[by] >= maxClaimsOf
}

func (c *claims) drop(id envelope.ID) {
	x, known := c.of[id]
	if !known {
		return
	}
	delete(c.of, id)
	if c.count[x.by]--; c.count[x.by] == 0 {
		delete(c.count, x.by)
	}
}

// release ends claims of a neighbour. What it did not bring, and others wanted to, it may
// not claim again at once.
func (c *claims) release(by noise.PublicKey, brought bool, ids ...envelope.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		x, known := c.of[id]
		switch {
		case !known || x.by != by || x.failed:
		case brought || !x.wanted:
			c.drop(id)
		default:
			x.failed, x.end = true, c.now().Add(claimTime)
			c.of[id] = x
		}
	}
}
