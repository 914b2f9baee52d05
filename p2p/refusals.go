package p2p

import (
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
)

const (
	// refusedTime is how long an envelope that was refused is not offered again, or not
	// fetched again if it was this node that refused it.
	refusedTime = time.Hour
	// maxRefused bounds what is remembered of one neighbour. Beyond it nothing that a
	// reconciliation finds is offered to it until the hour is over.
	maxRefused = 16384
)

// refusals remembers what neighbours refused, for want of room above all, so that a
// full store is not asked the same every few minutes.
type refusals struct {
	now func() time.Time
	mu  sync.Mutex
	of  map[noise.PublicKey]*refused
}

type refused struct {
	until map[envelope.ID]time.Time
	all   time.Time // until then everything counts as refused
	told  time.Time // in the log
}

func newRefusals(now func() time.Time) *refusals {
	return &refusals{now: now, of: map[noise.PublicKey]*refused{}}
}

// add notes that an envelope was refused. It reports whether the log should say so: once
// an hour for a neighbour.
func (r *refusals) add(key noise.PublicKey, id envelope.ID) (tell bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	p := r.of[key]
	if p == nil {
		p = &refused{until: map[envelope.ID]time.Time{}}
		r.of[key] = p
	}
	if len(p.until) >= maxRefused {
		p.expire(now)
	}
	end := now.Add(refusedTime)
	if len(p.until) >= maxRefused {
		p.all = end
	} else {
		p.until[id] = end
	}
	if tell = now.Sub(p.told) >= refusedTime; tell {
		p.told = now
	}
	return tell
}

func (p *refused) expire(now time.Time) {
	for id, end := range p.until {
		if !now.Before(end) {
			delete(p.until, id)
		}
	}
}

// has reports whether id was refused within the last hour.
func (r *refusals) has(key noise.PublicKey, id envelope.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.of[key]
	if p == nil {
		return false
	}
	now := r.now()
	return now.Before(p.all) || now.Before(p.until[id])
}

// count returns how many were refused within the last hour.
func (r *refusals) count(key noise.PublicKey) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.of[key]
	if p == nil {
		return 0
	}
	p.expire(r.now())
	if len(p.until) == 0 && !r.now().Before(p.all) && r.now().Sub(p.told) >= refusedTime {
		delete(r.of, key)
	}
	return len(p.until)
}
