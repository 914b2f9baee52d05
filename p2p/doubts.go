package p2p

import (
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
)

const (
	// maxDoubts bounds the envelopes that one neighbour failed to prove. Beyond it nothing
	// counts that it says, for as long as the node runs; what it proves does.
	maxDoubts = 4096
	// doubtTime is how long a doubt lasts: longer than any envelope.
	doubtTime = 40 * 24 * time.Hour
)

// doubts remembers which envelopes a neighbour did not have that it said to store. Its
// word does not count for them again, only a proof.
type doubts struct {
	now func() time.Time
	mu  sync.Mutex
	of  map[noise.PublicKey]*doubted
}

type doubted struct {
	ids     map[envelope.ID]*doubt
	all     bool // too many
	waiting bool // a recheck is on its way
}

type doubt struct {
	began  time.Time
	claims bool // the neighbour says again that it stores it
}

func newDoubts(now func() time.Time) *doubts {
	return &doubts{now: now, of: map[noise.PublicKey]*doubted{}}
}

// add notes that member failed to prove ids. It reports whether it is the first time.
func (d *doubts) add(member noise.PublicKey, ids ...envelope.ID) (first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.of[member]
	if m == nil {
		m = &doubted{ids: map[envelope.ID]*doubt{}}
		d.of[member], first = m, true
	}
	now := d.now()
	for _, id := range ids {
		if len(m.ids) >= maxDoubts {
			m.expire(now)
		}
		if len(m.ids) >= maxDoubts {
			m.all = true
			return first
		}
		m.ids[id] = &doubt{began: now}
	}
	return first
}

func (m *doubted) expire(now time.Time) {
	for id, x := range m.ids {
		if now.Sub(x.began) > doubtTime {
			delete(m.ids, id)
		}
	}
}

// split returns those of ids for which member's word counts, and whether there are
// others, that it now claims to store.
func (d *doubts) split(member noise.PublicKey, ids []envelope.ID) (trusted []envelope.ID, claims bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.of[member]
	if m == nil {
		return ids, false
	}
	for _, id := range ids {
		if x := m.ids[id]; x != nil {
			x.claims, claims = true, true
		} else if !m.all {
			trusted = append(trusted, id)
		}
	}
	return trusted, claims
}

// claimed returns some of the envelopes that member claims to store again.
func (d *doubts) claimed(member noise.PublicKey, most int) (ids []envelope.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.of[member]; m != nil {
		for id, x := range m.ids {
			if x.claims && len(ids) < most {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// settle ends doubts: member has proved that it stores ids, or they are gone here.
func (d *doubts) settle(member noise.PublicKey, ids ...envelope.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.of[member]; m != nil {
		for _, id := range ids {
			delete(m.ids, id)
		}
	}
}

// unclaim takes note that member failed again for ids.
func (d *doubts) unclaim(member noise.PublicKey, ids ...envelope.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.of[member]; m != nil {
		for _, id := range ids {
			if x := m.ids[id]; x != nil {
				x.claims = false
			}
		}
	}
}

// await reports whether the caller is to recheck member; then it calls awaited after.
func (d *doubts) await(member noise.PublicKey) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.of[member]
	if m == nil || m.waiting {
		return false
	}
	m.waiting = true
	return true
}

func (d *doubts) awaited(member noise.PublicKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.of[member]; m != nil {
		m.waiting = false
	}
}
