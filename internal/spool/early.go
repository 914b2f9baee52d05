package spool

import (
	"sync"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/passport"
)

// Expect returns a channel on which the user's envelopes of the smaller size classes come
// while they are being synced, until stop is called: what a reader does with one meanwhile
// takes no time of its own. Each comes as a delivery afterwards, unless it is lost. Only who
// is receiving at that moment gets it, so nobody is waited for.
func (s *Spool) Expect(user passport.ID) (early <-chan envelope.Early, stop func()) {
	return s.expecting.add(user)
}

// expecting has the channels of all who expect envelopes of a user.
type expecting struct {
	mu sync.Mutex
	m  map[passport.ID]map[chan envelope.Early]struct{}
}

func (x *expecting) add(user passport.ID) (<-chan envelope.Early, func()) {
	c := make(chan envelope.Early)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.m == nil {
		x.m = make(map[passport.ID]map[chan envelope.Early]struct{})
	}
	if x.m[user] == nil {
		x.m[user] = make(map[chan envelope.Early]struct{})
	}
	x.m[user][c] = struct{}{}
	return c, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if delete(x.m[user], c); len(x.m[user]) == 0 {
			delete(x.m, user)
		}
	}
}

// tell gives an envelope to those who expect it.
func (x *expecting) tell(e *envelope.Envelope, matches []envelope.Match) {
	if e.Class() == len(envelope.Sizes)-1 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	var early envelope.Early
	for _, m := range matches {
		if len(x.m[m.User]) == 0 {
			continue
		}
		if early.Envelope == nil {
			early.ID, early.Envelope = e.ID(), e.Bytes()
		}
		early.Handle = m.Handle
		for c := range x.m[m.User] {
			select {
			case c <- early:
			default:
			}
		}
	}
}
