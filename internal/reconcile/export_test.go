package reconcile

import "bytes"

// MinFrame is the smallest limit of a frame.
const MinFrame = minFrame

// Reencode parses a frame and writes it again. Every difference in it answers n ids.
func Reencode(frame []byte, n int) ([]byte, error) {
	r := reader{b: bytes.Clone(frame), asked: func(bound, bound) (int, error) { return n, nil }}
	var w writer
	for len(r.b) > 0 {
		p, err := r.next()
		if err != nil {
			return nil, err
		}
		w.piece(&p)
	}
	return w.b, nil
}

// Open returns how many ranges the initiator keeps.
func (i *Initiator) Open() int { return len(i.pending) }

// Print returns the initiator's fingerprint of a whole view, and the responder's.
func (v *View) Print() (own, answer [16]byte) {
	return v.print(initiator, v.lo, v.hi), v.print(responder, v.lo, v.hi)
}

// PrintOf returns the initiator's fingerprint of a part of a view.
func (v *View) PrintOf(lo, hi int) [16]byte { return v.print(initiator, v.lo+lo, v.lo+hi) }
