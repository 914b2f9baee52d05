package store

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/passport"
)

// tagKeyPiece bounds one write; a device registers some hundred keys at a time.
const tagKeyPiece = 2000

// PutTagKeys stores keys of a user. A handle that is there already is overwritten.
func (s *Store) PutTagKeys(ctx context.Context, user passport.ID, keys []envelope.TagKey) error {
	for len(keys) > 0 {
		n := min(tagKeyPiece, len(keys))
		err := s.update(ctx, func(t *tx) error {
			for _, k := range keys[:n] {
				t.set(tagKeyKey(user, k.Handle), append(be32(k.Epoch), k.Key[:]...))
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("store tag keys of %s: %w", user.Short(), err)
		}
		keys = keys[n:]
	}
	return nil
}

// DeleteTagKeys removes keys of a user; those that are not there are passed over. What
// is in the mailbox stays.
func (s *Store) DeleteTagKeys(ctx context.Context, user passport.ID, handles []envelope.Handle) error {
	for len(handles) > 0 {
		n := min(tagKeyPiece, len(handles))
		err := s.updateAlways(ctx, func(t *tx) error {
			for _, h := range handles[:n] {
				t.delete(tagKeyKey(user, h))
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("delete tag keys of %s: %w", user.Short(), err)
		}
		handles = handles[n:]
	}
	return nil
}

// TagKeys calls fn with all keys until it returns false.
func (s *Store) TagKeys(fn func(user passport.ID, k envelope.TagKey) bool) error {
	return s.view(func(txn *badger.Txn) error {
		return scan(txn, []byte{kindTagKey}, nil, true, func(k, v []byte) (bool, error) {
			if len(v) != 4+32 {
				return false, damaged(k)
			}
			tk := envelope.TagKey{Epoch: binary.BigEndian.Uint32(v), Handle: envelope.Handle(k[17:])}
			copy(tk.Key[:], v[4:])
			return fn(passport.ID(k[1:17]), tk), nil
		})
	})
}

// ExpireTagKeys removes the keys of all epochs before the given one.
func (s *Store) ExpireTagKeys(ctx context.Context, before uint32) error {
	old := map[passport.ID][]envelope.Handle{}
	err := s.TagKeys(func(user passport.ID, k envelope.TagKey) bool {
		if k.Epoch < before {
			old[user] = append(old[user], k.Handle)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("expire tag keys: %w", err)
	}
	for user, handles := range old {
		if err := s.DeleteTagKeys(ctx, user, handles); err != nil {
			return err
		}
	}
	return nil
}
