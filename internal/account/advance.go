package account

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"time"
)

// advance moves a mail to the state that was just confirmed, if that is a move
// forward. It is the only place where a state changes.
func (a *Account) advance(ctx context.Context, tx *sql.Tx, out int64, to State, held int, note string) (moved bool, err error) {
	var was State
	var had int
	if err := tx.QueryRowContext(ctx, "SELECT state, held FROM outgoing WHERE n = ?", out).Scan(&was, &had); err != nil {
		return false, fmt.Errorf("state of a mail: %w", err)
	}
	now := a.now()
	next := was.Next(to)
	if held = max(held, had); next == was && was.Final() {
		return false, nil
	}
	if next == was && held == had {
		return false, nil
	}
	if next == was {
		if _, err := tx.ExecContext(ctx, "UPDATE outgoing SET held = ? WHERE n = ?", held, out); err != nil {
			return false, err
		}
		return false, addHistory(ctx, tx, out, next, held, now, note)
	}
	reason := ""
	if next == Refused || next == Unconfirmed || next == Cancelled {
		reason = note
	}
	if _, err := tx.ExecContext(ctx, "UPDATE outgoing SET state = ?, since = ?, held = ?, reason = ? WHERE n = ?", next, millis(now), held, reason, out); err != nil {
		return false, fmt.Errorf("state of a mail: %w", err)
	}
	if next.Final() { // nothing is left to be sent
		if _, err := tx.ExecContext(ctx, "DELETE FROM outparts WHERE outgoing = ?", out); err != nil {
			return false, err
		}
	}
	return true, addHistory(ctx, tx, out, next, held, now, note)
}

func addHistory(ctx context.Context, q querier, out int64, s State, held int, at time.Time, note string) error {
	_, err := q.ExecContext(ctx, "INSERT INTO history VALUES (?, ?, ?, ?, ?)", out, s, held, millis(at), note)
	return err
}

// setReason keeps why a mail is not further, without moving it.
func setReason(ctx context.Context, q querier, out int64, reason string) error {
	_, err := q.ExecContext(ctx, "UPDATE outgoing SET reason = ? WHERE n = ? AND state < ?", reason, out, Unconfirmed)
	return err
}

func readLimits(ctx context.Context, q querier) (mail int64, retention time.Duration) {
	b, err := getMeta(ctx, q, metaLimits)
	if err != nil || len(b) != 16 {
		return defaultMailLimit, defaultRetention
	}
	return int64(binary.BigEndian.Uint64(b)), time.Duration(binary.BigEndian.Uint64(b[8:])) * time.Second
}

func saveLimits(ctx context.Context, q querier, mail int64, retention time.Duration) error {
	if mail <= 0 || retention < 24*time.Hour || retention > 10*365*24*time.Hour {
		return nil // nothing that a charter can say
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(mail))
	return setMeta(ctx, q, metaLimits, binary.BigEndian.AppendUint64(b, uint64(retention/time.Second)))
}
