package reconcile

import "fmt"

// Responder is the side that answers. It keeps nothing between frames.
type Responder struct {
	v      *View
	l      Limits
	rounds int
}

// NewResponder returns a responder for a view.
func NewResponder(v *View, l Limits) *Responder { return &Responder{v: v, l: l.withDefaults()} }

// Answer returns the answer to a frame. An error wraps ErrPeer or ErrLimit.
func (r *Responder) Answer(frame []byte) ([]byte, error) {
	if len(frame) > r.l.Frame {
		return nil, wrong("frame of %d bytes", len(frame))
	}
	if r.rounds >= r.l.Rounds {
		return nil, fmt.Errorf("%w: %d rounds", ErrLimit, r.rounds)
	}
	r.rounds++
	in := reader{b: frame, asked: func(bound, bound) (int, error) { return 0, wrong("difference of an initiator") }}
	a := answer{v: r.v, limit: r.l.Frame}
	for len(in.b) > 0 && !a.full {
		p, err := in.next()
		if err != nil {
			return nil, err
		}
		if err := a.add(&p); err != nil {
			return nil, err
		}
	}
	a.flush()
	return a.w.b, nil
}

// answer is a frame that is being made.
type answer struct {
	v     *View
	w     writer
	limit int
	run   span // ranges side by side that both sides have alike
	full  bool // what follows is left to the next frame
}

func (a *answer) room() int { return a.limit - len(a.w.b) - largest }

func (a *answer) add(p *piece) error {
	if a.room() < 0 {
		a.full = true
		return nil
	}
	s := span{lower: p.lower, upper: p.upper, lo: a.v.search(p.lower), hi: a.v.search(p.upper)}
	switch p.mode {
	case modeSkip:
		return nil
	case modeFingerprint:
		if a.v.same(initiator, p.print, s.lo, s.hi) {
			a.agree(s)
			return nil
		}
		a.flush()
		a.describe(s)
		return nil
	case modeIDs:
		a.flush()
		return a.compare(s, p)
	default:
		return wrong("mode %d from an initiator", p.mode)
	}
}

// agree adds a range to those that are alike.
func (a *answer) agree(s span) {
	if a.run.upper == s.lower && a.run.upper != (bound{}) {
		a.run.upper, a.run.hi = s.upper, s.hi
		return
	}
	a.flush()
	a.run = s
}

// flush writes the proof for the ranges that are alike.
func (a *answer) flush() {
	if a.run.upper == (bound{}) {
		return
	}
	a.w.open(a.run.lower, a.run.upper, modeAgreed)
	p := a.v.print(responder, a.run.lo, a.run.hi)
	a.w.b = append(a.w.b, p[:]...)
	a.run = span{}
}

// describe answers a fingerprint that is not ours.
func (a *answer) describe(s span) {
	if s.hi-s.lo <= few {
		a.list(s)
		return
	}
	a.v.split(s, func(s span) {
		a.w.open(s.lower, s.upper, modeFingerprint)
		p := a.v.print(responder, s.lo, s.hi)
		a.w.b = append(a.w.b, p[:]...)
	})
}

func (a *answer) list(s span) {
	a.w.open(s.lower, s.upper, modeIDs)
	a.w.varint(uint64(s.hi - s.lo))
	for at := s.lo; at < s.hi; at++ {
		a.w.b = append(a.w.b, a.v.set.at(at).ID[:]...)
	}
}

// compare answers the ids that the initiator has in a range: with the difference if it
// fits, else with as many of the own ids as fit.
func (a *answer) compare(s span, p *piece) error {
	if s.hi-s.lo-p.count() > a.room()/idSize {
		a.fill(s)
		return nil
	}
	theirs := make(map[ID]int, p.count())
	for n := range p.count() {
		theirs[p.id(n)] = n
	}
	if len(theirs) != p.count() {
		return wrong("an id twice")
	}
	if answer := a.difference(s, p, theirs); len(answer.bits)+len(answer.ids) <= a.room() {
		a.w.piece(answer)
	} else {
		a.fill(s)
	}
	return nil
}

func (a *answer) difference(s span, p *piece, theirs map[ID]int) *piece {
	d := &piece{lower: s.lower, upper: s.upper, mode: modeDifference, bits: make([]byte, (p.count()+7)/8)}
	for n := range p.count() {
		d.bits[n/8] |= 1 << (n % 8)
	}
	for at := s.lo; at < s.hi; at++ {
		id := a.v.set.at(at).ID
		if n, ok := theirs[id]; ok {
			d.bits[n/8] &^= 1 << (n % 8)
		} else {
			d.ids = append(d.ids, id[:]...)
		}
	}
	return d
}

// fill lists as many ids of a range as fit into an empty frame; into another one nothing.
func (a *answer) fill(s span) {
	if len(a.w.b) == 0 {
		at := min(s.lo+a.room()/idSize, s.hi)
		s.upper, s.hi = a.v.cut(at, s.hi, s.upper), at
		a.list(s)
	}
	a.full = true
}
