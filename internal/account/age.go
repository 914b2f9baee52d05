package account

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/asmtp/asmtp/internal/message"
)

// delayNotice is how long after a mail was written the user is told that nothing was
// heard of its delivery.
const delayNotice = 4 * time.Hour

// aging is a mail of which the user is to be told.
type aging struct {
	n        int64
	state    State
	held     int
	offered  bool
	reason   string
	lifetime time.Duration
	end      time.Time
}

// What outgoing.delayed says.
const (
	notTold   = 0
	toldDelay = 1 // the notice of the delay was given
	endUntold = 2 // that of the end is due
	toldEnd   = 3
)

// age ends mail whose lifetime is over and, with notices, tells of that and of mail that
// is delayed. Call it with notices only after mail was taken in or no node could be
// reached, since what waits there may be the receipt.
func (a *Account) age(ctx context.Context, notices bool) error {
	now := millis(a.now())
	ended, err := a.aging(ctx, "lifetime_end <= ?", now)
	if err != nil {
		return err
	}
	var delayed []aging
	untold := 0
	if notices {
		if err := a.db.QueryRowContext(ctx, "SELECT count(*) FROM outgoing WHERE state = ? AND delayed = ?", Unconfirmed, endUntold).Scan(&untold); err != nil {
			return err
		}
		if delayed, err = a.aging(ctx, "delayed = 0 AND created <= ? AND lifetime_end > ?", now-delayNotice.Milliseconds(), now); err != nil {
			return err
		}
	}
	if len(ended)+len(delayed)+untold == 0 {
		return nil
	}
	return a.write(ctx, func(tx *sql.Tx) error {
		for _, m := range ended {
			if err := a.end(ctx, tx, m); err != nil {
				return err
			}
		}
		for _, m := range delayed {
			if err := a.delay(ctx, tx, m); err != nil {
				return err
			}
		}
		if notices {
			if err := a.tellEnds(ctx, tx); err != nil {
				return err
			}
		}
		return dropBodies(ctx, tx)
	})
}

func (a *Account) aging(ctx context.Context, where string, args ...any) (list []aging, err error) {
	args = append(args, Queued, Accepted, Held)
	return list, each(ctx, a.db, "SELECT n, state, held, offered, reason, created, lifetime_end FROM outgoing WHERE "+where+" AND state IN (?, ?, ?)", args, func(rows *sql.Rows) error {
		var m aging
		var created, end int64
		err := rows.Scan(&m.n, &m.state, &m.held, &m.offered, &m.reason, &created, &end)
		m.end, m.lifetime = fromMillis(end), time.Duration(end-created)*time.Millisecond
		list = append(list, m)
		return err
	})
}

// end makes a mail unconfirmed, unless a receipt or another process was faster.
func (a *Account) end(ctx context.Context, tx *sql.Tx, m aging) error {
	note := fmt.Sprintf("no answer within its lifetime of %s; it may have arrived", lifetimeText(m.lifetime))
	if !m.offered {
		note = fmt.Sprintf("it never left this device within its lifetime of %s", lifetimeText(m.lifetime))
		if m.reason != "" {
			note += ": " + m.reason
		}
	}
	moved, err := a.advance(ctx, tx, m.n, Unconfirmed, note)
	if err != nil || !moved {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE outgoing SET delayed = ? WHERE n = ?", endUntold, m.n)
	return err
}

// tellEnds gives the notices of mail that ended and was not answered since.
func (a *Account) tellEnds(ctx context.Context, tx *sql.Tx) error {
	ended := make(map[int64]message.Failure)
	err := each(ctx, tx, "SELECT n, offered, reason FROM outgoing WHERE state = ? AND delayed = ?", []any{Unconfirmed, endUntold}, func(rows *sql.Rows) error {
		var n int64
		f := message.Failure{Action: "failed", Status: "4.4.7"}
		err := rows.Scan(&n, &f.Uncertain, &f.Reason)
		ended[n] = f
		return err
	})
	if err != nil {
		return err
	}
	for n, f := range ended {
		if err := a.notice(ctx, tx, n, f); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE outgoing SET delayed = ? WHERE n = ?", toldEnd, n); err != nil {
			return err
		}
	}
	return nil
}

// delay tells once that a mail is not delivered yet.
func (a *Account) delay(ctx context.Context, tx *sql.Tx, m aging) error {
	r, err := tx.ExecContext(ctx, "UPDATE outgoing SET delayed = ? WHERE n = ? AND delayed = ? AND state IN (?, ?, ?)", toldDelay, m.n, notTold, Queued, Accepted, Held)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return err
	}
	why := m.reason
	if why == "" {
		switch m.state {
		case Queued:
			why = "no node has taken it yet"
		case Accepted:
			why = "it is on the node, and the recipient's device has not answered yet"
		default:
			why = fmt.Sprintf("%d other members of the mesh hold it, and the recipient's device has not answered yet", m.held)
		}
	}
	return a.notice(ctx, tx, m.n, message.Failure{Action: "delayed", Status: "4.4.1", Reason: why, RetryUntil: m.end})
}

// nextAge returns how long it is until a notice is due.
func (a *Account) nextAge(ctx context.Context) (time.Duration, error) {
	var next sql.NullInt64
	err := a.db.QueryRowContext(ctx, "SELECT min(CASE delayed WHEN 0 THEN min(created + ?, lifetime_end) ELSE lifetime_end END) FROM outgoing WHERE state IN (?, ?, ?)",
		delayNotice.Milliseconds(), Queued, Accepted, Held).Scan(&next)
	if err != nil || !next.Valid {
		return longestWait, err
	}
	return max(0, fromMillis(next.Int64).Sub(a.now())), nil
}

// lifetimeText is a duration for people.
func lifetimeText(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == day:
		return "1 day"
	case d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	case d == time.Hour:
		return "1 hour"
	case d%time.Hour == 0:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return d.String()
}
