package reconcile

import (
	"errors"
	"fmt"
	"math"
)

// ErrPeer is wrapped by errors for what no honest side sends.
var ErrPeer = errors.New("reconciliation: wrong frame")

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrPeer, fmt.Sprintf(format, args...))
}

// Modes of a range.
const (
	modeSkip        = 0
	modeFingerprint = 1
	modeIDs         = 2
	modeAgreed      = 3
	modeDifference  = 4
)

const idSize = len(ID{})

// bound is a place in the order, in front of the item or where it would be.
type bound struct {
	Item
	inf bool // behind everything
}

var infinity = bound{inf: true}

func (b bound) compare(o bound) int {
	switch {
	case b.inf && o.inf:
		return 0
	case b.inf:
		return 1
	case o.inf:
		return -1
	}
	return b.Item.Compare(o.Item)
}

// between returns the shortest bound behind a and not behind b, which follows a.
func between(a, b *Item) bound {
	r := bound{Item: Item{Expires: b.Expires}}
	if a.Expires != b.Expires {
		return r
	}
	for i := range b.ID {
		r.ID[i] = b.ID[i]
		if a.ID[i] != b.ID[i] {
			break
		}
	}
	return r
}

// prefix returns how many bytes of a bound's id are needed.
func (b *bound) prefix() int {
	n := idSize
	for n > 0 && b.ID[n-1] == 0 {
		n--
	}
	return n
}

// piece is one range of a frame.
type piece struct {
	lower, upper bound
	mode         byte
	print        []byte // fingerprint, or agreed
	ids          []byte // ids, or what the responder has besides
	bits         []byte // difference: what it lacks
}

func (p *piece) count() int { return len(p.ids) / idSize }

func (p *piece) id(i int) ID { return ID(p.ids[i*idSize:]) }

// writer makes a frame.
type writer struct {
	b    []byte
	at   bound  // the upper bound of the last range
	ends uint32 // the end that stands in it
}

// open begins a range; a gap in front of it is skipped.
func (w *writer) open(lower, upper bound, mode byte) {
	if w.at.compare(lower) < 0 {
		w.bound(lower)
		w.b = append(w.b, modeSkip)
	}
	w.bound(upper)
	w.b = append(w.b, mode)
}

func (w *writer) bound(b bound) {
	w.at = b
	if b.inf {
		w.b = append(w.b, 0, 0)
		return
	}
	w.varint(uint64(b.Expires) - uint64(w.ends) + 1)
	w.ends = b.Expires
	n := b.prefix()
	w.varint(uint64(n))
	w.b = append(w.b, b.ID[:n]...)
}

func (w *writer) varint(n uint64) {
	for shift := 63; shift > 0; shift -= 7 {
		if n>>shift != 0 {
			w.b = append(w.b, byte(n>>shift)|0x80)
		}
	}
	w.b = append(w.b, byte(n&0x7f))
}

// piece writes a parsed range.
func (w *writer) piece(p *piece) {
	w.open(p.lower, p.upper, p.mode)
	w.b = append(w.b, p.print...)
	w.b = append(w.b, p.bits...)
	if p.mode == modeIDs || p.mode == modeDifference {
		w.varint(uint64(p.count()))
		w.b = append(w.b, p.ids...)
	}
}

// reader takes a frame apart. asked returns how many ids a difference answers.
type reader struct {
	b     []byte
	at    bound
	ends  uint32
	asked func(lower, upper bound) (int, error)
}

// next returns the next range; its slices are of the frame.
func (r *reader) next() (p piece, err error) {
	p.lower = r.at
	if p.upper, err = r.bound(); err != nil {
		return p, err
	}
	if p.upper.compare(p.lower) <= 0 {
		return p, wrong("range that does not go on")
	}
	r.at = p.upper
	mode, err := r.take(1)
	if err != nil {
		return p, err
	}
	switch p.mode = mode[0]; p.mode {
	case modeSkip:
	case modeFingerprint, modeAgreed:
		p.print, err = r.take(printSize)
	case modeIDs:
		p.ids, err = r.ids()
	case modeDifference:
		var n int
		if n, err = r.asked(p.lower, p.upper); err != nil {
			return p, err
		}
		if p.bits, err = r.take((n + 7) / 8); err != nil {
			return p, err
		}
		if n%8 != 0 && p.bits[n/8]>>(n%8) != 0 {
			return p, wrong("bits beyond the ids")
		}
		p.ids, err = r.ids()
	default:
		err = wrong("mode %d", p.mode)
	}
	return p, err
}

func (r *reader) ids() ([]byte, error) {
	n, err := r.varint()
	if err != nil {
		return nil, err
	}
	if n > uint64(len(r.b)/idSize) {
		return nil, wrong("%d ids in %d bytes", n, len(r.b))
	}
	return r.take(int(n) * idSize)
}

func (r *reader) bound() (b bound, err error) {
	more, err := r.varint()
	if err != nil {
		return b, err
	}
	n, err := r.varint()
	if err != nil {
		return b, err
	}
	if n > uint64(idSize) {
		return b, wrong("bound of %d bytes", n)
	}
	prefix, err := r.take(int(n))
	if err != nil {
		return b, err
	}
	if more == 0 {
		if n != 0 {
			return b, wrong("an id at the end of everything")
		}
		return infinity, nil
	}
	if more-1 > uint64(math.MaxUint32-r.ends) {
		return b, wrong("end beyond its range")
	}
	if n > 0 && prefix[n-1] == 0 {
		return b, wrong("bound that is not the shortest")
	}
	r.ends += uint32(more - 1)
	b.Expires = r.ends
	copy(b.ID[:], prefix)
	return b, nil
}

func (r *reader) varint() (n uint64, err error) {
	for i := range 6 { // 42 bits, enough for 2^32 + 1
		c, err := r.take(1)
		if err != nil {
			return 0, err
		}
		if i == 0 && c[0] == 0x80 {
			return 0, wrong("number with a leading zero")
		}
		n = n<<7 | uint64(c[0]&0x7f)
		if c[0] < 0x80 {
			return n, nil
		}
	}
	return 0, wrong("number too large")
}

func (r *reader) take(n int) ([]byte, error) {
	if n > len(r.b) {
		return nil, wrong("%d bytes where %d are needed", len(r.b), n)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b, nil
}
