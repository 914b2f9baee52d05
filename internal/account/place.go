package account

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/asmtp/asmtp/noise"
)

// place is where this device stands in the mailbox of a node.
type place struct {
	generation uint64
	number     uint64 // all up to it was read of the largest size class,
	small      uint64 // and of the others
	held       []byte // as kept by holdBack; nil if nothing waits
}

// heldKey is the key in the table meta of what is held back at a node: the generation and
// the number of the first delivery that was not taken in, since too many mails of its
// sender were incomplete. It is not acknowledged, and read again later.
func heldKey(node noise.PublicKey) string { return "held back " + node.String() }

// place returns from where a mailbox is to be read: up to there all is taken in.
func (a *Account) place(ctx context.Context, n Node) (place, error) {
	var p place
	var gen []byte
	var at, small int64
	err := a.db.QueryRowContext(ctx, "SELECT generation, number, small FROM nodes WHERE key = ?", n.Key[:]).Scan(&gen, &at, &small)
	if errors.Is(err, sql.ErrNoRows) || err == nil && len(gen) != 8 {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	p.generation, p.number, p.small = binary.BigEndian.Uint64(gen), uint64(at), uint64(small)
	if p.held, err = getMeta(ctx, a.db, heldKey(n.Key)); err != nil {
		return p, err
	}
	if len(p.held) != 16 {
		p.held = nil
	} else if bytes.HasPrefix(p.held, gen) {
		first := binary.BigEndian.Uint64(p.held[8:])
		p.number, p.small = min(p.number, first-1), min(p.small, first-1)
	}
	return p, nil
}

// moveTo notes up to which numbers a mailbox was read. It never moves back in a generation.
func moveTo(ctx context.Context, tx *sql.Tx, node noise.PublicKey, generation, large, small uint64) error {
	gen := binary.BigEndian.AppendUint64(nil, generation)
	_, err := tx.ExecContext(ctx, `UPDATE nodes SET number = CASE WHEN generation = ?1 THEN max(number, ?2) ELSE ?2 END,
		small = CASE WHEN generation = ?1 THEN max(small, ?3) ELSE ?3 END, generation = ?1 WHERE key = ?4`, gen, int64(large), int64(small), node[:])
	return err
}

// holdBack notes the first of the deliveries that were not taken in.
func (a *Account) holdBack(ctx context.Context, tx *sql.Tx, node noise.PublicKey, gen []byte, numbers []uint64) error {
	if len(numbers) == 0 {
		return nil
	}
	held := binary.BigEndian.AppendUint64(slices.Clone(gen), slices.Min(numbers))
	was, err := getMeta(ctx, tx, heldKey(node))
	if err != nil || bytes.HasPrefix(was, gen) && bytes.Compare(was, held) <= 0 {
		return err
	}
	return setMeta(ctx, tx, heldKey(node), held)
}

// waiting is what one pass through a mailbox held back.
type waiting struct {
	from      []byte // what was held back when it began
	again     bool   // it may end to begin anew
	completed int64  // mails that were complete then
	caughtUp  bool
	first     uint64 // number of the first that was held back in this pass; 0 for none

	acked []uint64 // acknowledged, but not noted as such yet
}

func (w *waiting) held(numbers []uint64) {
	for _, n := range numbers {
		if w.first == 0 || n < w.first {
			w.first = n
		}
	}
}

// errAgain says that there may be room now for what was held back.
var errAgain = errors.New("read the mailbox again")

// worthAgain reports whether there may be room for what was held back: a mail became
// complete.
func (w *waiting) worthAgain(a *Account) bool {
	return w.again && w.caughtUp && w.first > 0 && a.completed.Load() > w.completed
}

// caughtUp notes that the pass read all that was held back before; if another process held
// back more meanwhile, that stands.
func (a *Account) caughtUp(ctx context.Context, tx *sql.Tx, node noise.PublicKey, w *waiting) error {
	if w.from == nil {
		return nil
	}
	was, err := getMeta(ctx, tx, heldKey(node))
	if err != nil || !bytes.Equal(was, w.from) {
		return err
	}
	if w.first > 0 {
		return setMeta(ctx, tx, heldKey(node), binary.BigEndian.AppendUint64(slices.Clone(was[:8]), w.first))
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM meta WHERE key = ?", heldKey(node))
	return err
}
