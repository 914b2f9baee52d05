package store

import (
	"context"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
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
