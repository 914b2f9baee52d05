package account

import (
	"context"
	"database/sql"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
)

// watched are the envelopes of mail and of receipts on their way, and how many members
// hold each, as one node says.
type watched struct {
	of    map[envelope.ID]carried         // what an envelope belongs to
	parts map[carried]map[envelope.ID]int // holders of its envelopes; below 0: not told yet
	held  map[carried]int                 // what was said last; below 0: nothing yet
}

// carried is a mail, or an envelope of receipts, by its row.
type carried struct {
	receipt bool
	n       int64
}

// watchList returns the envelopes of all that a node accepted and nobody answered yet.
func (a *Account) watchList(ctx context.Context, node noise.PublicKey) (*watched, []envelope.ID, error) {
	w := &watched{make(map[envelope.ID]carried), make(map[carried]map[envelope.ID]int), make(map[carried]int)}
	var ids []envelope.ID
	add := func(c carried, id envelope.ID, held int) {
		if w.parts[c] == nil {
			w.parts[c] = make(map[envelope.ID]int)
		}
		w.of[id], w.parts[c][id], w.held[c] = c, -1, held
		ids = append(ids, id)
	}
	err := each(ctx, a.db, `SELECT o.n, coalesce(c.held, -1), p.id FROM outgoing o JOIN outparts p ON p.outgoing = o.n
		LEFT JOIN custody c ON c.outgoing = o.n AND c.node = ?
		WHERE o.state IN (?, ?) ORDER BY o.n DESC, p.idx`, []any{node[:], Accepted, Held}, func(rows *sql.Rows) error {
		var n int64
		var held int
		var id envelope.ID
		err := rows.Scan(&n, &held, into{id[:]})
		add(carried{n: n}, id, held)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	err = each(ctx, a.db, "SELECT n, id FROM batches WHERE accepted > 0 ORDER BY n DESC", nil, func(rows *sql.Rows) error {
		var n int64
		var id envelope.ID
		err := rows.Scan(&n, into{id[:]})
		add(carried{true, n}, id, -1)
		return err
	})
	return w, ids[:min(len(ids), maxWatched)], err
}

// count takes in how many members hold an envelope. If by that the number of those
// that hold all of what it belongs to is known and another than before, it returns that.
func (w *watched) count(id envelope.ID, holders int) (c custodyChange, changed bool) {
	what, ok := w.of[id]
	if !ok {
		return c, false
	}
	w.parts[what][id] = holders
	held := holders
	for _, n := range w.parts[what] {
		if held = min(held, n); n < 0 {
			return c, false
		}
	}
	if held == w.held[what] {
		return c, false
	}
	w.held[what] = held
	return custodyChange{what, id, held}, true
}

const (
	// maxWatched is how many envelopes are watched at a time: those of the newest mail.
	maxWatched = 1 << 15
	// custodyBatch is how many changes are written in one transaction.
	custodyBatch = 256
)

// custodyChange is how many members hold all of something, as a node says now.
type custodyChange struct {
	carried
	id   envelope.ID // of one of its envelopes: it may be sealed anew meanwhile
	held int
}

// watchCustody asks the node how many members hold what is on its way, and with follow
// stays with every change until ctx ends.
func (s *session) watchCustody(ctx context.Context, w *watched, ids []envelope.ID, follow bool) error {
	if len(ids) == 0 {
		return nil
	}
	changes := make(chan custodyChange, custodyBatch)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(changes)
		return s.c.WatchCustody(ctx, ids, follow, func(id envelope.ID, holders int) error {
			c, changed := w.count(id, holders)
			if !changed {
				return nil
			}
			select {
			case changes <- c:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	g.Go(func() error { return s.noteCustody(ctx, changes) })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("watch custody: %w", err)
	}
	return nil
}

// noteCustody writes what was said, as much in one transaction as is there.
func (s *session) noteCustody(ctx context.Context, changes <-chan custodyChange) error {
	for c := range changes {
		if s.x.o.Follow { // of one mail it is said for each of the members
			if err := pause(ctx, company); err != nil {
				return err
			}
		}
		batch := gatherCustody(c, changes)
		err := s.a.write(ctx, func(tx *sql.Tx) error {
			for _, c := range batch {
				if err := s.a.setHeld(ctx, tx, s.node.Key, c); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// gatherCustody returns first and what else is there, of each mail what was said last.
func gatherCustody(first custodyChange, changes <-chan custodyChange) (batch []custodyChange) {
	at := make(map[carried]int)
	for c, more := first, true; more; {
		if i, ok := at[c.carried]; ok {
			batch[i] = c
		} else {
			at[c.carried] = len(batch)
			batch = append(batch, c)
		}
		if len(batch) == custodyBatch {
			return batch
		}
		select {
		case c, more = <-changes:
		default:
			more = false
		}
	}
	return batch
}

// setHeld keeps what a node says about a mail; receipts are done with once another
// member has them. Nodes may name the same members, so the largest number counts. What is
// said of envelopes that are not on their way any more says nothing; the row of receipts
// may be that of others by now.
func (a *Account) setHeld(ctx context.Context, tx *sql.Tx, node noise.PublicKey, c custodyChange) error {
	if c.receipt {
		if c.held == 0 {
			return nil
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM batches WHERE n = ? AND id = ?", c.n, c.id[:]); err != nil {
			return err
		}
		return a.bumpWatched(ctx, tx)
	}
	r, err := tx.ExecContext(ctx, `INSERT INTO custody SELECT outgoing, ?, ? FROM outparts WHERE outgoing = ? AND id = ?
		ON CONFLICT (outgoing, node) DO UPDATE SET held = excluded.held`, node[:], c.held, c.n, c.id[:])
	if err != nil {
		return fmt.Errorf("custody of a mail: %w", err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return a.recount(ctx, tx, c.n, "a member no longer has it")
}

// heldByNone is why a mail that was held is not any more.
const heldByNone = "no other member is known to have it any more; it is handed on again"

// recount makes the number of holders what the nodes say; fewer says why there may be
// fewer. The state stays.
func (a *Account) recount(ctx context.Context, tx *sql.Tx, out int64, fewer string) error {
	var held int
	if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(held), 0) FROM custody WHERE outgoing = ?", out).Scan(&held); err != nil {
		return fmt.Errorf("custody of a mail: %w", err)
	}
	s, had, err := stateOf(ctx, tx, out)
	if err != nil || s.Final() || held == had && s != Accepted {
		return err
	}
	reason, note := "", "stored by other members of the mesh"
	if held < had {
		note = fmt.Sprintf("%s; %d hold it", fewer, held)
	}
	if held == 0 {
		reason, note = heldByNone, fewer+"; none holds it"
	}
	switch {
	case s == Accepted && held == 0, s == Queued:
		return nil
	case s == Accepted:
		_, err := a.move(ctx, tx, out, s, Held, held, note, 0)
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE outgoing SET held = ?, reason = ? WHERE n = ?", held, reason, out); err != nil {
		return err
	}
	return a.addHeld(ctx, tx, out, s, held, note)
}

// sealedAnew notes that the envelopes of a mail are others now, which nobody holds yet.
func (a *Account) sealedAnew(ctx context.Context, tx *sql.Tx, out int64) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM custody WHERE outgoing = ?", out); err != nil {
		return err
	}
	s, had, err := stateOf(ctx, tx, out)
	if err != nil || s == Queued {
		return err
	}
	if err := a.bumpWatched(ctx, tx); err != nil {
		return err
	}
	const reason = "sealed anew with a later end; the members confirm it again"
	if _, err := tx.ExecContext(ctx, "UPDATE outgoing SET held = 0, reason = CASE WHEN ? > 0 THEN ? ELSE reason END WHERE n = ?", had, reason, out); err != nil {
		return err
	}
	return a.addHeld(ctx, tx, out, s, 0, reason)
}
