package account

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/passport"
)

// Queue lists mail that is on its way, oldest first: all that is queued, accepted or held.
func (a *Account) Queue(ctx context.Context) ([]Outgoing, error) {
	return a.outgoing(ctx, "o.state IN (?, ?, ?)", Queued, Accepted, Held)
}

// Status returns a sent mail, one entry per recipient, with history.
func (a *Account) Status(ctx context.Context, id MailID) ([]Outgoing, error) {
	out, err := a.outgoing(ctx, "o.mail_id = ?", id[:])
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("sent mail %s: %w", id, ErrNotFound)
	}
	byRecipient := make(map[passport.ID]*Outgoing)
	for i := range out {
		byRecipient[out[i].Passport] = &out[i]
	}
	err = each(ctx, a.db, "SELECT o.recipient, p.id FROM outparts p JOIN outgoing o ON o.n = p.outgoing WHERE o.mail_id = ? ORDER BY p.idx", []any{id[:]}, func(rows *sql.Rows) error {
		var to passport.ID
		var e envelope.ID
		if err := rows.Scan(into{to[:]}, into{e[:]}); err != nil {
			return err
		}
		if o := byRecipient[to]; o != nil {
			o.Envelopes = append(o.Envelopes, e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, each(ctx, a.db, `SELECT o.recipient, h.state, h.held, h.time, h.note FROM history h JOIN outgoing o ON o.n = h.outgoing
		WHERE o.mail_id = ? ORDER BY h.rowid`, []any{id[:]}, func(rows *sql.Rows) error {
		var to passport.ID
		var c Change
		var at int64
		if err := rows.Scan(into{to[:]}, &c.State, &c.Held, &at, &c.Note); err != nil {
			return err
		}
		c.Time = fromMillis(at)
		if o := byRecipient[to]; o != nil {
			o.History = append(o.History, c)
		}
		return nil
	})
}

func (a *Account) outgoing(ctx context.Context, where string, args ...any) ([]Outgoing, error) {
	if err := a.age(ctx, false); err != nil {
		return nil, err
	}
	dir, err := a.directory(ctx, a.db)
	if err != nil {
		return nil, err
	}
	var out []Outgoing
	err = each(ctx, a.db, `SELECT o.mail_id, o.recipient, m.subject, m.size, o.state, o.held, o.since, o.reason, o.created, o.next
		FROM outgoing o JOIN mails m ON m.n = o.mail WHERE `+where+` ORDER BY o.n`, args, func(rows *sql.Rows) error {
		var o Outgoing
		var since, created, next int64
		if err := rows.Scan(into{o.ID[:]}, into{o.Passport[:]}, &o.Subject, &o.Size, &o.State, &o.Held, &since, &o.Reason, &created, &next); err != nil {
			return err
		}
		o.To, o.Since, o.Created = dir.who(o.Passport), fromMillis(since), fromMillis(created)
		if !o.State.Final() && next > 0 {
			o.Next = fromMillis(next)
		}
		out = append(out, o)
		return nil
	})
	return out, err
}

// Retry makes a mail due now.
func (a *Account) Retry(ctx context.Context, id MailID) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, "UPDATE outgoing SET next = 0, tries = 0 WHERE mail_id = ? AND state IN (?, ?, ?)", id[:], Queued, Accepted, Held)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return fmt.Errorf("mail %s on its way: %w", id, ErrNotFound)
		}
		return nil
	})
}

// Cancel stops a mail that the node does not have yet, for every recipient for which
// that is still possible. If it is for none, the error wraps [ErrTooLate].
func (a *Account) Cancel(ctx context.Context, id MailID) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		var all, offered int
		var can []int64
		err := each(ctx, tx, "SELECT n, state, offered FROM outgoing WHERE mail_id = ?", []any{id[:]}, func(rows *sql.Rows) error {
			var n int64
			var s State
			var o bool
			if err := rows.Scan(&n, &s, &o); err != nil {
				return err
			}
			all++
			if s == Queued && !o {
				can = append(can, n)
			} else if s == Queued {
				offered++
			}
			return nil
		})
		switch {
		case err != nil:
			return err
		case all == 0:
			return fmt.Errorf("sent mail %s: %w", id, ErrNotFound)
		case len(can) == 0 && offered > 0:
			return fmt.Errorf("%w: mail %s was handed to the node, which did not confirm it yet", ErrTooLate, id)
		case len(can) == 0:
			return fmt.Errorf("%w: mail %s has left this device", ErrTooLate, id)
		}
		for _, n := range can {
			if _, err := a.advance(ctx, tx, n, Cancelled, "cancelled"); err != nil {
				return err
			}
		}
		return nil
	})
}

// retryAfter returns how long after an attempt the next is due, if no receipt comes.
func retryAfter(tries int) time.Duration {
	steps := [...]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}
	if tries < len(steps) {
		return steps[tries]
	}
	return 6 * time.Hour
}
