package passport

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/asmtp/asmtp/noise"
)

// ErrRefused is wrapped by the errors for a block that is well formed and that the
// rules do not allow in this passport (FORMAT.md section 4.4).
var ErrRefused = errors.New("block not allowed in this passport")

// ledger applies blocks one after the other. What it gives out never changes
// afterwards: it replaces slices instead of writing into them. After an error it is
// spoilt, so whoever wants to go on from the state before keeps that Passport.
type ledger struct {
	Passport
	aliases map[string]struct{} // all ever used; nil until a registration needs them
}

// extendAll applies blocks that follow one another.
func (l *ledger) extendAll(blocks []*Block) error {
	for _, b := range blocks {
		if err := l.extend(b); err != nil {
			return err
		}
	}
	return nil
}

// extend applies b. Its parent is checked by the caller.
func (l *ledger) extend(b *Block) error {
	if len(l.blocks) == MaxBlocks {
		return fmt.Errorf("%w: at most %d blocks", ErrLimit, MaxBlocks)
	}
	if l.size += exportSize(b); l.size > MaxSize {
		return fmt.Errorf("%w: at most %d bytes", ErrLimit, MaxSize)
	}
	first := len(l.blocks) == 0
	if first {
		l.id = ID(b.hash)
	} else if !l.IsActive(b.Author()) {
		return fmt.Errorf("%w: author %s is not active", ErrRefused, b.Author().Short())
	}
	for i, e := range b.entries {
		if err := l.apply(e, b.Author(), b.Time()); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	if first && !l.IsActive(b.Author()) {
		return fmt.Errorf("%w: first block does not register its author %s", ErrRefused, b.Author().Short())
	}
	l.blocks = append(l.blocks, b)
	return nil
}

// apply applies one entry of a block of that author and time.
func (l *ledger) apply(e Entry, author noise.PublicKey, at Time) error {
	if at < e.CreatedAt() {
		return fmt.Errorf("%w: entry of %v is younger than its block of %v", ErrRefused, e.CreatedAt(), at)
	}
	switch e := e.(type) {
	case Register:
		return l.register(e, author, at)
	case Deregister:
		return l.deregister(e)
	case SetShared:
		l.shared, l.hasShared = e.Key, true
	}
	return nil
}

// register lets a first block register its author only: its id is a hash of itself,
// so no other key can have signed for it.
func (l *ledger) register(r Register, author noise.PublicKey, at Time) error {
	if at > r.Timeout {
		return fmt.Errorf("%w: registration of %s timed out at %v", ErrRefused, r.Key.Short(), r.Timeout)
	}
	if r.Key != author && r.PassportID != l.id {
		return fmt.Errorf("%w: registration of %s is for passport %s", ErrRefused, r.Key.Short(), r.PassportID)
	}
	i, active := l.find(r.Key)
	if active {
		return fmt.Errorf("%w: %s is active already", ErrRefused, r.Key.Short())
	}
	if len(l.active) == MaxKeys {
		return fmt.Errorf("%w: at most %d active keys", ErrLimit, MaxKeys)
	}
	if !l.takeAlias(r.Alias) {
		return fmt.Errorf("%w: alias %q was used before", ErrRefused, r.Alias)
	}
	l.active = slices.Insert(slices.Clone(l.active), i, r.Key)
	return nil
}

func (l *ledger) deregister(d Deregister) error {
	i, active := l.find(d.Key)
	if !active {
		return fmt.Errorf("%w: %s is not active", ErrRefused, d.Key.Short())
	}
	if len(l.active) == 1 {
		return fmt.Errorf("%w: %s is the last key", ErrRefused, d.Key.Short())
	}
	l.active = slices.Delete(slices.Clone(l.active), i, i+1)
	return nil
}

// takeAlias reports whether alias is new, and takes it. A removed key does not free
// its alias. Most blocks register nobody, so the set is made on demand only.
func (l *ledger) takeAlias(alias string) bool {
	if l.aliases == nil {
		l.aliases = make(map[string]struct{})
		for _, b := range l.blocks {
			for _, e := range b.entries {
				if r, ok := e.(Register); ok {
					l.aliases[r.Alias] = struct{}{}
				}
			}
		}
	}
	_, taken := l.aliases[alias]
	l.aliases[alias] = struct{}{}
	return !taken
}

// find returns where key is, or would be, among the active keys.
func (p *Passport) find(key noise.PublicKey) (int, bool) {
	return slices.BinarySearchFunc(p.active, key, comparePublic)
}

func comparePublic(a, b noise.PublicKey) int { return bytes.Compare(a[:], b[:]) }
