package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/fault"
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
	err = s.updateAlways(ctx, func(t *tx) error {
		for _, k := range keys {
			if there, err := t.has(k); err != nil {
				return err
			} else if !there {
				continue
			}
			if err := s.expireKey(t, k); err != nil {
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
	if fault.EarlyExpiry && kind == kindDue {
		now = now.Add(15 * 24 * time.Hour)
	}
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

func (s *Store) expireKey(t *tx, k []byte) error {
	t.delete(k)
	if k[0] == kindDue {
		return s.endEnvelope(t, envelope.ID(k[5:]))
	}
	return s.removeEntry(t, passport.ID(k[5:21]), binary.BigEndian.Uint64(k[21:]))
}

// endEnvelope removes an envelope whose time is over, or leaves it to the mailboxes
// that hold it.
func (s *Store) endEnvelope(t *tx, id envelope.ID) error {
	x, err := t.index(id)
	if x == nil || err != nil {
		return err
	}
	if x.own {
		t.delete(ownKey(x.expires, id))
	}
	if x.held > 0 {
		x.ended = true
		t.setIndex(id, x)
		return nil
	}
	return s.removeEnvelope(t, id, x)
}

func (s *Store) removeEnvelope(t *tx, id envelope.ID, x *index) error {
	t.delete(bodyKey(id))
	t.delete(indexKey(id))
	t.delete(dueKey(x.due(), id))
	if err := t.deletePrefix(key(kindCustody, id[:])); err != nil {
		return err
	}
	t.onCommit(func() { s.removed.Add(int64(x.size)) })
	t.leave(x)
	return nil
}

// removeEntry removes a mailbox entry, and its envelope if nothing else keeps it.
func (s *Store) removeEntry(t *tx, user passport.ID, n uint64) error {
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
		return s.removeEnvelope(t, e.id, x)
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

// keyMarker is a record that is there only for Compact to drop.
var keyMarker = []byte("~")

// Compact gives the room of removed envelopes back to the file system, if they come to a
// file of the value log and to more than the tree of keys, which has to be rewritten for
// it; if the disk is full, half a file is enough. Reading goes on meanwhile, writing after
// some 0.1 s.
//
// Badger learns what of its value log is garbage only when it compacts the keys, and
// ours are so few that it would do so once in weeks, and fill the disk until then. It
// has no call for it, but DropPrefix writes the memtable out and compacts what is new on
// its way, and Flatten does the rest. What somebody still has in view stays, and is
// tried again with the next call.
func (s *Store) Compact(ctx context.Context) error {
	if !s.enter() {
		return ErrClosed
	}
	defer s.leave()
	s.measureTree()
	full := s.disk.check(0) < roomy
	file, removed := vlogSize(s.dir), s.removed.Load()
	if full && removed < file/2 || !full && removed < max(file, s.disk.treeSize()) {
		return nil
	}
	err := s.submit(ctx, &write{alone: s.compactNew, done: make(chan error, 1)})
	if err == nil {
		err = s.db.Flatten(1)
	}
	if err != nil {
		return fmt.Errorf("compact store: %w", err)
	}
	s.measureTree()
	freed, err := s.collect(ctx, file, full)
	if freed { // else try again: an old view may have held everything in place
		s.removed.Add(-removed)
	}
	return err
}

// estimateRemoved counts as removed what is in the finished files of the value log beyond
// the envelopes there are.
func (s *Store) estimateRemoved() error {
	files, err := filepath.Glob(filepath.Join(s.dir, "*.vlog"))
	if err != nil {
		return err
	}
	u, err := s.Usage()
	if err != nil {
		return err
	}
	removed := -u.Total().Sum().Bytes
	for _, f := range files[:max(0, len(files)-1)] { // sorted: the last is being written
		if info, err := os.Stat(f); err == nil {
			removed += info.Size()
		}
	}
	s.removed.Store(max(0, removed))
	return nil
}

// compactNew compacts what was written lately. It runs alone, since Badger refuses all
// writes meanwhile. If it fails, what Badger holds in memory is in doubt.
func (s *Store) compactNew() error {
	if !s.disk.toFlush() {
		return ErrDiskFull
	}
	err := s.failure()
	if err == nil {
		err = s.db.Update(func(txn *badger.Txn) error { return txn.Set(keyMarker, nil) })
	}
	if err == nil {
		err = s.db.DropPrefix(keyMarker)
	}
	if err != nil {
		s.fail(err)
		return s.failure()
	}
	return nil
}

// collect rewrites the files of the value log that are mostly garbage, if the disk is full
// also those that are so in part, and reports whether there were any.
func (s *Store) collect(ctx context.Context, file int64, full bool) (freed bool, err error) {
	garbage := 0.5
	if full {
		garbage = 0.25
	}
	moved := file - int64(garbage*float64(file)) // at most, from each
	ahead := &write{alone: func() error {
		if !s.disk.toCollect(moved) {
			return ErrDiskFull
		}
		if _, err := s.missing(&s.vlog, moved+batchAhead); err != nil {
			return err
		}
		return s.vlog.ahead(moved + batchAhead)
	}}
	for ctx.Err() == nil {
		*ahead = write{alone: ahead.alone, done: make(chan error, 1)}
		if err := s.submit(ctx, ahead); err != nil {
			return freed, fmt.Errorf("compact store: %w", err)
		}
		switch err := s.db.RunValueLogGC(garbage); {
		case err == nil: // one is done, perhaps there is another
			freed = true
		case errors.Is(err, badger.ErrNoRewrite), errors.Is(err, badger.ErrRejected):
			return freed, nil
		default:
			return freed, fmt.Errorf("compact store: %w", err)
		}
	}
	return freed, ctx.Err()
}
