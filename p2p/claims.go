package p2p

import (
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
)

const (
	// claimTime is how long a neighbour may take to send what it was asked for, before
	// another one is asked.
	claimTime = time.Minute
	maxClaims = 8192
)

// claims says which envelopes are being fetched, so that two neighbours do not send
// the same one at the same time. It is an economy only: what was claimed and not
// brought can be claimed again.
type claims struct {
	now func() time.Time
	mu  sync.Mutex
	end map[envelope.ID]time.Time
}

func newClaims(now func() time.Time) *claims {
	return &claims{now: now, end: map[envelope.ID]time.Time{}}
}

// claim reports whether the caller may fetch id; then it must call release.
func (c *claims) claim(id envelope.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if end, taken := c.end[id]; taken && now.Before(end) {
		return false
	}
	if len(c.end) >= maxClaims {
		return false
	}
	c.end[id] = now.Add(claimTime)
	return true
}

func (c *claims) release(ids ...envelope.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		delete(c.end, id)
	}
}
