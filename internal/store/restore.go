package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// restoring is added to the name of the folder while its store is being written.
const restoring = ".restoring"

// stampSlack is how far behind the clock of the machine may be on which a backup is
// restored, without the node giving out a stamp again that it gave out before.
const stampSlack = 2 * time.Hour

// Restore makes a store in dir, which must be missing or empty, from what Backup wrote. If
// it fails, or the machine does while it runs, there is no store in dir.
//
// The store that the backup was made of must never be opened again, and may have gone on
// after the backup. So that nobody is misled by that:
//   - the mailboxes get a new generation, so that clients read them from the start;
//   - the stamps go on two hours after now, or after the last one that was reserved,
//     whichever is later: the old node used none of them unless its clock was ahead by more;
//   - tokens are used up, since some may have been used after the backup.
//
// Envelopes, passports and statements that came after the backup come again from the mesh.
func Restore(ctx context.Context, dir string, r io.Reader, o Options) error {
	if err := restore(ctx, dir, r, o); err != nil {
		return fmt.Errorf("restore the store: %w", err)
	}
	return nil
}

func restore(ctx context.Context, dir string, r io.Reader, o Options) error {
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(files) > 0 {
		return fmt.Errorf("%s is not empty", dir)
	}
	dir = filepath.Clean(dir)
	tmp := dir + restoring
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	err = fill(ctx, tmp, r, o)
	if err == nil {
		err = renew(ctx, tmp, o)
	}
	if err == nil {
		err = os.Remove(dir) // rename replaces no folder everywhere
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = os.Rename(tmp, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return syncDir(filepath.Dir(dir))
}

// fill writes the records of a backup into a new database.
func fill(ctx context.Context, dir string, r io.Reader, o Options) (err error) {
	o = o.withDefaults()
	in, err := newBackupReader(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	d := &disk{}
	if err := d.init(dir, o); err != nil {
		return err
	}
	if err := d.toOpen(); err != nil {
		return err
	}
	db, err := badger.Open(badgerOptions(dir, &badgerLog{log: o.Log}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	b := &bulk{db: db, disk: d}
	for {
		k, v, err := in.next()
		if err == io.EOF {
			return b.flush()
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = b.set(k, v)
		}
		if err != nil {
			return err
		}
	}
}

// bulk writes many records, as much in one transaction as fits, and looks at the disk
// before each as the committer does.
type bulk struct {
	db                 *badger.DB
	disk               *disk
	records            map[string][]byte
	count, size, bytes int64
}

func (b *bulk) set(k, v []byte) error {
	count, size, bytes := measure([]change{{k, v}})
	if b.count+count > b.db.MaxBatchCount()*9/10 || b.size+size > b.db.MaxBatchSize()*9/10 || b.bytes+bytes > maxBatchBytes {
		if err := b.flush(); err != nil {
			return err
		}
	}
	if b.records == nil {
		b.records = map[string][]byte{}
	}
	b.records[string(k)] = v
	b.count, b.size, b.bytes = b.count+count, b.size+size, b.bytes+bytes
	return nil
}

func (b *bulk) flush() error {
	b.disk.measure(b.db)
	if b.disk.check(0) == roomToEnd {
		return ErrDiskFull
	}
	err := b.db.Update(func(txn *badger.Txn) error {
		for k, v := range b.records {
			if err := txn.Set([]byte(k), v); err != nil {
				return err
			}
		}
		return nil
	})
	*b = bulk{db: b.db, disk: b.disk}
	return err
}

// renew makes what was restored a store of its own. Records that do not fit together are
// logged, and no reason to refuse: there may be no better backup.
func renew(ctx context.Context, dir string, o Options) (err error) {
	s, err := Open(dir, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.generation == 0 {
		return fmt.Errorf("%w: it has no generation", ErrBackup)
	}
	problems := 0
	err = s.Verify(ctx, func(p string) {
		if problems++; problems <= 20 {
			s.log.Warn("restore: the backup is not consistent", "problem", p)
		}
	})
	if err != nil {
		return err
	}
	return s.update(ctx, func(t *tx) error {
		generation, err := drawGeneration(o.withDefaults().Random, s.generation)
		if err != nil {
			return err
		}
		t.set(keyGeneration, be64(generation))
		t.set(keyStamp, be64(max(s.stamps.last, uint64(max(s.now().Add(stampSlack).UnixNano(), 0)))))
		return t.scan([]byte{kindToken}, nil, true, func(k, v []byte) (bool, error) {
			tk, err := parseToken(k, v)
			if err == nil && tk.uses > 0 {
				tk.uses = 0
				t.set(append([]byte(nil), k...), tk.bytes())
			}
			return true, err
		})
	})
}

// drawGeneration returns a random number that is neither 0 nor old.
func drawGeneration(random io.Reader, old uint64) (uint64, error) {
	var g [8]byte
	for {
		if _, err := io.ReadFull(random, g[:]); err != nil {
			return 0, fmt.Errorf("draw the generation: %w", err)
		}
		if n := binary.BigEndian.Uint64(g[:]); n != 0 && n != old {
			return n, nil
		}
	}
}
