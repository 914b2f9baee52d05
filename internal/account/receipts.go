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

// aloneFor is how long the receipts that a node accepted are handed to it again if it is
// alone in its mesh, so that nobody else can confirm them: should its disk be put back to
// a state from before, it gets them once more.
const aloneFor = 24 * time.Hour

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

// unsealed are receipts without an envelope that could be sealed: those to contacts
// whose passport is known.
const unsealed = `FROM receipts r WHERE r.batch IS NULL AND
	(r.peer = ?1 OR EXISTS (SELECT 1 FROM contacts c JOIN passports p ON p.id = c.id WHERE c.id = r.peer))`

// receiptsDue reports whether there are receipts to be handed over now.
func (a *Account) receiptsDue(ctx context.Context) (bool, error) {
	var n int
	err := a.db.QueryRowContext(ctx, "SELECT (SELECT count(*) "+unsealed+") + (SELECT count(*) FROM batches WHERE next NOT BETWEEN ?2 AND ?3)", append([]any{a.idBytes()}, a.later()...)...).Scan(&n)
	return n > 0, err
}

// nextReceipt returns how long it is until receipts are to be handed over.
func (a *Account) nextReceipt(ctx context.Context) (time.Duration, error) {
	var next sql.NullInt64
	err := a.db.QueryRowContext(ctx, "SELECT min(next) FROM batches").Scan(&next)
	if err != nil || !next.Valid {
		return longestWait, err
	}
	return max(0, fromMillis(next.Int64).Sub(a.now())), nil
}

func (a *Account) idBytes() []byte {
	id := a.ID()
	return id[:]
}

// queueReceipt notes that a mail is to be answered. If an answer is on its way already it
// stays; one that a node had is sealed once more, since it seems to be lost.
func (a *Account) queueReceipt(ctx context.Context, tx *sql.Tx, to passport.ID, id envelope.MailID, hash envelope.BodyHash, code uint8) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO receipts (peer, mail_id, body_hash, code, created) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (peer, mail_id, body_hash, code) DO UPDATE SET batch = NULL, created = excluded.created
		WHERE EXISTS (SELECT 1 FROM batches b WHERE b.n = receipts.batch AND b.accepted > 0)`, to[:], id[:], hash[:], code, millis(a.now()))
	return err
}

// sendReceipts seals the receipts that wait, those to one contact together, and hands
// them to the node. They stay, and are handed over again by the plan of mail, until
// another member of the mesh has them or their envelope ends. It returns those that
// the node did not take.
func (s *session) sendReceipts(ctx context.Context, sel selection) (left []int64, err error) {
	if due, err := s.a.receiptsDue(ctx); err != nil || !due && len(sel.also) == 0 {
		return nil, err
	}
	unlock, err := s.a.lockOutbox(ctx, false)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.a.sealReceipts(ctx); err != nil {
		return nil, fmt.Errorf("receipts: %w", err)
	}
	for also := sel.also; ; also = nil {
		batches, err := s.a.dueBatches(ctx, also)
		if err != nil || len(batches) == 0 {
			return left, err
		}
		ids := make([]envelope.ID, 0, len(batches))
		for id := range batches {
			ids = append(ids, id)
		}
		refusals, err := s.submit(ctx, s.c.Submit, ids, func(id envelope.ID) ([]byte, error) { return batches[id].envelope, nil })
		if err != nil {
			return left, fmt.Errorf("hand receipts to the node: %w", err)
		}
		refused := make(map[envelope.ID]clientapi.Refusal)
		for _, r := range refusals {
			s.a.log.Warn("the node did not take a receipt", "error", r.Err())
			refused[r.ID], left = r, append(left, batches[r.ID].n)
		}
		if err := s.markReceipts(ctx, batches, refused); err != nil {
			return left, err
		}
	}
}

// receiptBatch is a sealed envelope of receipts.
type receiptBatch struct {
	n        int64
	envelope []byte
	accepted int64
	tries    int
}

// dueBatches returns some that are due, or of those named.
func (a *Account) dueBatches(ctx context.Context, also []int64) (map[envelope.ID]receiptBatch, error) {
	named := make(map[int64]bool)
	for _, n := range also {
		named[n] = true
	}
	batches := make(map[envelope.ID]receiptBatch)
	return batches, each(ctx, a.db, "SELECT n, id, envelope, accepted, tries FROM batches WHERE next NOT BETWEEN ? AND ? OR ? ORDER BY next, n", append(a.later(), len(also) > 0), func(rows *sql.Rows) error {
		var id envelope.ID
		var b receiptBatch
		if err := rows.Scan(&b.n, into{id[:]}, &b.envelope, &b.accepted, &b.tries); err != nil {
			return err
		}
		if len(batches) < submitBatch && (len(also) == 0 || named[b.n]) {
			batches[id] = b
		}
		return nil
	})
}

// markReceipts keeps what the node said, and when each is due again.
func (s *session) markReceipts(ctx context.Context, batches map[envelope.ID]receiptBatch, refused map[envelope.ID]clientapi.Refusal) error {
	now := s.a.now()
	return s.a.write(ctx, func(tx *sql.Tx) error {
		for id, b := range batches {
			query, args := "UPDATE batches SET tries = tries + 1, next = ?1, accepted = CASE accepted WHEN 0 THEN ?2 ELSE accepted END WHERE n = ?3",
				[]any{millis(now.Add(jitter(retryAfter(b.tries)))), millis(now), b.n}
			r, isRefused := refused[id]
			switch {
			case isRefused && (r.Reason == clientapi.ReasonEnded || r.Reason == clientapi.ReasonTooFar): // sealed anew when it is due
				query = "UPDATE batches SET tries = tries + 1, next = ?1, sealed_for = x'' WHERE n = ?3"
			case isRefused:
				query = "UPDATE batches SET tries = tries + 1, next = ?1 WHERE n = ?3"
			case s.status.Members <= 1 && b.accepted > 0 && now.Sub(fromMillis(b.accepted)) > aloneFor:
				query, args = "DELETE FROM batches WHERE n = ?", []any{b.n}
			}
			if _, err := tx.ExecContext(ctx, query, args...); err != nil {
				return fmt.Errorf("receipts: %w", err)
			}
		}
		return s.a.bumpWatched(ctx, tx)
	})
}

// openBatches takes apart the envelopes that are due and do not fit any more: sealed with
// keys that were replaced, or about to end.
func (a *Account) openBatches(ctx context.Context, own *passport.Passport, peers map[passport.ID]*peer) error {
	soon := int64(passport.TimeOf(a.now().Add(resealBefore)))
	var stale []int64
	err := each(ctx, a.db, "SELECT n, peer, sealed_for, expires FROM batches WHERE next NOT BETWEEN ? AND ?", a.later(), func(rows *sql.Rows) error {
		var n, expires int64
		var to passport.ID
		var sealed []byte
		if err := rows.Scan(&n, into{to[:]}, &sealed, &expires); err != nil {
			return err
		}
		p := peers[to]
		if p == nil || p.waiting() != "" {
			return nil
		}
		if key := currentKeys(own, p); string(sealed) != string(key) || expires <= soon {
			stale = append(stale, n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var empty int
	const unused = "NOT EXISTS (SELECT 1 FROM receipts r WHERE r.batch = batches.n)" // all sealed once more
	if err := a.db.QueryRowContext(ctx, "SELECT count(*) FROM batches WHERE "+unused).Scan(&empty); err != nil || empty+len(stale) == 0 {
		return err
	}
	return a.write(ctx, func(tx *sql.Tx) error {
		for _, n := range stale {
			if _, err := tx.ExecContext(ctx, "UPDATE receipts SET batch = NULL WHERE batch = ?", n); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM batches WHERE "+unused); err != nil {
			return err
		}
		return a.bumpWatched(ctx, tx)
	})
}

// currentKeys is the key of the pair that mail to p is sealed with now.
func currentKeys(own *passport.Passport, p *peer) []byte {
	mine, _ := own.Shared()
	theirs, _ := p.pass.Shared()
	return (&pair{own: mine, theirs: theirs}).key()
}

// sealReceipts puts the receipts that are not sealed yet into envelopes.
func (a *Account) sealReceipts(ctx context.Context) error {
	r, err := a.roster(ctx)
	if err != nil {
		return err
	}
	own, peers := r.own, r.peers
	if err := a.openBatches(ctx, own, peers); err != nil {
		return err
	}
	waiting := make(map[passport.ID][]envelope.Receipt)
	rows := make(map[passport.ID][]int64)
	err = each(ctx, a.db, "SELECT r.n, r.peer, r.mail_id, r.body_hash, r.code "+unsealed+" ORDER BY r.n", []any{a.idBytes()}, func(r *sql.Rows) error {
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
	var batches []sealedReceipts
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
			b, err := a.sealReceiptBatch(ctx, own, p, with, list[from:end])
			if err != nil {
				return err
			}
			b.rows = rows[to][from:end]
			batches = append(batches, b)
		}
	}
	if len(batches) == 0 {
		return nil
	}
	return a.write(ctx, func(tx *sql.Tx) error {
		for _, b := range batches {
			if err := b.store(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
}

// sealedReceipts are receipts to one contact in one envelope.
type sealedReceipts struct {
	to   passport.ID
	with []byte // see pair.key
	env  *envelope.Envelope
	rows []int64
}

func (a *Account) sealReceiptBatch(ctx context.Context, own *passport.Passport, p *peer, with *pair, list []envelope.Receipt) (sealedReceipts, error) {
	b := sealedReceipts{to: p.id, with: with.key()}
	id, err := envelope.NewMailID(nil)
	if err != nil {
		return b, err
	}
	parts, err := envelope.Split(envelope.KindReceipt, 0, id, envelope.EncodeReceipts(list), own.Tip(), p.pass.Tip())
	if err != nil || len(parts) != 1 {
		return b, fmt.Errorf("receipts in %d parts: %w", len(parts), err)
	}
	b.env, err = with.sealer.Seal(nil, a.expires(readLimits(ctx, a.db).retention, a.now().Add(defaultLifetime)), parts[0])
	return b, err
}

func (b *sealedReceipts) store(ctx context.Context, tx *sql.Tx) error {
	id := b.env.ID()
	r, err := tx.ExecContext(ctx, "INSERT INTO batches (expires, envelope, id, peer, sealed_for) VALUES (?, ?, ?, ?, ?)", int64(b.env.Expires), b.env.Bytes(), id[:], b.to[:], b.with)
	if err != nil {
		return err
	}
	batch, err := r.LastInsertId()
	if err != nil {
		return err
	}
	for _, n := range b.rows {
		if _, err := tx.ExecContext(ctx, "UPDATE receipts SET batch = ? WHERE n = ?", batch, n); err != nil {
			return err
		}
	}
	return nil
}
