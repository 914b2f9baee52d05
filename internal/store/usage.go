package store

import (
	"encoding/binary"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/envelope"
)

// Usage says how much the stored envelopes take, as sums of their encoded lengths; the
// quotas are in these terms.
type Usage struct {
	Small Amount // the first three size classes
	Large Amount // the largest
}

// Amount is a number of envelopes and their bytes.
type Amount struct{ Count, Bytes int64 }

// smallMax is the longest encoded envelope that is not of the largest class.
var smallMax = envelope.MaxSize - envelope.Sizes[3] + envelope.Sizes[2]

// Usage returns what is stored now.
func (s *Store) Usage() (u Usage, err error) {
	err = s.view(func(txn *badger.Txn) error {
		b, err := get(txn, keyUsage)
		if err == nil {
			u, err = parseUsage(b)
		}
		return err
	})
	return u, err
}

// addUsage counts n envelopes of one size (n may be negative).
func (t *tx) addUsage(n int64, size uint32) error {
	b, err := t.get(keyUsage)
	if err != nil {
		return err
	}
	u, err := parseUsage(b)
	if err != nil {
		return err
	}
	u.add(n, size)
	t.set(keyUsage, u.bytes())
	return nil
}

func (u *Usage) add(n int64, size uint32) {
	a := &u.Small
	if int(size) > smallMax {
		a = &u.Large
	}
	a.Count += n
	a.Bytes += n * int64(size)
}

func (u Usage) bytes() (b []byte) {
	for _, n := range []int64{u.Small.Count, u.Small.Bytes, u.Large.Count, u.Large.Bytes} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return b
}

func parseUsage(b []byte) (u Usage, err error) {
	if b == nil {
		return u, nil
	}
	if len(b) != 32 {
		return u, damaged(keyUsage)
	}
	for i, n := range []*int64{&u.Small.Count, &u.Small.Bytes, &u.Large.Count, &u.Large.Bytes} {
		*n = int64(binary.BigEndian.Uint64(b[8*i:]))
	}
	return u, nil
}
