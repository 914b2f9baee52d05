package p2p

import (
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
)

// maxDoubts bounds the envelopes that one neighbour failed to prove. If it is more for
// which it had counted, nothing counts that it says, until it has proved half of them or
// they have ended; what it proves does.
const maxDoubts = 4096

// doubts remembers which envelopes a neighbour did not have when it was asked. Its word
// does not count for them, only a proof. What it never said to store is among them: else
// it could tell by what is asked again for which of them it had counted, and so which are
// of our own users.
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
	until   time.Time // the end of the envelope
	counted bool      // the neighbour had counted as holder
	claims  bool      // it says now that it stores it
}

func newDoubts(now func() time.Time) *doubts {
	return &doubts{now: now, of: map[noise.PublicKey]*doubted{}}
}

// add notes that member failed to prove an envelope that ends at until. counted says that
// it had counted as a holder.
func (d *doubts) add(member noise.PublicKey, id envelope.ID, until time.Time, counted bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.of[member]
	if m == nil {
		m = &doubted{ids: map[envelope.ID]*doubt{}}
		d.of[member] = m
	}
	if x := m.ids[id]; x != nil {
		x.claims, x.counted = false, x.counted || counted
		return
	}
	if len(m.ids) >= maxDoubts && !m.makeRoom(d.now()) {
		m.all = m.all || counted
		return
	}
	m.ids[id] = &doubt{until: until, counted: counted}
}

// makeRoom drops what has ended, else one for which the neighbour had not counted.
func (m *doubted) makeRoom(now time.Time) bool {
	m.expire(now)
	if len(m.ids) < maxDoubts {
		return true
	}
	for id, x := range m.ids {
		if !x.counted {
			delete(m.ids, id)
			return true
		}
	}
	return false
}

// expire drops what has ended, and ends that nothing counts when that leaves few.
func (m *doubted) expire(now time.Time) {
	for id, x := range m.ids {
		if !now.Before(x.until) {
			delete(m.ids, id)
		}
	}
	m.all = m.all && len(m.ids) > maxDoubts/2
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
	if m.all {
		m.expire(d.now())
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
			if len(ids) == most {
				break
			}
			if x.claims {
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
		m.all = m.all && len(m.ids) > maxDoubts/2
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
