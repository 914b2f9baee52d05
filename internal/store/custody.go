package store

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// PutCustody notes that a member of the mesh said it stores these envelopes. It is kept
// for envelopes that users of this node brought, and passed over for all others.
func (s *Store) PutCustody(ctx context.Context, member noise.PublicKey, ids []envelope.ID) error {
	err := s.update(ctx, func(t *tx) error {
		for _, id := range ids {
			x, err := t.index(id)
			if err != nil {
				return err
			}
			if x == nil || !x.own {
				continue
			}
			k := key(kindCustody, id[:], member[:])
			if known, err := t.has(k); err != nil {
				return err
			} else if !known {
				t.set(k, nil)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store custody of %s: %w", member.Short(), err)
	}
	return nil
}

// DropCustody takes back what PutCustody noted, for a member that turned out not to store
// these envelopes. That it once said so is not kept.
func (s *Store) DropCustody(ctx context.Context, member noise.PublicKey, ids []envelope.ID) error {
	const piece = 2000
	for len(ids) > 0 {
		n := min(piece, len(ids))
		err := s.updateAlways(ctx, func(t *tx) error {
			for _, id := range ids[:n] {
				k := key(kindCustody, id[:], member[:])
				if known, err := t.has(k); err != nil {
					return err
				} else if known {
					t.delete(k)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("drop custody of %s: %w", member.Short(), err)
		}
		ids = ids[n:]
	}
	return nil
}

// Holders returns the members that said they store the envelope, in the order of their
// keys.
func (s *Store) Holders(id envelope.ID) (members []noise.PublicKey, err error) {
	prefix := key(kindCustody, id[:])
	err = s.view(func(txn *badger.Txn) error {
		return scan(txn, prefix, nil, false, func(k, _ []byte) (bool, error) {
			members = append(members, noise.PublicKey(k[len(prefix):]))
			return true, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("holders of envelope %s: %w", id.Short(), err)
	}
	return members, nil
}

// OwnEnvelopes calls fn with the envelopes that own users brought and whose end was not
// dealt with yet, those that end first coming first, until it returns false. Only keys are
// read, in one consistent state; fn must not take long, since it holds that state in place.
func (s *Store) OwnEnvelopes(fn func(id envelope.ID, expires passport.Time) bool) error {
	return s.view(func(txn *badger.Txn) error {
		return scan(txn, []byte{kindOwn}, nil, false, func(k, _ []byte) (bool, error) {
			return fn(envelope.ID(k[5:]), passport.Time(binary.BigEndian.Uint32(k[1:]))), nil
		})
	})
}

// Custody returns how many members said they store the envelope, this node not
// counted. It is 0 for envelopes that no user of this node brought.
func (s *Store) Custody(id envelope.ID) int {
	n := 0
	err := s.view(func(txn *badger.Txn) error {
		return scan(txn, key(kindCustody, id[:]), nil, false, func(_, _ []byte) (bool, error) {
			n++
			return true, nil
		})
	})
	if err != nil {
		return 0 // nothing that is not confirmed counts
	}
	return n
}
