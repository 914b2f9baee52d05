package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// maxForks bounds the proofs kept for one passport: one is enough to warn, and whoever
// forks can make any number.
const maxForks = 16

// tip is the newest state of a passport: tip 16 | blocks u32 | change u64.
type tip struct {
	hash   passport.Hash
	blocks uint32
	change uint64
}

func (p tip) bytes() []byte {
	b := append([]byte(nil), p.hash[:]...)
	b = binary.BigEndian.AppendUint32(b, p.blocks)
	return binary.BigEndian.AppendUint64(b, p.change)
}

func parseTip(k, b []byte) (*tip, error) {
	if len(b) != 16+4+8 {
		return nil, damaged(k)
	}
	p := &tip{blocks: binary.BigEndian.Uint32(b[16:]), change: binary.BigEndian.Uint64(b[20:])}
	copy(p.hash[:], b)
	return p, nil
}

func tipKey(id passport.ID) []byte                    { return key(kindTip, id[:]) }
func blockKey(id passport.ID, h passport.Hash) []byte { return key(kindBlock, id[:], h[:]) }
func changeKey(n uint64) []byte                       { return key(kindChange, be64(n)) }
func activeKey(k noise.PublicKey, id passport.ID) []byte {
	return key(kindActive, k[:], id[:])
}

// readTip returns nil if the passport is not known. get is tx.get or one of a view.
func readTip(get func([]byte) ([]byte, error), id passport.ID) (*tip, error) {
	b, err := get(tipKey(id))
	if b == nil || err != nil {
		return nil, err
	}
	return parseTip(tipKey(id), b)
}

// PutPassport stores a passport that is new or continues the one that is there; changed
// says whether it did. An older or equal one changes nothing. One that goes another way
// gives a *passport.ForkError; its first block that differs is kept as proof.
func (s *Store) PutPassport(ctx context.Context, p *passport.Passport) (changed bool, err error) {
	var fork *passport.ForkError
	if err = s.putLongChain(ctx, p); err == nil {
		err = s.update(ctx, func(t *tx) (err error) {
			changed, fork, err = s.putPassport(t, p)
			return err
		})
	}
	switch {
	case err != nil:
		return false, fmt.Errorf("store passport %s: %w", p.ID(), err)
	case fork != nil:
		return false, fork
	}
	return changed, nil
}

// putLongChain stores blocks ahead if there are too many new ones for one transaction
// (a passport may have 4 MiB). Blocks are stored under their hashes and mean nothing
// before a tip leads to them, so a crash in between leaves some bytes and no harm.
func (s *Store) putLongChain(ctx context.Context, p *passport.Passport) error {
	const piece = 128 << 10
	if p.Size() <= piece {
		return nil
	}
	var old *tip
	err := s.view(func(txn *badger.Txn) (err error) {
		old, err = readTip(viewGet(txn), p.ID())
		return err
	})
	if err != nil {
		return err
	}
	blocks := p.Blocks()
	if old != nil {
		if !p.Contains(old.hash) {
			return nil // a fork or an older state: nothing of it will be stored
		}
		blocks = blocks[min(int(old.blocks), len(blocks)):]
	}
	for len(blocks) > 0 {
		n, size := 0, 0
		for n < len(blocks) && (n == 0 || size+blocks[n].Size() <= piece) {
			size += blocks[n].Size()
			n++
		}
		err := s.update(ctx, func(t *tx) error { return t.putBlocks(p.ID(), blocks[:n]) })
		if err != nil {
			return err
		}
		blocks = blocks[n:]
	}
	return nil
}

// putBlocks stores the blocks that are not there yet.
func (t *tx) putBlocks(id passport.ID, blocks []*passport.Block) error {
	for _, b := range blocks {
		k := blockKey(id, b.Hash())
		if known, err := t.has(k); err != nil {
			return err
		} else if !known {
			t.set(k, b.Bytes())
		}
	}
	return nil
}

func (s *Store) putPassport(t *tx, p *passport.Passport) (changed bool, fork *passport.ForkError, err error) {
	id := p.ID()
	old, err := readTip(t.get, id)
	if err != nil {
		return false, nil, err
	}
	have := 0
	if old != nil {
		have = int(old.blocks)
		if fork, err = t.findFork(p, old); err != nil || fork != nil {
			return false, fork, err
		}
		if p.Len() <= have {
			return false, nil, nil
		}
		t.delete(changeKey(old.change))
	}
	change, err := t.getUint64(keyLastChange)
	if err != nil {
		return false, nil, err
	}
	change++
	if err := t.putBlocks(id, p.Blocks()[have:]); err != nil {
		return false, nil, err
	}
	t.set(keyLastChange, be64(change))
	t.set(changeKey(change), id[:])
	t.set(tipKey(id), tip{p.Tip(), uint32(p.Len()), change}.bytes())
	t.onCommit(func() {
		s.passports.put(p)
		s.lastChange.Store(change)
	})
	return true, nil, t.setActive(p, change)
}

// findFork compares p with the stored chain, and keeps the proof if neither continues
// the other. The usual case, that p continues it, needs no reading.
func (t *tx) findFork(p *passport.Passport, old *tip) (*passport.ForkError, error) {
	theirs := p.Blocks()
	if len(theirs) >= int(old.blocks) && theirs[old.blocks-1].Hash() == old.hash {
		return nil, nil
	}
	ours, err := chain(t.get, p.ID(), old)
	if err != nil {
		return nil, err
	}
	for i := range min(len(ours), len(theirs)) {
		if ours[i].Hash() != theirs[i].Hash() {
			fork := &passport.ForkError{ID: p.ID(), Ours: ours[i], Theirs: theirs[i]}
			return fork, t.putFork(fork)
		}
	}
	return nil, nil
}

// chain returns the blocks of a stored passport, first to last. It checks no signature.
func chain(get func([]byte) ([]byte, error), id passport.ID, t *tip) ([]*passport.Block, error) {
	blocks := make([]*passport.Block, min(t.blocks, passport.MaxBlocks))
	hash := t.hash
	for i := len(blocks) - 1; i >= 0; i-- {
		b, err := readBlock(get, id, hash)
		if err != nil {
			return nil, err
		}
		blocks[i], hash = b, b.Previous()
	}
	return blocks, nil
}

func readBlock(get func([]byte) ([]byte, error), id passport.ID, h passport.Hash) (*passport.Block, error) {
	b, err := get(blockKey(id, h))
	if err != nil {
		return nil, err
	}
	block, err := passport.ParseBlock(b)
	if err != nil || block.Hash() != h {
		return nil, fmt.Errorf("%w: block %s (%v)", ErrDamaged, h, err)
	}
	return block, nil
}

func (t *tx) putFork(fork *passport.ForkError) error {
	id, ours, theirs := fork.ID, fork.Ours.Hash(), fork.Theirs.Hash()
	k := key(kindFork, id[:], theirs[:])
	known, err := t.has(k)
	if known || err != nil {
		return err
	}
	n := 0
	err = t.scan(key(kindFork, id[:]), nil, false, func(_, _ []byte) (bool, error) {
		n++
		return true, nil
	})
	if err == nil && n < maxForks {
		t.set(k, append(ours[:], fork.Theirs.Bytes()...))
	}
	return err
}

// setActive brings the index of active keys to p's state.
func (t *tx) setActive(p *passport.Passport, change uint64) error {
	for _, k := range registered(p) {
		ak := activeKey(k, p.ID())
		known, err := t.has(ak)
		if err != nil {
			return err
		}
		switch active := p.IsActive(k); {
		case active && !known:
			t.set(ak, be64(change))
		case !active && known:
			t.delete(ak)
		}
	}
	return nil
}

// registered returns every key that was ever registered in p.
func registered(p *passport.Passport) (keys []noise.PublicKey) {
	seen := map[noise.PublicKey]bool{}
	add := func(k noise.PublicKey) {
		if !seen[k] {
			seen[k] = true
			keys = append(keys, k)
		}
	}
	for _, b := range p.Blocks() {
		for _, e := range b.Entries() {
			if r, ok := e.(passport.Register); ok {
				add(r.Key)
			}
		}
	}
	for _, k := range p.Active() {
		add(k)
	}
	return keys
}

// Passport returns the newest state of a passport, or ErrNotFound.
func (s *Store) Passport(id passport.ID) (p *passport.Passport, err error) {
	err = s.view(func(txn *badger.Txn) error {
		p, err = s.readPassport(txn, id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("passport %s: %w", id, err)
	}
	return p, nil
}

func (s *Store) readPassport(txn *badger.Txn, id passport.ID) (*passport.Passport, error) {
	t, err := readTip(viewGet(txn), id)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, ErrNotFound
	}
	if p := s.passports.get(id, t.hash); p != nil {
		return p, nil
	}
	p, err := parseChain(txn, id, t)
	if err != nil {
		return nil, err
	}
	s.passports.put(p)
	return p, nil
}

func viewGet(txn *badger.Txn) func([]byte) ([]byte, error) {
	return func(k []byte) ([]byte, error) { return get(txn, k) }
}

// parseChain reads all blocks and checks them anew, so a damaged store cannot give
// anybody a key that the passport's owner did not.
func parseChain(txn *badger.Txn, id passport.ID, t *tip) (*passport.Passport, error) {
	blocks, err := chain(viewGet(txn), id, t)
	if err != nil {
		return nil, err
	}
	var export []byte
	for _, b := range blocks {
		export = append(append(export, be32(uint32(b.Size()))...), b.Bytes()...)
	}
	p, err := passport.Parse(export)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if p.ID() != id || p.Tip() != t.hash {
		return nil, fmt.Errorf("%w: chain is of %s and ends in %s", ErrDamaged, p.ID(), p.Tip())
	}
	return p, nil
}

// PassportOf returns the passport in whose newest state the key is active; if there are
// several, the one in which it became so first.
func (s *Store) PassportOf(k noise.PublicKey) (id passport.ID, ok bool) {
	var first uint64
	err := s.view(func(txn *badger.Txn) error {
		return scan(txn, key(kindActive, k[:]), nil, true, func(k, v []byte) (bool, error) {
			n, err := parseUint64(k, v, nil)
			if err == nil && (!ok || n < first) {
				id, first, ok = passport.ID(k[1+noise.KeySize:]), n, true
			}
			return true, err
		})
	})
	if err != nil {
		return passport.ID{}, false
	}
	return id, ok
}

// LastPassportChange returns the number of the last change, 0 before the first.
func (s *Store) LastPassportChange() uint64 { return s.lastChange.Load() }

// PassportsChanged calls fn with the passports whose last change has a number greater
// than after, in the order of the numbers, until it returns false.
func (s *Store) PassportsChanged(after uint64, fn func(n uint64, id passport.ID) bool) error {
	if after == ^uint64(0) {
		return nil
	}
	return s.view(func(txn *badger.Txn) error {
		return scan(txn, []byte{kindChange}, changeKey(after+1), true, func(k, v []byte) (bool, error) {
			if len(v) != len(passport.ID{}) {
				return false, damaged(k)
			}
			return fn(binary.BigEndian.Uint64(k[1:]), passport.ID(v)), nil
		})
	})
}

// PassportTips calls fn with every passport and its tip until it returns false.
func (s *Store) PassportTips(fn func(passport.ID, passport.Hash) bool) error {
	return s.view(func(txn *badger.Txn) error {
		return scan(txn, []byte{kindTip}, nil, true, func(k, v []byte) (bool, error) {
			t, err := parseTip(k, v)
			if err != nil {
				return false, err
			}
			return fn(passport.ID(k[1:]), t.hash), nil
		})
	})
}

// Forks calls fn with the proofs of forks until it returns false.
func (s *Store) Forks(fn func(*passport.ForkError) bool) error {
	return s.view(func(txn *badger.Txn) error {
		return scan(txn, []byte{kindFork}, nil, true, func(k, v []byte) (bool, error) {
			if len(v) < 16 {
				return false, damaged(k)
			}
			id := passport.ID(k[1:17])
			theirs, err := passport.ParseBlock(v[16:])
			if err != nil {
				return false, fmt.Errorf("%w: %w", damaged(k), err)
			}
			ours, err := readBlock(viewGet(txn), id, passport.Hash(v[:16]))
			if err != nil {
				return false, err
			}
			return fn(&passport.ForkError{ID: id, Ours: ours, Theirs: theirs}), nil
		})
	})
}

// passportCache keeps verified passports, since checking a chain costs some 50 µs per
// block and every call of a user asks for one. It is no truth: what it holds counts only
// if the tip is the one on disk.
type passportCache struct {
	mu sync.Mutex
	m  map[passport.ID]*passport.Passport
}

// passportCacheMax is enough for the users of a node and those who write to them.
const passportCacheMax = 128

func (c *passportCache) get(id passport.ID, tip passport.Hash) *passport.Passport {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.m[id]; p != nil && p.Tip() == tip {
		return p
	}
	return nil
}

func (c *passportCache) put(p *passport.Passport) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[passport.ID]*passport.Passport{}
	}
	if _, there := c.m[p.ID()]; !there && len(c.m) >= passportCacheMax {
		for id := range c.m { // any: the order of a map is random
			delete(c.m, id)
			break
		}
	}
	c.m[p.ID()] = p
}
