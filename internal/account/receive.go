package account

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/fault"
	"github.com/asmtp/asmtp/internal/message"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

const (
	// maxIncomplete is how many mails of one sender may be incomplete at a time.
	maxIncomplete = 16
	// staleAfter is how long after its last part an incomplete mail may have to give way.
	staleAfter = 24 * time.Hour
	// seenFor is how long after the end of its last envelope a mail is still known, so
	// that it is not shown again. No node keeps an envelope that long.
	seenFor = 60 * 24 * time.Hour
	// maxReceiptBody bounds the body of a mail of receipts once it is decompressed.
	maxReceiptBody = 64 << 10
)

// delivery is an envelope of the node's mailbox. See early.go for those that come before the
// node has stored them.
type delivery struct {
	number   uint64
	handle   envelope.Handle
	envelope []byte
	id       envelope.ID // of what is early or comes again
}

// opened is a part that a contact sealed, or what kept it from being opened.
type opened struct {
	from    *peer
	certain bool
	with    *pair
	part    *envelope.Part
	env     *envelope.Envelope
	newer   bool   // keep it for a newer program
	number  uint64 // in the node's mailbox
}

// opener opens envelopes with the pairs of all peers.
type opener struct {
	*roster
	a        *Account
	pairs    []*pair
	byHandle map[envelope.Handle]*pair
}

// newOpener loads all that is needed to open mail.
func (a *Account) newOpener(ctx context.Context) (*opener, error) {
	r, err := a.roster(ctx)
	if err != nil {
		return nil, err
	}
	o := &opener{a: a, roster: r, byHandle: make(map[envelope.Handle]*pair)}
	if o.pairs, err = a.pairs(ctx, r.own, r.peers); err != nil {
		return nil, err
	}
	byKey := make(map[pairKey]*pair)
	for _, p := range o.pairs {
		byKey[pairKey{p.peer, p.own, p.theirs}] = p
	}
	return o, each(ctx, a.db, "SELECT handle, peer, own_key, peer_key FROM tagkeys WHERE gone = 0", nil, func(rows *sql.Rows) error {
		var h envelope.Handle
		var k pairKey
		if err := rows.Scan(into{h[:]}, into{k.peer[:]}, into{k.own[:]}, into{k.theirs[:]}); err != nil {
			return err
		}
		if p := byKey[k]; p != nil {
			o.byHandle[h] = p
		}
		return nil
	})
}

// current returns o, or a new one if what it was made of has changed since.
func (o *opener) current(ctx context.Context) (*opener, error) {
	version, err := getMeta(ctx, o.a.db, metaPeers)
	if err != nil || bytes.Equal(version, o.version) {
		return o, err
	}
	return o.a.newOpener(ctx)
}

// open opens an envelope. nil means that nobody here can: it is dropped.
func (o *opener) open(d delivery) *opened {
	e, err := envelope.Parse(d.envelope)
	if err != nil {
		o.a.log.Warn("the node delivered what is no envelope", "error", err)
		return nil
	}
	p := o.byHandle[d.handle]
	if p == nil {
		p = o.byTag(e) // another device's handle, or one from before
	}
	if p == nil {
		o.a.log.Info("no contact made this envelope", "id", e.ID().Short())
		return nil
	}
	part, err := p.sealer.Open(e, p.in)
	r := &opened{from: o.peers[p.peer], certain: !p.tainted, with: p, part: part, env: e, number: d.number}
	switch {
	case errors.Is(err, envelope.ErrNewer):
		r.newer = true
	case err != nil:
		o.a.log.Warn("envelope does not open", "id", e.ID().Short(), "error", err)
		return nil
	case part.Kind == envelope.KindContactRequest || part.Kind == envelope.KindOwnState:
		r.newer = true
	}
	return r
}

func (o *opener) byTag(e *envelope.Envelope) *pair {
	for _, p := range o.pairs {
		if p.in.TagKey(e.Epoch()).Tag(e.SealHash()) == e.Tag {
			return p
		}
	}
	return nil
}

// taken is what came of a batch of deliveries.
type taken struct {
	mails        []Summary
	whole        []*arrival // large mails of which every part is here now, to be completed
	parts        map[int64]partial
	held         []uint64 // deliveries for which there is no room now, see holdBack
	heldEarly    bool     // so it is for one that was early
	limit        int64    // of one mail; 0: not read yet
	fetchChains  bool     // somebody sealed with a passport newer than the known one
	publishChain bool     // somebody does not know the own passport's newest block
}

// partial is how much of a mail of several parts is here.
type partial struct{ done, all int64 }

func (t *taken) progress(mail, total int64, have, count int) {
	if count == 1 {
		return
	}
	if t.parts == nil {
		t.parts = make(map[int64]partial)
	}
	t.parts[mail] = partial{total * int64(have) / int64(count), total}
}

// take stores a batch of deliveries in one transaction, with the numbers that may then
// be acknowledged and the place in the mailbox. acked are numbers that were.
func (a *Account) take(ctx context.Context, o *opener, node noise.PublicKey, generation uint64, batch []delivery, acked []uint64) (taken, error) {
	var t taken
	var list []*opened
	for _, d := range batch {
		if d.again() {
			continue
		}
		r := o.open(d)
		if r == nil { // perhaps of somebody who has just become a contact
			now, err := o.current(ctx)
			if err != nil {
				return t, fmt.Errorf("take in mail: %w", err)
			}
			if now != o {
				o = now
				r = o.open(d)
			}
		}
		if r != nil {
			list = append(list, r)
		}
	}
	err := a.write(ctx, func(tx *sql.Tx) error {
		t = taken{}
		for _, r := range list {
			if err := a.takePart(ctx, tx, o, r, &t); err != nil {
				return err
			}
		}
		gen := binary.BigEndian.AppendUint64(nil, generation)
		for _, d := range batch {
			if d.early() || slices.Contains(t.held, d.number) {
				continue
			}
			if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO acks VALUES (?, ?, ?)", node[:], gen, int64(d.number)); err != nil {
				return err
			}
		}
		if err := a.holdBack(ctx, tx, node, gen, t.held); err != nil {
			return err
		}
		if err := forgetAcks(ctx, tx, node, gen, acked); err != nil {
			return err
		}
		var large, small uint64
		for _, d := range batch {
			if largestClass(d.envelope) {
				large = max(large, d.number)
			} else {
				small = max(small, d.number)
			}
		}
		if large == 0 && small == 0 {
			return nil
		}
		return moveTo(ctx, tx, node, generation, large, small)
	})
	if err != nil {
		return taken{}, fmt.Errorf("take in mail: %w", err)
	}
	return t, nil
}

func (a *Account) takePart(ctx context.Context, tx *sql.Tx, o *opener, r *opened, t *taken) error {
	if r.newer {
		return a.keep(ctx, tx, r)
	}
	if !r.from.self {
		t.fetchChains = t.fetchChains || !r.from.pass.Contains(r.part.SenderTip)
		t.publishChain = t.publishChain || r.part.RecipientTip != o.own.Tip() && o.own.Contains(r.part.RecipientTip)
	}
	switch r.part.Kind {
	case envelope.KindReceipt:
		return a.takeReceipts(ctx, tx, r)
	case envelope.KindMail:
		s, err := a.takeMail(ctx, tx, o, r, t)
		if s != nil {
			t.mails = append(t.mails, *s)
		}
		return err
	}
	return nil // cover
}

// takeReceipts moves on the mails that a recipient's device answered for. What is wrong
// in them is dropped: nothing follows from it.
func (a *Account) takeReceipts(ctx context.Context, tx *sql.Tx, r *opened) error {
	p := r.part
	if !r.certain || p.Count != 1 || envelope.HashBody(p.Body) != p.BodyHash {
		a.log.Warn("receipt dropped", "from", r.from.name, "certain", r.certain, "parts", p.Count)
		return nil
	}
	body := p.Body
	if p.Flags&envelope.FlagCompressed != 0 {
		var err error
		if body, err = envelope.Decompress(body, maxReceiptBody); err != nil {
			a.log.Warn("receipt dropped", "from", r.from.name, "error", err)
			return nil
		}
	}
	list, err := envelope.ParseReceipts(body)
	if err != nil {
		a.log.Warn("receipt dropped", "from", r.from.name, "error", err)
		return nil
	}
	for _, receipt := range list {
		if err := a.takeReceipt(ctx, tx, r.from, receipt); err != nil {
			return err
		}
	}
	return nil
}

func (a *Account) takeReceipt(ctx context.Context, tx *sql.Tx, from *peer, r envelope.Receipt) error {
	var out int64
	var wanted message.Notify
	err := tx.QueryRowContext(ctx, "SELECT n, notify FROM outgoing WHERE mail_id = ? AND body_hash = ? AND recipient = ?",
		r.MailID[:], r.BodyHash[:], from.id[:]).Scan(&out, &wanted)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // not a mail of ours, or not to them
	}
	if err != nil {
		return err
	}
	switch r.Code {
	case envelope.ReceiptStored:
		if _, err = a.advance(ctx, tx, out, Delivered, "receipt of the recipient's device"); err == nil && wanted&message.NotifySuccess != 0 {
			err = a.tellDelivered(ctx, tx, out)
		}
	case envelope.ReceiptRead: // the receipt of its delivery may have been lost
		if _, err = a.advance(ctx, tx, out, Read, "opened by the recipient"); err == nil && wanted&message.NotifySuccess != 0 {
			err = a.tellDelivered(ctx, tx, out)
		}
	case envelope.ReceiptRefused:
		const why = "the recipient's device does not take it: it is too large or broken"
		var moved bool
		if moved, err = a.advance(ctx, tx, out, Refused, why); moved {
			err = a.notice(ctx, tx, out, message.Failure{Action: "failed", Status: "5.3.4", Reason: why})
		}
	}
	return err
}

// tellDelivered gives, once, the notice of a mail's delivery if it was asked for.
func (a *Account) tellDelivered(ctx context.Context, tx *sql.Tx, out int64) error {
	r, err := tx.ExecContext(ctx, "UPDATE outgoing SET notify = notify - ?1 WHERE n = ?2 AND notify & ?1 AND state IN (?3, ?4)",
		message.NotifySuccess, out, Delivered, Read)
	if err != nil {
		return fmt.Errorf("notice of delivery: %w", err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return a.notice(ctx, tx, out, message.Failure{Action: "delivered", Status: "2.0.0", Reason: "the recipient's device has it on disk"})
}

// takeMail stores a part of a mail and, if it was the last that was missing, the mail.
func (a *Account) takeMail(ctx context.Context, tx *sql.Tx, o *opener, r *opened, t *taken) (*Summary, error) {
	p := r.part
	seen, err := a.takenBefore(ctx, tx, r)
	if err != nil {
		return nil, err
	}
	if seen && fault.DoubleAccept {
		return a.showAgain(ctx, tx, r)
	}
	if seen {
		return nil, nil
	}
	if t.limit == 0 {
		if t.limit, err = a.receiveLimit(ctx, tx); err != nil {
			return nil, err
		}
	}
	limit := t.limit
	if int64(p.Total) > limit {
		return nil, a.refuse(ctx, tx, r.arrival(0))
	}
	mail, have, err := a.partialMail(ctx, tx, r)
	if err == nil && mail == 0 && p.Count == 1 {
		return a.takeWhole(ctx, tx, o.dir, r, limit)
	}
	if err == nil && mail == 0 {
		mail, err = a.beginMail(ctx, tx, r, limit)
	}
	if errors.Is(err, errUnwanted) {
		return nil, nil
	}
	if errors.Is(err, errNoRoom) {
		if r.number == 0 {
			t.heldEarly = true
		} else {
			t.held = append(t.held, r.number)
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	res, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO body VALUES (?, ?, ?)", mail, p.Index, blob(p.Body))
	if err != nil {
		return nil, err
	}
	fresh, err := res.RowsAffected()
	if err != nil || fresh == 0 {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE mails SET have = have + 1, certain = min(certain, ?), received = ? WHERE n = ?", r.certain, millis(a.now()), mail); err != nil {
		return nil, err
	}
	t.progress(mail, int64(p.Total), have+1, int(p.Count))
	if have+1 < int(p.Count) {
		return nil, nil
	}
	if p.Count > smallMail {
		t.whole = append(t.whole, r.arrival(mail))
		return nil, nil
	}
	return a.completeMail(ctx, tx, o.dir, r.arrival(mail), limit)
}

var (
	// errNoRoom says that too many mails of a sender are incomplete.
	errNoRoom = errors.New("too many incomplete mails")
	// errUnwanted says that nothing is to be done with a part.
	errUnwanted = errors.New("the part is of no use")
)

// partialMail returns the row of the incomplete mail that a part belongs to, 0 if there is
// none; errUnwanted if the part contradicts the others, or the mail is here as a whole.
func (a *Account) partialMail(ctx context.Context, tx *sql.Tx, r *opened) (mail int64, have int, err error) {
	p, from := r.part, r.from.id
	first := *p
	var whole bool
	err = tx.QueryRowContext(ctx, "SELECT n, have, flags, total, count, id IS NOT NULL FROM mails WHERE folder = ? AND sender = ? AND mail_id = ? AND body_hash = ?",
		inbox, from[:], p.MailID[:], p.BodyHash[:]).Scan(&mail, &have, &first.Flags, &first.Total, &first.Count, &whole)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	if whole { // so old that it is not in the table seen any more
		return 0, 0, cmp.Or(a.answer(ctx, tx, r.arrival(mail), envelope.ReceiptStored), errUnwanted)
	}
	if err := envelope.Consistent(&first, p); err != nil {
		a.log.Warn("part dropped", "from", r.from.name, "error", err)
		return 0, 0, errUnwanted
	}
	return mail, have, nil
}

// beginMail makes the row of a mail of several parts; errNoRoom if it has to wait.
func (a *Account) beginMail(ctx context.Context, tx *sql.Tx, r *opened, limit int64) (int64, error) {
	p, from := r.part, r.from.id
	if err := a.makeRoom(ctx, tx, from, 2*limit-int64(p.Total)); err != nil {
		return 0, err
	}
	res, err := tx.ExecContext(ctx, `INSERT INTO mails (folder, sender, mail_id, body_hash, flags, total, count, have, certain, received)
		VALUES (?, ?, ?, ?, ?, ?, ?, 0, 1, ?)`, inbox, from[:], p.MailID[:], p.BodyHash[:], p.Flags, p.Total, p.Count, millis(a.now()))
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

// makeRoom sees to it that one more mail of a sender can be incomplete: at most
// maxIncomplete in all, and of those that are there at most the given bytes. Those that
// got no part for long give way, since no receipt goes out for them and the sender sends
// them again; else it is errNoRoom.
func (a *Account) makeRoom(ctx context.Context, tx *sql.Tx, sender passport.ID, room int64) error {
	type incomplete struct {
		n, total, last int64
		whole          bool // its parts were acknowledged; it is about to be shown
	}
	var list []incomplete
	var size int64
	err := each(ctx, tx, "SELECT n, total, received, have = count FROM mails WHERE folder = ? AND sender = ? AND id IS NULL ORDER BY have = count, received, n", []any{inbox, sender[:]}, func(rows *sql.Rows) error {
		var m incomplete
		err := rows.Scan(&m.n, &m.total, &m.last, &m.whole)
		list, size = append(list, m), size+m.total
		return err
	})
	stale := millis(a.now().Add(-staleAfter))
	for err == nil && (len(list) >= maxIncomplete || size > room) {
		if len(list) == 0 || list[0].last > stale || list[0].whole {
			return errNoRoom
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM mails WHERE n = ?", list[0].n)
		list, size = list[1:], size-list[0].total
	}
	return err
}

func readBody(ctx context.Context, q querier, mail int64) ([]byte, error) {
	var size int64
	if err := q.QueryRowContext(ctx, "SELECT total FROM mails WHERE n = ?", mail).Scan(&size); err != nil {
		return nil, err
	}
	body := make([]byte, 0, size)
	err := each(ctx, q, "SELECT data FROM body WHERE mail = ? ORDER BY idx", []any{mail}, func(rows *sql.Rows) error {
		var piece sql.RawBytes
		if err := rows.Scan(&piece); err != nil {
			return err
		}
		if len(body)+len(piece) > int(size) {
			return fmt.Errorf("body of a mail: %w", ErrTampered)
		}
		body = append(body, piece...)
		return nil
	})
	return body, err
}
