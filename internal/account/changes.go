package account

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// metaChange is the key of the counter of changes to folders.
	metaChange = "change"
	// keptExpunged is how many removed places of a folder are remembered, for readers
	// that know an older state.
	keptExpunged = 10000
)

// FolderChanges is what happened in a folder since a reader looked at it.
type FolderChanges struct {
	At      uint64 // to ask from the next time
	Reset   bool   // what the reader knows is worth nothing: Places are all there are
	UIDNext uint32
	// Places are new or have other flags, by ascending UID; Expunged are gone, by
	// ascending UID, and may name places the reader never saw.
	Places   []Place
	Expunged []uint32
}

// FolderChanges returns what changed in a folder since the counter had a value; since 0
// everything. A reader that applies them one after the other has what the folder has,
// whatever processes change it.
func (a *Account) FolderChanges(ctx context.Context, folder int64, since uint64) (FolderChanges, error) {
	var c FolderChanges
	err := a.read(ctx, func(tx *sql.Tx) error {
		var err error
		if c.At, err = changeOf(ctx, tx); err != nil {
			return err
		}
		var forgotten uint64
		err = tx.QueryRowContext(ctx, "SELECT uid_next, forgotten FROM folders WHERE n = ?", folder).Scan(&c.UIDNext, &forgotten)
		if errors.Is(err, sql.ErrNoRows) {
			return folderGone(folder)
		}
		if err != nil {
			return err
		}
		if since > 0 && (since < forgotten || since > c.At) {
			c.Reset, since = true, 0
		}
		if since == c.At {
			return nil
		}
		if c.Places, err = placesSince(ctx, tx, folder, since); err != nil || since == 0 {
			return err
		}
		return each(ctx, tx, "SELECT uid FROM expunged WHERE folder = ? AND changed > ? ORDER BY uid", []any{folder, int64(since)}, func(rows *sql.Rows) error {
			var uid uint32
			err := rows.Scan(&uid)
			c.Expunged = append(c.Expunged, uid)
			return err
		})
	})
	return c, err
}

func placesSince(ctx context.Context, q querier, folder int64, since uint64) ([]Place, error) {
	query, args := "SELECT "+placeColumns+" FROM places p WHERE p.folder = ?", []any{folder}
	if since > 0 {
		query, args = query+" AND p.changed > ?", append(args, int64(since))
	}
	var list []Place
	return list, each(ctx, q, query+" ORDER BY p.uid", args, func(rows *sql.Rows) error {
		var p placeRow
		err := rows.Scan(p.fields()...)
		list = append(list, p.place())
		return err
	})
}

// changeOf returns the counter of changes.
func changeOf(ctx context.Context, q querier) (uint64, error) {
	b, err := getMeta(ctx, q, metaChange)
	if err != nil || len(b) != 8 {
		return 1, err
	}
	return binary.BigEndian.Uint64(b), nil
}

// read runs fn on one state of the database.
func (a *Account) read(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := a.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	defer tx.Rollback()
	return fn(tx)
}

// nextChange raises the counter and returns it: the stamp of what a transaction changes.
// The write lock is held, so that the order of stamps is the order of commits, and a
// reader that saw one sees everything that was stamped before.
func nextChange(ctx context.Context, tx *sql.Tx) (int64, error) {
	n, err := changeOf(ctx, tx)
	if err != nil {
		return 0, err
	}
	n++
	return int64(n), setMeta(ctx, tx, metaChange, binary.BigEndian.AppendUint64(nil, n))
}

// stamp is nextChange, once for all that one write changes: readers see all of it or nothing.
func (a *Account) stamp(ctx context.Context, tx *sql.Tx) (int64, error) {
	if a.stamped > 0 {
		return a.stamped, nil
	}
	n, err := nextChange(ctx, tx)
	a.stamped = n
	return n, err
}

// forgetExpunged keeps the list of removed places of a folder within bounds.
func forgetExpunged(ctx context.Context, tx *sql.Tx, folder int64) error {
	var newest sql.NullInt64
	err := tx.QueryRowContext(ctx, "SELECT changed FROM expunged WHERE folder = ? ORDER BY changed DESC, uid DESC LIMIT 1 OFFSET ?", folder, keptExpunged).Scan(&newest)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM expunged WHERE folder = ? AND changed <= ?", folder, newest.Int64); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE folders SET forgotten = ? WHERE n = ?", newest.Int64, folder)
	return err
}
