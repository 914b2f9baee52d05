package account

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/asmtp/asmtp/envelope"
)

// watched are the envelopes of mail on its way, and how many members hold each.
type watched struct {
	of    map[envelope.ID]int64         // the mail an envelope belongs to
	parts map[int64]map[envelope.ID]int // holders of its envelopes
	held  map[int64]int                 // what was written last
}

// watchList returns the envelopes of all mail that the node accepted and nobody
// answered yet.
func (a *Account) watchList(ctx context.Context) (*watched, []envelope.ID, error) {
	w := &watched{make(map[envelope.ID]int64), make(map[int64]map[envelope.ID]int), make(map[int64]int)}
	var ids []envelope.ID
	err := each(ctx, a.db, "SELECT o.n, o.held, p.id FROM outgoing o JOIN outparts p ON p.outgoing = o.n WHERE o.state IN (?, ?) ORDER BY o.n DESC, p.idx",
		[]any{Accepted, Held}, func(rows *sql.Rows) error {
			var n int64
			var held int
			var id envelope.ID
			if err := rows.Scan(&n, &held, into{id[:]}); err != nil {
				return err
			}
			if w.parts[n] == nil {
				w.parts[n] = make(map[envelope.ID]int)
			}
			w.of[id], w.parts[n][id], w.held[n] = n, 0, held
			ids = append(ids, id)
			return nil
		})
	return w, ids, err
}

// count takes in how many members hold an envelope. If by that a mail is held, all of
// it, by more members than before, it returns the mail.
func (w *watched) count(id envelope.ID, holders int) (out int64, held int, more bool) {
	out, ok := w.of[id]
	if !ok {
		return 0, 0, false
	}
	w.parts[out][id] = max(w.parts[out][id], holders)
	held = holders
	for _, n := range w.parts[out] {
		held = min(held, n)
	}
	if held <= w.held[out] {
		return 0, 0, false
	}
	w.held[out] = held
	return out, held, true
}

// maxWatched is how many envelopes are watched at a time: those of the newest mail.
const maxWatched = 1 << 15

// watchCustody asks how many members hold the mail that is on its way, and with follow
// stays with every change until ctx ends.
func (s *session) watchCustody(ctx context.Context, w *watched, ids []envelope.ID, follow bool) error {
	if len(ids) == 0 {
		return nil
	}
	ids = ids[:min(len(ids), maxWatched)]
	err := s.c.WatchCustody(ctx, ids, follow, func(id envelope.ID, holders int) error {
		if out, held, more := w.count(id, holders); more {
			err := s.a.write(ctx, func(tx *sql.Tx) error {
				_, err := s.a.advance(ctx, tx, out, Held, held, "stored by other members of the mesh")
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("watch custody: %w", err)
	}
	return nil
}
