package topic

import (
	"crypto/cipher"
	"encoding/binary"
	"sync"
)

// Matcher holds the tag keys of a node and finds those that an envelope fits. V is
// what the node knows of a key: whose it is. The zero Matcher is empty and ready;
// all methods may be called at the same time.
//
// Matching tries every key of the epoch, one block of AES each. Nothing faster is
// possible on purpose: a tag that could be looked up would be the same on two
// envelopes. With AES instructions a key costs 10 to 30 ns; without them (some ARM
// boards) it is several times that, and its time depends on the key, which others on
// that machine might see.
//
// A key takes 32 bytes and a V. An epoch's first match expands the keys of that
// epoch, about 512 bytes each, so that only the epochs in which envelopes arrive
// are kept in that form: two or three of the eight that clients register.
//
// The scan never ends early and compares without branches on secret bytes, so its
// time tells a sender how many keys there are and whether one matched, not which.
// The first is no secret worth guarding from members of the mesh. The second cannot
// be used without a valid tag: a guess is right with probability 2^-128, however
// well it is timed, since AES leaves no way to guess a tag piece by piece.
type Matcher[V comparable] struct {
	mu     sync.RWMutex
	epochs map[uint32]*keyList[V]
}

// keyList is one epoch's keys. blocks is nil until the first match, then it has an
// element for each key.
type keyList[V comparable] struct {
	keys   []TagKey
	values []V
	blocks []cipher.Block
}

// Add takes in a key. The same key may be there with several values (two devices of
// one user register the same keys); the same pair twice is found twice.
func (m *Matcher[V]) Add(epoch uint32, k TagKey, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.epochs == nil {
		m.epochs = make(map[uint32]*keyList[V])
	}
	l := m.epochs[epoch]
	if l == nil {
		l = new(keyList[V])
		m.epochs[epoch] = l
	}
	l.keys = append(l.keys, k)
	l.values = append(l.values, v)
	if l.blocks != nil {
		l.blocks = append(l.blocks, k.expand())
	}
}

// Remove forgets the key with that value, if it is there. It takes time in
// proportion to the keys of the epoch.
func (m *Matcher[V]) Remove(epoch uint32, k TagKey, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.epochs[epoch]
	if l == nil {
		return
	}
	for i := range l.keys {
		if l.values[i] == v && l.keys[i] == k {
			l.remove(i)
			break
		}
	}
	if len(l.keys) == 0 {
		delete(m.epochs, epoch)
	}
}

// remove puts the last element in the place of element i. What it leaves behind the
// end is cleared, so that no key stays in memory.
func (l *keyList[V]) remove(i int) {
	last := len(l.keys) - 1
	l.keys[i], l.values[i] = l.keys[last], l.values[last]
	clear(l.keys[last:])
	clear(l.values[last:])
	l.keys, l.values = l.keys[:last], l.values[:last]
	if l.blocks != nil {
		l.blocks[i] = l.blocks[last]
		clear(l.blocks[last:])
		l.blocks = l.blocks[:last]
	}
}

// RemoveBefore forgets the keys of all epochs before the given one.
func (m *Matcher[V]) RemoveBefore(epoch uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for e, l := range m.epochs {
		if e < epoch {
			clear(l.keys)
			delete(m.epochs, e)
		}
	}
}

// Len returns how many keys there are.
func (m *Matcher[V]) Len() (n int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, l := range m.epochs {
		n += len(l.keys)
	}
	return n
}

// LenEpoch returns how many keys of an epoch there are.
func (m *Matcher[V]) LenEpoch(epoch uint32) int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if l := m.epochs[epoch]; l != nil {
		return len(l.keys)
	}
	return 0
}

// Match returns the values of the keys of the epoch that made tag for sealHash; nil
// when there is none, as for nearly all envelopes that a node relays.
func (m *Matcher[V]) Match(epoch uint32, sealHash [32]byte, tag Tag) []V {
	m.mu.RLock()
	l := m.epochs[epoch]
	if l != nil && l.blocks == nil {
		m.mu.RUnlock()
		return m.expandAndMatch(epoch, sealHash, tag)
	}
	defer m.mu.RUnlock()
	if l == nil {
		return nil
	}
	return l.match(sealHash, tag)
}

// expandAndMatch is Match for an epoch that was never matched in.
func (m *Matcher[V]) expandAndMatch(epoch uint32, sealHash [32]byte, tag Tag) []V {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.epochs[epoch]
	if l == nil {
		return nil // removed in between
	}
	if l.blocks == nil { // not by another call in between
		l.blocks = make([]cipher.Block, 0, len(l.keys))
		for _, k := range l.keys {
			l.blocks = append(l.blocks, k.expand())
		}
	}
	return l.match(sealHash, tag)
}

// match tries all keys of l, whose blocks are expanded.
func (l *keyList[V]) match(sealHash [32]byte, tag Tag) (found []V) {
	var buf [2 * TagSize]byte // leaves the stack once, not once a key
	in, out := buf[:TagSize], buf[TagSize:]
	copy(in, sealHash[:])
	a, b := binary.LittleEndian.Uint64(tag[:8]), binary.LittleEndian.Uint64(tag[8:])
	for i, block := range l.blocks {
		block.Encrypt(out, in)
		if binary.LittleEndian.Uint64(out)^a|binary.LittleEndian.Uint64(out[8:])^b == 0 {
			found = append(found, l.values[i])
		}
	}
	return found
}
