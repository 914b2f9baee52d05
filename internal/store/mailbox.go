package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/fault"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// keepAcknowledged is how long a mailbox entry is kept after a first device has
// acknowledged it, for the user's other devices.
const keepAcknowledged = 30 * 24 * time.Hour

// entry is one envelope in the mailbox of one user:
//
//	envelope 32 | handle 16 | size u32 | acknowledged u32
type entry struct {
	id           envelope.ID
	handle       envelope.Handle
	size         uint32
	acknowledged passport.Time // by the first device; 0: by none
}

const entrySize = 32 + 16 + 4 + 4

func (e *entry) bytes() []byte {
	b := make([]byte, 0, entrySize)
	b = append(append(b, e.id[:]...), e.handle[:]...)
	b = binary.BigEndian.AppendUint32(b, e.size)
	return binary.BigEndian.AppendUint32(b, uint32(e.acknowledged))
}

func parseEntry(k, b []byte) (*entry, error) {
	if len(b) != entrySize {
		return nil, damaged(k)
	}
	e := &entry{
		size:         binary.BigEndian.Uint32(b[48:]),
		acknowledged: passport.Time(binary.BigEndian.Uint32(b[52:])),
	}
	copy(e.id[:], b)
	copy(e.handle[:], b[32:])
	return e, nil
}

func (e *entry) removeAt() passport.Time { return e.acknowledged.Add(keepAcknowledged) }

// deliver makes the mailbox entry of a match, unless the user has the envelope already
// or its handle is over the limit. The caller writes x back.
func (s *Store) deliver(t *tx, id envelope.ID, x *index, m envelope.Match) error {
	known, err := t.has(numberKey(m.User, id))
	if known && !fault.DoubleAccept || err != nil {
		return err
	}
	pending, fits, err := s.fits(t, x, m)
	if err != nil {
		return err
	}
	if !fits {
		t.onCommit(func() {
			s.log.Warn("mailbox: handle over its limit", "user", m.User.Short(), "handle", fmt.Sprintf("%x", m.Handle[:4]), "limit", s.handleLimit)
		})
		return nil
	}
	last, err := t.getUint64(lastKey(m.User))
	if err != nil {
		return err
	}
	n := last + 1
	e := entry{id: id, handle: m.Handle, size: x.size}
	t.set(entryKey(m.User, n), e.bytes())
	t.set(numberKey(m.User, id), be64(n))
	t.set(lastKey(m.User), be64(n))
	t.set(handleKey(m.User, m.Handle), be64(pending+uint64(x.size)))
	x.held++
	return nil
}

// fits says whether the handle of a match may bring this much more, and what it has
// pending.
func (s *Store) fits(t *tx, x *index, m envelope.Match) (pending uint64, ok bool, err error) {
	pending, err = t.getUint64(handleKey(m.User, m.Handle))
	return pending, err == nil && pending+uint64(x.size) <= uint64(s.handleLimit), err
}

// Deliveries returns at most limit envelopes from the user's mailbox with numbers
// greater than after, in order. Some numbers may be gone.
func (s *Store) Deliveries(user passport.ID, after uint64, limit int) (list []envelope.Delivery, err error) {
	list, _, err = s.deliveries(user, after, limit, func(*entry) bool { return true })
	return list, err
}

// DeliveriesOf is Deliveries for those of the largest size class only, or those of the
// others. It also returns up to which number it looked: there is nothing more of that kind.
func (s *Store) DeliveriesOf(user passport.ID, large bool, after uint64, limit int) (list []envelope.Delivery, upTo uint64, err error) {
	smaller := uint32(envelope.HeaderSize + envelope.Sizes[len(envelope.Sizes)-2])
	return s.deliveries(user, after, limit, func(e *entry) bool { return e.size > smaller == large })
}

func (s *Store) deliveries(user passport.ID, after uint64, limit int, wanted func(*entry) bool) (list []envelope.Delivery, upTo uint64, err error) {
	upTo = after
	if after == ^uint64(0) {
		return nil, upTo, nil
	}
	err = s.view(func(txn *badger.Txn) error {
		prefix := key(kindEntry, user[:])
		return scan(txn, prefix, entryKey(user, after+1), true, func(k, v []byte) (bool, error) {
			if len(list) >= limit {
				return false, nil
			}
			e, err := parseEntry(k, v)
			if err != nil {
				return false, err
			}
			upTo = binary.BigEndian.Uint64(k[1+len(user):])
			if !wanted(e) {
				return true, nil
			}
			body, err := get(txn, bodyKey(e.id))
			if err == nil && body == nil {
				err = fmt.Errorf("envelope %s: %w", e.id.Short(), ErrNotFound)
			}
			if err != nil {
				return false, err
			}
			list = append(list, envelope.Delivery{Number: upTo, ID: e.id, Handle: e.handle, Envelope: body})
			return true, nil
		})
	})
	if err != nil {
		return nil, after, fmt.Errorf("mailbox of %s: %w", user.Short(), err)
	}
	return list, upTo, nil
}

// LastNumber returns the last number given out in the user's mailbox, 0 before the first.
func (s *Store) LastNumber(user passport.ID) (n uint64, err error) {
	err = s.view(func(txn *badger.Txn) error {
		n, err = getUint64(txn, lastKey(user))
		return err
	})
	return n, err
}

// Acknowledge notes that a device of the user has these entries safe. From 30 days
// after the first acknowledgement on, an entry may be removed. Numbers that are gone or
// were never given are passed over.
func (s *Store) Acknowledge(ctx context.Context, user passport.ID, device noise.PublicKey, numbers []uint64) error {
	const piece = 400 // four records each
	for len(numbers) > 0 {
		n := min(piece, len(numbers))
		now := s.clock()
		err := s.update(ctx, func(t *tx) error {
			for _, n := range numbers[:n] {
				if err := t.acknowledge(user, device, n, now); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("acknowledge in mailbox of %s: %w", user.Short(), err)
		}
		numbers = numbers[n:]
	}
	return nil
}

func (t *tx) acknowledge(user passport.ID, device noise.PublicKey, n uint64, now passport.Time) error {
	k := entryKey(user, n)
	b, err := t.get(k)
	if b == nil || err != nil {
		return err
	}
	e, err := parseEntry(k, b)
	if err != nil {
		return err
	}
	if known, err := t.has(deviceKey(user, n, device)); known || err != nil {
		return err
	}
	t.set(deviceKey(user, n, device), be32(uint32(now)))
	if e.acknowledged != 0 {
		return nil
	}
	e.acknowledged = max(now, 1)
	t.set(k, e.bytes())
	t.set(removeKey(e.removeAt(), user, n), nil)
	return t.release(user, e)
}

// release takes the entry off what its handle has pending.
func (t *tx) release(user passport.ID, e *entry) error {
	k := handleKey(user, e.handle)
	pending, err := t.getUint64(k)
	if err != nil {
		return err
	}
	if pending <= uint64(e.size) {
		t.delete(k)
	} else {
		t.set(k, be64(pending-uint64(e.size)))
	}
	return nil
}

// AcknowledgedBy returns the devices that acknowledged an entry.
func (s *Store) AcknowledgedBy(user passport.ID, number uint64) (devices []noise.PublicKey, err error) {
	prefix := key(kindDevice, user[:], be64(number))
	err = s.view(func(txn *badger.Txn) error {
		return scan(txn, prefix, nil, false, func(k, _ []byte) (bool, error) {
			devices = append(devices, noise.PublicKey(k[len(prefix):]))
			return true, nil
		})
	})
	return devices, err
}

// Unacknowledged returns how many bytes of a handle's entries no device has
// acknowledged yet.
func (s *Store) Unacknowledged(user passport.ID, h envelope.Handle) (n uint64, err error) {
	err = s.view(func(txn *badger.Txn) error {
		n, err = getUint64(txn, handleKey(user, h))
		return err
	})
	return n, err
}
