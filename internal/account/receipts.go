package account

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/passport"
)

// defaultReceiptDelay is the longest random wait before a receipt is sent. It takes
// from an observer of both sides the certainty of an answer right after a mail.
const defaultReceiptDelay = 2 * time.Second

// receiptsPerEnvelope is how many receipts fit into an envelope of the smallest class.
var receiptsPerEnvelope = envelope.Capacity(0) / envelope.ReceiptSize

// receiptWait draws how long receipts wait now.
func (a *Account) receiptWait() time.Duration {
	longest := a.o.ReceiptDelay
	if longest == 0 {
		longest = defaultReceiptDelay
	}
	if longest < 0 {
		return 0
	}
	return rand.N(longest + 1)
}

func (a *Account) receiptsWaiting(ctx context.Context) (bool, error) {
	var n int
	err := a.db.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM receipts r WHERE r.batch IS NULL AND (r.peer = ? OR EXISTS (SELECT 1 FROM contacts c JOIN passports p ON p.id = c.id WHERE c.id = r.peer))) + (SELECT count(*) FROM batches)", a.idBytes()).Scan(&n)
	return n > 0, err
}

func (a *Account) idBytes() []byte {
	id := a.ID()
	return id[:]
}

// sendReceipts seals the receipts that wait, those to one contact together, and hands
// them to the node. They are forgotten once the node has them.
func (s *session) sendReceipts(ctx context.Context) error {
	if waiting, err := s.a.receiptsWaiting(ctx); err != nil || !waiting {
		return err
	}
	unlock, err := s.a.lockOutbox(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.a.sealReceipts(ctx); err != nil {
		return fmt.Errorf("receipts: %w", err)
	}
	for {
		batches, err := s.a.receiptBatches(ctx)
		if err != nil || len(batches) == 0 {
			return err
		}
		ids := make([]envelope.ID, 0, len(batches))
		for id := range batches {
			ids = append(ids, id)
		}
		refusals, err := s.c.Submit(ctx, ids, func(id envelope.ID) ([]byte, error) { return batches[id].envelope, nil })
		if err != nil {
			return fmt.Errorf("hand receipts to the node: %w", err)
		}
		full := false
		for _, r := range refusals {
			s.a.log.Warn("the node did not take a receipt", "error", r.Err())
			if r.Reason == clientapi.ReasonFull {
				delete(batches, r.ID) // it stays, for later
				full = true
			}
		}
		if err := s.a.forgetBatches(ctx, batches); err != nil || full {
			return err
		}
	}
}

// receiptBatch is a sealed envelope of receipts.
type receiptBatch struct {
	n        int64
	envelope []byte
}

func (a *Account) forgetBatches(ctx context.Context, batches map[envelope.ID]receiptBatch) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		for _, b := range batches {
			if _, err := tx.ExecContext(ctx, "DELETE FROM batches WHERE n = ?", b.n); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *Account) receiptBatches(ctx context.Context) (map[envelope.ID]receiptBatch, error) {
	batches := make(map[envelope.ID]receiptBatch)
	return batches, each(ctx, a.db, "SELECT n, envelope FROM batches ORDER BY n LIMIT ?", []any{submitBatch}, func(rows *sql.Rows) error {
		var b receiptBatch
		if err := rows.Scan(&b.n, &b.envelope); err != nil {
			return err
		}
		e, err := envelope.Parse(b.envelope)
		if err != nil {
			return fmt.Errorf("stored receipt: %w", err)
		}
		batches[e.ID()] = b
		return nil
	})
}

// sealReceipts puts the receipts that are not sealed yet into envelopes.
func (a *Account) sealReceipts(ctx context.Context) error {
	waiting := make(map[passport.ID][]envelope.Receipt)
	rows := make(map[passport.ID][]int64)
	err := each(ctx, a.db, "SELECT n, peer, mail_id, body_hash, code FROM receipts WHERE batch IS NULL ORDER BY n", nil, func(r *sql.Rows) error {
		var n int64
		var to passport.ID
		var receipt envelope.Receipt
		if err := r.Scan(&n, into{to[:]}, into{receipt.MailID[:]}, into{receipt.BodyHash[:]}, &receipt.Code); err != nil {
			return err
		}
		waiting[to], rows[to] = append(waiting[to], receipt), append(rows[to], n)
		return nil
	})
	if err != nil || len(waiting) == 0 {
		return err
	}
	own, err := a.self(ctx, a.db)
	if err != nil {
		return err
	}
	peers, err := a.peers(ctx, a.db)
	if err != nil {
		return err
	}
	for to, list := range waiting {
		p := peers[to]
		if p == nil || p.waiting() != "" {
			continue
		}
		with, err := a.outPair(ctx, own, p)
		if err != nil {
			return err
		}
		for from := 0; from < len(list); from += receiptsPerEnvelope {
			end := min(from+receiptsPerEnvelope, len(list))
			if err := a.sealReceiptBatch(ctx, own, p, with, list[from:end], rows[to][from:end]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Account) sealReceiptBatch(ctx context.Context, own *passport.Passport, p *peer, with *pair, list []envelope.Receipt, rows []int64) error {
	id, err := envelope.NewMailID(nil)
	if err != nil {
		return err
	}
	parts, err := envelope.Split(envelope.KindReceipt, 0, id, envelope.EncodeReceipts(list), own.Tip(), p.pass.Tip())
	if err != nil || len(parts) != 1 {
		return fmt.Errorf("receipts in %d parts: %w", len(parts), err)
	}
	expires := a.expires(ctx, a.db, a.now().Add(defaultLifetime))
	e, err := with.sealer.Seal(nil, expires, parts[0])
	if err != nil {
		return err
	}
	return a.write(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, "INSERT INTO batches (expires, envelope) VALUES (?, ?)", int64(expires), e.Bytes())
		if err != nil {
			return err
		}
		batch, err := r.LastInsertId()
		if err != nil {
			return err
		}
		for _, n := range rows {
			if _, err := tx.ExecContext(ctx, "UPDATE receipts SET batch = ? WHERE n = ?", batch, n); err != nil {
				return err
			}
		}
		return nil
	})
}
