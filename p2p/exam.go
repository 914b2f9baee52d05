package p2p

import (
	"sync"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
)

// exam is what one neighbour is being asked to prove. A neighbour that asks us for an
// envelope while it is to prove that it stores it has said that it does not.
type exam struct {
	one sync.Mutex // held by the challenge: one at a time

	mu      sync.Mutex
	fetched map[envelope.ID]bool // of what is asked: whether the neighbour wanted it meanwhile; nil: nothing is asked
}

func (x *exam) begin(checks []check) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fetched = make(map[envelope.ID]bool, len(checks))
	for _, c := range checks {
		x.fetched[c.id] = false
	}
}

// wants notes that the neighbour asks us for an envelope.
func (x *exam) wants(id envelope.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, asked := x.fetched[id]; asked {
		x.fetched[id] = true
	}
}

// end returns what the neighbour wanted meanwhile.
func (x *exam) end() (fetched map[envelope.ID]bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	fetched, x.fetched = x.fetched, nil
	return fetched
}

// maxUnanswered is how many challenges of one neighbour may end without an answer, one
// after the other. A connection may break at any time; one that breaks whenever a proof
// is due is no accident.
const maxUnanswered = 3

// unanswered counts, for each neighbour, the challenges without an answer since the last
// that had one. It outlives connections. Neighbours are members, so it stays small.
type unanswered struct {
	mu sync.Mutex
	of map[noise.PublicKey]int
}

// add counts another one, and reports whether that are too many.
func (u *unanswered) add(key noise.PublicKey) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.of == nil {
		u.of = map[noise.PublicKey]int{}
	}
	u.of[key]++
	return u.of[key] >= maxUnanswered
}

func (u *unanswered) clear(key noise.PublicKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.of, key)
}
