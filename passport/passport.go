package passport

import (
	"errors"
	"fmt"
	"slices"

	"github.com/asmtp/asmtp/noise"
)

var (
	// ErrKnown is the error of [Passport.Append] for a block that is in the chain.
	ErrKnown = errors.New("block is in the passport already")
	// ErrNotNext is wrapped by the errors for a block whose parent is no block of the
	// chain: it belongs to another passport, or blocks before it are missing.
	ErrNotNext = errors.New("block does not follow this passport")
	// ErrOther is wrapped by the errors of [Passport.Merge] for another passport.
	ErrOther = errors.New("not the same passport")
)

// ForkError says that somebody signed two valid blocks with one parent. The chain
// goes on with Ours, which was seen first; both together prove the fork. Most
// often two devices changed the passport at the same time without knowing of each
// other, or a removed device tries to go on from before its removal.
type ForkError struct {
	ID           ID
	Ours, Theirs *Block
}

// Error names both blocks and their parent.
func (e *ForkError) Error() string {
	return fmt.Sprintf("passport %s is forked: blocks %s (kept) and %s both follow %s",
		e.ID, e.Ours.Hash(), e.Theirs.Hash(), e.Theirs.Previous())
}

// Passport is a verified chain of blocks and the state that follows from it. It
// never changes and is safe for concurrent use.
type Passport struct {
	id        ID
	blocks    []*Block
	size      int               // of the export
	active    []noise.PublicKey // sorted, never written to
	shared    noise.SharedPublic
	hasShared bool
}

// New returns the passport that the block first begins.
func New(first *Block) (*Passport, error) {
	var l ledger
	if err := l.extend(first); err != nil {
		return nil, fmt.Errorf("passport of block %s: %w", first.Hash(), err)
	}
	return &l.Passport, nil
}

// Append returns the passport that b makes of p. It costs no signature check, those
// were ParseBlock's, and copies one pointer for each block.
//
// If b is in the chain, the error is [ErrKnown]. If b's parent is an earlier block
// and b would have been valid there, it is a [*ForkError]. If b's parent is unknown,
// the error wraps [ErrNotNext]; if the rules forbid b, [ErrRefused] or [ErrLimit].
func (p *Passport) Append(b *Block) (_ *Passport, err error) {
	if p.Contains(b.hash) {
		return nil, ErrKnown
	}
	i := p.index(b.Previous())
	if i < 0 {
		return nil, fmt.Errorf("append block %s to passport %s at %s: %w", b.hash, p.id, p.Tip(), ErrNotNext)
	}
	l := ledger{Passport: *p}
	l.blocks = slices.Clip(l.blocks) // so that two children of p share no memory behind it
	earlier := i < len(p.blocks)-1
	if earlier {
		l = ledger{} // only a block that was allowed there is a fork, anybody can sign others
		err = l.extendAll(p.blocks[:i+1])
	}
	if err == nil {
		err = l.extend(b)
	}
	if err != nil {
		return nil, fmt.Errorf("append block %s to passport %s: %w", b.hash, p.id, err)
	}
	if earlier {
		return nil, &ForkError{ID: p.id, Ours: p.blocks[i+1], Theirs: b}
	}
	return &l.Passport, nil
}

// Merge returns the longer one of two states of one passport: p or q itself. If
// neither continues the other, the error is a [*ForkError] with the first blocks
// that differ, p's as the one kept. Of another passport it wraps [ErrOther].
func (p *Passport) Merge(q *Passport) (*Passport, error) {
	if p.id != q.id {
		return nil, fmt.Errorf("merge passports %s and %s: %w", p.id, q.id, ErrOther)
	}
	for i := range min(len(p.blocks), len(q.blocks)) {
		if p.blocks[i].hash != q.blocks[i].hash {
			return nil, &ForkError{ID: p.id, Ours: p.blocks[i], Theirs: q.blocks[i]}
		}
	}
	if len(q.blocks) > len(p.blocks) {
		return q, nil
	}
	return p, nil
}

// ID returns the name of the passport, the hash of its first block.
func (p *Passport) ID() ID { return p.id }

// Tip returns the hash of the last block.
func (p *Passport) Tip() Hash { return p.last().hash }

// LastTime returns the time of the last block. It may lie in the future, for
// nobody checks a block's time.
func (p *Passport) LastTime() Time { return p.last().Time() }

func (p *Passport) last() *Block { return p.blocks[len(p.blocks)-1] }

// Len returns the number of blocks, at least 1.
func (p *Passport) Len() int { return len(p.blocks) }

// Blocks returns the chain, the first block first.
func (p *Passport) Blocks() []*Block { return slices.Clone(p.blocks) }

// Contains reports whether h is the hash of a block of the chain. It looks through
// the chain from its end, a few microseconds for the longest.
func (p *Passport) Contains(h Hash) bool { return p.index(h) >= 0 }

func (p *Passport) index(h Hash) int {
	for i := len(p.blocks) - 1; i >= 0; i-- {
		if p.blocks[i].hash == h {
			return i
		}
	}
	return -1
}

// Active returns the active master keys in ascending order.
func (p *Passport) Active() []noise.PublicKey { return slices.Clone(p.active) }

// IsActive reports whether key may speak for the passport now.
func (p *Passport) IsActive(key noise.PublicKey) bool {
	_, ok := p.find(key)
	return ok
}
