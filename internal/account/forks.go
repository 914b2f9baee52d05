package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/passport"
)

// mergeForeign is mergePassport for what a node says: a fork is kept out, as proof.
func (a *Account) mergeForeign(ctx context.Context, tx *sql.Tx, c clientapi.PassportChange) error {
	err := a.mergePassport(ctx, tx, c.Passport)
	fork, ok := errors.AsType[*passport.ForkError](err)
	if !ok {
		return err
	}
	a.log.Warn("two chains of one passport; the one seen first stays", "id", c.ID, "error", fork)
	if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO forks VALUES (?, ?, ?)", c.ID[:], c.Passport.Export(), millis(a.now())); err != nil {
		return fmt.Errorf("keep a fork: %w", err)
	}
	return nil
}

// forked returns the names of those of whom two chains are known, the user's own first.
// Forks of strangers concern nobody here.
func (a *Account) forked(ctx context.Context) (names []string, err error) {
	me := a.ID()
	return names, each(ctx, a.db, `SELECT f.id, coalesce(c.name, '') FROM forks f LEFT JOIN contacts c ON c.id = f.id
		WHERE c.id IS NOT NULL OR f.id = ?1 ORDER BY f.id = ?1 DESC, c.name`, []any{me[:]}, func(rows *sql.Rows) error {
		var id passport.ID
		var name string
		if err := rows.Scan(into{id[:]}, &name); err != nil {
			return err
		}
		if id == me {
			name = a.name
		}
		names = append(names, name)
		return nil
	})
}
