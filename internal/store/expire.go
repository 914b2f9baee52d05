package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/passport"
)

// ExpireEnvelopes removes what is due by now: mailbox entries acknowledged 30 days ago,
// and envelopes four hours after their end unless a mailbox still holds them; those go
// with their last entry. It does at most limit such steps and returns how many it did,
// so the caller goes on until it gets less than limit.
func (s *Store) ExpireEnvelopes(ctx context.Context, now passport.Time, limit int) (n int, err error) {
	for n < limit {
		const piece = 256
		done, err := s.expire(ctx, now, min(piece, limit-n))
		n += done
		if err != nil {
			return n, fmt.Errorf("expire: %w", err)
		}
		if done == 0 {
			break
		}
	}
	return n, nil
}

// expire removes up to limit entries, or if there are none envelopes. The keys are
// read outside of the committer, each is looked at again inside.
func (s *Store) expire(ctx context.Context, now passport.Time, limit int) (int, error) {
	keys, err := s.due(kindRemove, now, limit)
	if err == nil && len(keys) == 0 {
		keys, err = s.due(kindDue, now, limit)
	}
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	err = s.update(ctx, func(t *tx) error {
		for _, k := range keys {
			if there, err := t.has(k); err != nil {
				return err
			} else if !there {
				continue
			}
			if err := t.expireKey(k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(keys), nil
}

// due returns the first keys of a kind whose time has come.
func (s *Store) due(kind byte, now passport.Time, limit int) (keys [][]byte, err error) {
	err = s.view(func(txn *badger.Txn) error {
		return scan(txn, []byte{kind}, nil, false, func(k, _ []byte) (bool, error) {
			if passport.Time(binary.BigEndian.Uint32(k[1:])) > now || len(keys) >= limit {
				return false, nil
			}
			keys = append(keys, append([]byte(nil), k...))
			return true, nil
		})
	})
	return keys, err
}

func (t *tx) expireKey(k []byte) error {
	t.delete(k)
	if k[0] == kindDue {
		return t.endEnvelope(envelope.ID(k[5:]))
	}
	return t.removeEntry(passport.ID(k[5:21]), binary.BigEndian.Uint64(k[21:]))
}

// endEnvelope removes an envelope whose time is over, or leaves it to the mailboxes
// that hold it.
func (t *tx) endEnvelope(id envelope.ID) error {
	x, err := t.index(id)
	if x == nil || err != nil {
		return err
	}
	if x.held > 0 {
		x.ended = true
		t.setIndex(id, x)
		return nil
	}
	return t.removeEnvelope(id, x)
}

func (t *tx) removeEnvelope(id envelope.ID, x *index) error {
	t.delete(bodyKey(id))
	t.delete(indexKey(id))
	t.delete(dueKey(x.due(), id))
	if err := t.deletePrefix(key(kindCustody, id[:])); err != nil {
		return err
	}
	return t.addUsage(-1, x.size)
}

// removeEntry removes a mailbox entry, and its envelope if nothing else keeps it.
func (t *tx) removeEntry(user passport.ID, n uint64) error {
	k := entryKey(user, n)
	b, err := t.get(k)
	if b == nil || err != nil {
		return err
	}
	e, err := parseEntry(k, b)
	if err != nil {
		return err
	}
	t.delete(k)
	t.delete(numberKey(user, e.id))
	if e.acknowledged == 0 {
		if err := t.release(user, e); err != nil {
			return err
		}
	} else {
		t.delete(removeKey(e.removeAt(), user, n))
	}
	if err := t.deletePrefix(key(kindDevice, user[:], be64(n))); err != nil {
		return err
	}
	x, err := t.index(e.id)
	if x == nil || err != nil {
		return err
	}
	x.held--
	if x.ended && x.held == 0 {
		return t.removeEnvelope(e.id, x)
	}
	t.setIndex(e.id, x)
	return nil
}

// deletePrefix deletes all keys with the prefix, except those this write itself set.
func (t *tx) deletePrefix(prefix []byte) error {
	return t.scan(prefix, nil, false, func(k, _ []byte) (bool, error) {
		t.delete(append([]byte(nil), k...))
		return true, nil
	})
}

// Compact gives the room of removed envelopes back to the file system, as far as Badger
// knows of it by now. It may take minutes after much was removed; other calls go on.
func (s *Store) Compact(ctx context.Context) error {
	for ctx.Err() == nil {
		if !s.enter() {
			return ErrClosed
		}
		err := s.db.RunValueLogGC(0.5)
		s.leave()
		switch {
		case err == nil: // a file was rewritten, perhaps there is another
		case errors.Is(err, badger.ErrNoRewrite), errors.Is(err, badger.ErrRejected):
			return nil
		default:
			return fmt.Errorf("compact store: %w", err)
		}
	}
	return ctx.Err()
}
