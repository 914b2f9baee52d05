package account

import (
	"context"
	"database/sql"
)

// maxKept is how many parts that need a newer program are kept.
const maxKept = 4096

// keep puts a part aside that this program does not know. The oldest give way.
func (a *Account) keep(ctx context.Context, tx *sql.Tx, r *opened) error {
	id := r.env.ID()
	if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO kept VALUES (?, ?, ?, ?)", id[:], r.from.id[:], r.env.Bytes(), millis(a.now())); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM kept WHERE id IN (SELECT id FROM kept ORDER BY received DESC LIMIT -1 OFFSET ?)", maxKept)
	return err
}

// openKept takes in what an older program could not read and this one can.
func (a *Account) openKept(ctx context.Context) ([]Summary, error) {
	var list []delivery
	err := each(ctx, a.db, "SELECT envelope FROM kept", nil, func(rows *sql.Rows) error {
		var d delivery
		err := rows.Scan(&d.envelope)
		list = append(list, d)
		return err
	})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	o, err := a.newOpener(ctx)
	if err != nil {
		return nil, err
	}
	var known []*opened
	for _, d := range list {
		if r := o.open(d); r != nil && !r.newer {
			known = append(known, r)
		}
	}
	if len(known) == 0 {
		return nil, nil
	}
	var t taken
	err = a.write(ctx, func(tx *sql.Tx) error {
		t = taken{}
		for _, r := range known {
			held := len(t.held)
			if err := a.takePart(ctx, tx, o, r, &t); err != nil {
				return err
			}
			if len(t.held) > held {
				continue // it stays
			}
			id := r.env.ID()
			if _, err := tx.ExecContext(ctx, "DELETE FROM kept WHERE id = ?", id[:]); err != nil {
				return err
			}
		}
		return nil
	})
	return t.mails, err
}

// receiptsFor is how long an answer is kept that cannot be given: as long as any mail is
// tried.
const receiptsFor = MaxLifetime

// forgetStaged removes the large messages that never became mails, since the program
// ended while they were sent or filed.
func (a *Account) forgetStaged(ctx context.Context) error {
	var list []int64
	err := each(ctx, a.db, "SELECT n FROM mails WHERE folder IN (?, ?) AND id IS NULL AND received < ?",
		[]any{sent, filed, millis(a.now().Add(-staleAfter))}, func(rows *sql.Rows) error {
			var n int64
			err := rows.Scan(&n)
			list = append(list, n)
			return err
		})
	for _, n := range list {
		if err == nil {
			err = a.removeStaged(ctx, n)
		}
	}
	return err
}

// forgetOld removes what is not needed any more. It runs once in a Sync.
func (a *Account) forgetOld(ctx context.Context) error {
	if err := a.forgetStaged(ctx); err != nil {
		return err
	}
	now := a.now()
	for _, s := range []struct {
		table, where string
		arg          int64
	}{
		{"seen", "until < ?", millis(now)},
		{"mails", "folder = 0 AND id IS NULL AND received < ?", millis(now.Add(-seenFor))},
		{"receipts", "created < ?", millis(now.Add(-receiptsFor))},
	} {
		var n int
		if err := a.db.QueryRowContext(ctx, "SELECT count(*) FROM "+s.table+" WHERE "+s.where, s.arg).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		err := a.write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "DELETE FROM "+s.table+" WHERE "+s.where, s.arg)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
