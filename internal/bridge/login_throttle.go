package bridge

import (
	"context"
	"net"
	"sync"
	"time"
)

// A wrong password is answered late, the later the more there were. What is right is let
// in at once: passwords are random (128 bit), so that nobody guesses one however often he
// tries, and a program with an old password must not keep out the others on this machine.
const (
	firstDelay = 250 * time.Millisecond
	lastDelay  = 30 * time.Second
	// forgetAfter is how long failures count.
	forgetAfter = 15 * time.Minute
	// maxSources bounds what is remembered.
	maxSources = 1024
	// maxWaiting is how many wrong passwords are waiting for their answer at a time: less
	// than the connections there may be. Beyond it the answer comes at once and the
	// connection is closed.
	maxWaiting = 24
)

// source is where passwords come from, and for whom they should be.
type source struct{ host, user string }

func sourceOf(remote net.Addr, user string) source {
	host := ""
	if remote != nil {
		host = remote.String()
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	return source{host, user}
}

type failures struct {
	count int
	last  time.Time
}

// throttle delays the answers to wrong passwords.
type throttle struct {
	now func() time.Time

	mu      sync.Mutex
	sources map[source]*failures
	waiting int
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, sources: make(map[source]*failures)}
}

// fail counts a wrong password and waits before it may be answered. It reports whether
// the answer was delayed; the connection is to be closed if it was not.
func (t *throttle) fail(ctx context.Context, s source) bool {
	delay, ok := t.count(s)
	if !ok {
		return false
	}
	defer func() {
		t.mu.Lock()
		t.waiting--
		t.mu.Unlock()
	}()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return true
}

// count notes a failure and, if there is room, one more that waits.
func (t *throttle) count(s source) (delay time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	f := t.sources[s]
	if f == nil {
		if len(t.sources) >= maxSources {
			t.forget(now)
		}
		f = new(failures)
		t.sources[s] = f
	} else if now.Sub(f.last) > forgetAfter {
		f.count = 0
	}
	f.count++
	f.last = now
	if t.waiting >= maxWaiting {
		return 0, false
	}
	t.waiting++
	return delayOf(f.count), true
}

// forget makes room: what is over goes, and if nothing is, what failed longest ago.
func (t *throttle) forget(now time.Time) {
	var oldest source
	var when time.Time
	for s, f := range t.sources {
		if now.Sub(f.last) > forgetAfter {
			delete(t.sources, s)
		} else if when.IsZero() || f.last.Before(when) {
			oldest, when = s, f.last
		}
	}
	if len(t.sources) >= maxSources {
		delete(t.sources, oldest)
	}
}

// succeed forgets the failures of a source.
func (t *throttle) succeed(s source) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.sources, s)
}

func delayOf(count int) time.Duration {
	return min(lastDelay, firstDelay<<min(count-1, 16))
}
