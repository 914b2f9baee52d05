package store

import (
	"encoding/binary"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
)

// Usage says how much the stored envelopes take, as sums of their encoded lengths; the
// quotas are in these terms.
//
// Every envelope is counted to one of two accounts: to that of the own users if one of
// them brought it or has it in the mailbox, else to what is kept for others. One that
// becomes an own user's later moves over, and never back.
type Usage struct {
	Own   Sizes
	Relay Sizes
}

// Sizes tells apart the envelopes of the largest size class, which have a quota of
// their own.
type Sizes struct {
	Small Amount // the first three size classes
	Large Amount // the largest
}

// Amount is a number of envelopes and their bytes.
type Amount struct{ Count, Bytes int64 }

// Total returns both accounts together.
func (u Usage) Total() Sizes {
	return Sizes{
		Small: Amount{u.Own.Small.Count + u.Relay.Small.Count, u.Own.Small.Bytes + u.Relay.Small.Bytes},
		Large: Amount{u.Own.Large.Count + u.Relay.Large.Count, u.Own.Large.Bytes + u.Relay.Large.Bytes},
	}
}

// Sum returns both size classes together.
func (s Sizes) Sum() Amount {
	return Amount{s.Small.Count + s.Large.Count, s.Small.Bytes + s.Large.Bytes}
}

// smallMax is the longest encoded envelope that is not of the largest class.
const smallMax = envelope.HeaderSize + 16384

func isLarge(size uint32) bool { return size > smallMax }

// amount is where envelopes of this kind are counted.
func (u *Usage) amount(mine, large bool) *Amount {
	s := &u.Relay
	if mine {
		s = &u.Own
	}
	if large {
		return &s.Large
	}
	return &s.Small
}

// count counts n envelopes of one size (n may be negative).
func (u *Usage) count(n int64, mine bool, size uint32) {
	a := u.amount(mine, isLarge(size))
	a.Count += n
	a.Bytes += n * int64(size)
}

// amounts lists all amounts in the order in which they are written.
func (u *Usage) amounts() [4]*Amount {
	return [4]*Amount{&u.Own.Small, &u.Own.Large, &u.Relay.Small, &u.Relay.Large}
}

func (u *Usage) add(d *Usage) {
	for i, a := range u.amounts() {
		b := d.amounts()[i]
		a.Count += b.Count
		a.Bytes += b.Bytes
	}
}

const usageSize = 4 * 2 * 8

// append appends count u64 | bytes u64 for own small, own large, relayed small, relayed large.
func (u *Usage) append(b []byte) []byte {
	for _, a := range u.amounts() {
		b = binary.BigEndian.AppendUint64(b, uint64(a.Count))
		b = binary.BigEndian.AppendUint64(b, uint64(a.Bytes))
	}
	return b
}

// parseUsage reads a record of usages; none is zero.
func parseUsage(k, b []byte, us ...*Usage) error {
	if b == nil {
		return nil
	}
	if len(b) != len(us)*usageSize {
		return damaged(k)
	}
	for _, u := range us {
		for _, a := range u.amounts() {
			a.Count = int64(binary.BigEndian.Uint64(b))
			a.Bytes = int64(binary.BigEndian.Uint64(b[8:]))
			b = b[16:]
		}
	}
	return nil
}

// Usage returns what is stored now.
func (s *Store) Usage() (u Usage, err error) {
	err = s.view(func(txn *badger.Txn) error {
		b, err := get(txn, keyUsage)
		if err != nil {
			return err
		}
		return parseUsage(keyUsage, b, &u)
	})
	return u, err
}

// ShareOf returns the bytes that are kept for others and that this neighbour brought
// first, of the small classes and of the largest.
func (s *Store) ShareOf(neighbour noise.PublicKey) (small, large int64, err error) {
	err = s.view(func(txn *badger.Txn) error {
		k := shareKey(neighbour)
		b, err := get(txn, k)
		if err != nil {
			return err
		}
		share, err := parseShare(k, b)
		small, large = share[0], share[1]
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("share of %s: %w", neighbour.Short(), err)
	}
	return small, large, nil
}
