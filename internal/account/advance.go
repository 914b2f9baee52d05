package account

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/asmtp/asmtp/noise"
)

// maxHistory bounds the history of a mail: beyond it only changes of the state are noted,
// and not that a member of the mesh now has it and now has it not.
const maxHistory = 200

// advance moves a mail to the state that was just confirmed, if that is a move forward. What
// was true before of how many hold it stays.
func (a *Account) advance(ctx context.Context, tx *sql.Tx, out int64, to State, note string) (moved bool, err error) {
	was, held, err := stateOf(ctx, tx, out)
	if err != nil {
		return false, err
	}
	return a.move(ctx, tx, out, was, to, held, note, 0)
}

// move is advance for a mail that was in a state, with so many that hold it from now on. If
// it was just handed over, again says when it is due again. It is the only place where a
// state changes.
func (a *Account) move(ctx context.Context, tx *sql.Tx, out int64, was, to State, held int, note string, again int64) (moved bool, err error) {
	next := was.Next(to)
	if next == was {
		return false, nil
	}
	reason := ""
	if next == Refused || next == Unconfirmed || next == Cancelled {
		reason = note
	}
	now := a.now()
	if _, err := tx.ExecContext(ctx, `UPDATE outgoing SET state = ?1, since = ?2, reason = ?3, held = ?4, tries = tries + (?5 > 0),
		next = CASE WHEN ?5 > 0 THEN ?5 ELSE next END WHERE n = ?6`, next, millis(now), reason, held, again, out); err != nil {
		return false, fmt.Errorf("state of a mail: %w", err)
	}
	if next.watched() != was.watched() {
		if err := a.bumpWatched(ctx, tx); err != nil {
			return false, err
		}
	}
	if next.Final() { // nothing is left to be sent; the ids tell which envelopes were. Earlier builds kept them.
		if _, err := tx.ExecContext(ctx, "UPDATE outparts SET envelope = x'' WHERE outgoing = ? AND length(envelope) > 0", out); err != nil {
			return false, err
		}
	}
	return true, addHistory(ctx, tx, out, next, held, now, note)
}

func stateOf(ctx context.Context, q querier, out int64) (s State, held int, err error) {
	err = q.QueryRowContext(ctx, "SELECT state, held FROM outgoing WHERE n = ?", out).Scan(&s, &held)
	if err != nil {
		err = fmt.Errorf("state of a mail: %w", err)
	}
	return s, held, err
}

func addHistory(ctx context.Context, q querier, out int64, s State, held int, at time.Time, note string) error {
	_, err := q.ExecContext(ctx, "INSERT INTO history VALUES (?, ?, ?, ?, ?)", out, s, held, millis(at), note)
	return err
}

// addHeld adds to the history of a mail how many hold it now, unless it is long already.
func (a *Account) addHeld(ctx context.Context, tx *sql.Tx, out int64, s State, held int, note string) error {
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM history WHERE outgoing = ?", out).Scan(&n); err != nil || n >= maxHistory {
		return err
	}
	return addHistory(ctx, tx, out, s, held, a.now(), note)
}

// setReason keeps why a mail is not further, without moving it.
func setReason(ctx context.Context, q querier, out int64, reason string) error {
	_, err := q.ExecContext(ctx, "UPDATE outgoing SET reason = ? WHERE n = ? AND state < ?", reason, out, Unconfirmed)
	return err
}

// limits are the largest mail and how long mail is kept, so that each of the nodes takes it:
// the least of what they said last.
type limits struct {
	mail      int64
	retention time.Duration
}

func readLimits(ctx context.Context, q querier) limits {
	var limit, seconds sql.NullInt64
	err := q.QueryRowContext(ctx, "SELECT min(mail_limit), min(retention) FROM nodes WHERE mail_limit > 0").Scan(&limit, &seconds)
	if err != nil || !limit.Valid || !seconds.Valid {
		return limits{defaultMailLimit, defaultRetention}
	}
	return limits{limit.Int64, time.Duration(seconds.Int64) * time.Second}
}

// receiveLimit is the largest mail that is taken in. To refuse a mail is final, so no node
// can make that happen by naming a limit below the usual one.
func (a *Account) receiveLimit(ctx context.Context, q querier) (int64, error) {
	var limit int64
	err := q.QueryRowContext(ctx, "SELECT coalesce(max(mail_limit), 0) FROM nodes").Scan(&limit)
	return max(limit, a.mailFloor), err
}

// saveLimits keeps what a node said. The roster has the limits, so it changes with them.
func (a *Account) saveLimits(ctx context.Context, tx *sql.Tx, node noise.PublicKey, mail int64, retention time.Duration) error {
	if mail <= 0 || mail > maxMailLimit || retention < 24*time.Hour || retention > 10*365*24*time.Hour {
		return nil // nothing that a charter can say
	}
	_, err := tx.ExecContext(ctx, "UPDATE nodes SET mail_limit = ?, retention = ? WHERE key = ?", mail, int64(retention/time.Second), node[:])
	if err != nil {
		return err
	}
	return a.bumpPeers(ctx, tx)
}
