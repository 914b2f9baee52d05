package reconcile

import (
	"errors"
	"fmt"
)

// Initiator is the side that begins, and learns how the sets differ. Call Frame, send
// what it returns, and give the answer to Take, until Frame returns nil.
type Initiator struct {
	v *View
	l Limits

	pending []span // still to be asked, in order
	asked   []span // in the last frame, in order
	rounds  int

	confirmed  []uint64 // a bit for each item of the view: the responder has it
	lacking    []int    // places of what the responder lacks
	missing    []ID     // what the responder has and we lack
	known      map[ID]struct{}
	incomplete bool
}

// span is a range that is not settled yet, with the places of the own items in it.
type span struct {
	lower, upper bound
	lo, hi       int
	listed       bool // its ids were sent, not a fingerprint
	part         bool // the rest of what was asked
}

// NewInitiator returns an initiator for a view.
func NewInitiator(v *View, l Limits) *Initiator {
	return &Initiator{v: v, l: l.withDefaults(), known: map[ID]struct{}{},
		pending:   []span{{upper: infinity, lo: v.lo, hi: v.hi}},
		confirmed: make([]uint64, (v.Len()+63)/64)}
}

// Frame returns the next frame to send, nil when all is settled. An error wraps ErrLimit.
func (i *Initiator) Frame() ([]byte, error) {
	if len(i.pending) == 0 || i.incomplete {
		i.pending = nil
		return nil, nil
	}
	if i.rounds >= i.l.Rounds {
		i.incomplete = true
		return nil, fmt.Errorf("%w: %d rounds", ErrLimit, i.rounds)
	}
	i.rounds++
	var w writer
	i.asked = i.asked[:0]
	n := 0
	for n < len(i.pending) && len(w.b)+largest <= i.l.Frame {
		i.ask(&w, i.pending[n])
		n++
	}
	i.pending = i.pending[n:]
	return w.b, nil
}

// ask describes one range: by its ids if they are few, else by fingerprints of its pieces.
func (i *Initiator) ask(w *writer, s span) {
	if s.hi-s.lo <= few {
		w.open(s.lower, s.upper, modeIDs)
		w.varint(uint64(s.hi - s.lo))
		for at := s.lo; at < s.hi; at++ {
			w.b = append(w.b, i.v.set.at(at).ID[:]...)
		}
		s.listed = true
		i.asked = append(i.asked, s)
		return
	}
	i.v.split(s, func(s span) {
		w.open(s.lower, s.upper, modeFingerprint)
		p := i.v.print(initiator, s.lo, s.hi)
		w.b = append(w.b, p[:]...)
		i.asked = append(i.asked, s)
	})
}

// split calls fn with fanOut pieces of s that have about as many items each.
func (v *View) split(s span, fn func(span)) {
	lower, lo := s.lower, s.lo
	for n := range fanOut {
		hi := s.lo + (s.hi-s.lo)*(n+1)/fanOut
		upper := s.upper
		if n < fanOut-1 {
			upper = v.cut(hi, s.hi, s.upper)
		}
		fn(span{lower: lower, upper: upper, lo: lo, hi: hi})
		lower, lo = upper, hi
	}
}

// Take reads the responder's answer to the last frame. An error wraps ErrPeer or ErrLimit.
func (i *Initiator) Take(frame []byte) error {
	if len(frame) > i.l.Frame {
		return wrong("frame of %d bytes", len(frame))
	}
	a := answers{i: i, rest: i.asked}
	r := reader{b: frame, asked: a.listedIn}
	for len(r.b) > 0 {
		p, err := r.next()
		if err != nil {
			return err
		}
		if err := a.take(&p); err != nil {
			return err
		}
		if i.incomplete {
			return nil
		}
	}
	if !a.any {
		return wrong("frame without an answer")
	}
	a.passTo(infinity)
	if len(a.open)+len(i.pending) > i.l.Pending {
		i.incomplete = true
		return fmt.Errorf("%w: %d open ranges", ErrLimit, len(a.open)+len(i.pending))
	}
	i.pending = append(a.open, i.pending...)
	i.asked = nil
	return nil
}

// answers holds the state while one frame is read.
type answers struct {
	i    *Initiator
	rest []span // of asked, not passed yet
	open []span // to be asked again, or in smaller pieces
	any  bool
}

// passTo passes over what the responder left unanswered in front of b.
func (a *answers) passTo(b bound) {
	for len(a.rest) > 0 && a.rest[0].lower.compare(b) < 0 {
		s := &a.rest[0]
		if s.upper.compare(b) <= 0 {
			a.open = append(a.open, *s)
			a.rest = a.rest[1:]
			continue
		}
		at := a.i.v.set.search(s.lo, s.hi, b)
		a.open = append(a.open, span{lower: s.lower, upper: b, lo: s.lo, hi: at})
		s.rest(b, at)
	}
}

// rest makes s what is behind a bound, where the place at is.
func (s *span) rest(b bound, at int) { s.lower, s.lo, s.listed, s.part = b, at, false, true }

// listedIn returns how many ids were sent of the range that a difference answers.
func (a *answers) listedIn(lower, upper bound) (int, error) {
	a.passTo(lower)
	if len(a.rest) == 0 || !a.rest[0].listed || a.rest[0].lower != lower || a.rest[0].upper != upper {
		return 0, wrong("difference to what was not listed")
	}
	return a.rest[0].hi - a.rest[0].lo, nil
}

var errNotAsked = errors.New("answer to what was not asked")

func (a *answers) take(p *piece) error {
	a.passTo(p.lower)
	if p.mode == modeSkip {
		return nil
	}
	if len(a.rest) == 0 || a.rest[0].lower != p.lower {
		return fmt.Errorf("%w: %w", ErrPeer, errNotAsked)
	}
	a.any = true
	if p.mode == modeAgreed {
		return a.agreed(p)
	}
	s := a.rest[0]
	if s.upper.compare(p.upper) < 0 {
		return fmt.Errorf("%w: %w", ErrPeer, errNotAsked)
	}
	if p.mode == modeFingerprint && (s.listed || s.upper == p.upper && !s.part) {
		return wrong("fingerprint that goes no further")
	}
	at := a.i.v.set.search(s.lo, s.hi, p.upper)
	if s.upper == p.upper {
		a.rest = a.rest[1:]
	} else {
		a.rest[0].rest(p.upper, at)
	}
	s.upper, s.hi = p.upper, at
	switch p.mode {
	case modeFingerprint:
		if a.i.v.same(responder, p.print, s.lo, s.hi) {
			a.i.confirm(s.lo, s.hi)
			return nil
		}
		a.open = append(a.open, s)
		return nil
	case modeIDs:
		return a.i.compare(s, p)
	default:
		return a.i.difference(s, p)
	}
}

// agreed takes the proof that the responder has all of one or more asked ranges.
func (a *answers) agreed(p *piece) error {
	lo, hi, at := a.rest[0].lo, a.rest[0].lo, p.lower
	for at != p.upper {
		if len(a.rest) == 0 || a.rest[0].lower != at || a.rest[0].listed || a.rest[0].upper.compare(p.upper) > 0 {
			return fmt.Errorf("%w: %w", ErrPeer, errNotAsked)
		}
		hi, at = a.rest[0].hi, a.rest[0].upper
		a.rest = a.rest[1:]
	}
	if !a.i.v.same(responder, p.print, lo, hi) {
		return wrong("agreement without a proof")
	}
	a.i.confirm(lo, hi)
	return nil
}

// compare takes all ids that the responder has in a range.
func (i *Initiator) compare(s span, p *piece) error {
	theirs := make(map[ID]struct{}, p.count())
	for n := range p.count() {
		theirs[p.id(n)] = struct{}{}
	}
	if len(theirs) != p.count() {
		return wrong("an id twice")
	}
	for at := s.lo; at < s.hi && !i.incomplete; at++ {
		id := i.v.set.at(at).ID
		if _, ok := theirs[id]; ok {
			i.confirm(at, at+1)
			delete(theirs, id)
		} else {
			i.lacks(at)
		}
	}
	for n := range p.count() {
		if id := p.id(n); has(theirs, id) {
			i.has(id)
		}
	}
	return nil
}

func has(m map[ID]struct{}, id ID) bool {
	_, ok := m[id]
	return ok
}

// difference takes what the responder says to the ids of a range.
func (i *Initiator) difference(s span, p *piece) error {
	for n := range s.hi - s.lo {
		if p.bits[n/8]>>(n%8)&1 == 1 {
			i.lacks(s.lo + n)
		} else {
			i.confirm(s.lo+n, s.lo+n+1)
		}
	}
	for n := range p.count() {
		i.has(p.id(n))
	}
	return nil
}

// confirm notes that the responder has the items at [lo, hi).
func (i *Initiator) confirm(lo, hi int) {
	for at := lo - i.v.lo; at < hi-i.v.lo; at++ {
		i.confirmed[at/64] |= 1 << (at % 64)
	}
}

func (i *Initiator) lacks(at int) {
	if len(i.lacking) >= i.l.Found {
		i.incomplete = true
		return
	}
	i.lacking = append(i.lacking, at)
}

func (i *Initiator) has(id ID) {
	if has(i.known, id) {
		return
	}
	if len(i.missing) >= i.l.Found {
		i.incomplete = true
		return
	}
	i.known[id] = struct{}{}
	i.missing = append(i.missing, id)
}

// Lacking returns what the responder lacks, as far as that is known, in order.
func (i *Initiator) Lacking() []Item {
	items := make([]Item, len(i.lacking))
	for n, at := range i.lacking {
		items[n] = i.v.set.At(at)
	}
	return items
}

// Missing returns what the responder says to have and the own view has not.
func (i *Initiator) Missing() []ID { return i.missing }

// Confirmed reports whether the responder has shown that it has an item of the view: by
// its fingerprint over a range with it, by listing it, or by answering a list with it.
func (i *Initiator) Confirmed(it Item) bool {
	at := i.v.search(bound{Item: it})
	if at >= i.v.hi || i.v.set.At(at) != it {
		return false
	}
	at -= i.v.lo
	return i.confirmed[at/64]>>(at%64)&1 == 1
}

// Incomplete reports whether a limit ended the session before all was settled.
func (i *Initiator) Incomplete() bool { return i.incomplete }

// Rounds returns how many frames were sent.
func (i *Initiator) Rounds() int { return i.rounds }
