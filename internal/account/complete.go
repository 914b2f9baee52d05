package account

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/message"
	"github.com/asmtp/asmtp/passport"
)

// arrival is a mail of which every part is here, or one that is not taken in.
type arrival struct {
	mail    int64  // its row; 0 for none
	body    []byte // as it was carried, if it is of one part and has no row
	from    *peer
	certain bool
	id      MailID // as its sender chose it
	hash    envelope.BodyHash
	flags   uint8
	total   int64
	count   int // of its parts

	// By which sealing it came, see sealing; zero if that is not known any more.
	expires passport.Time
	sealing [16]byte
}

// arrival returns the mail of a part.
func (r *opened) arrival(mail int64) *arrival {
	p := r.part
	return &arrival{mail: mail, from: r.from, certain: r.certain, id: p.MailID, hash: p.BodyHash, flags: p.Flags, total: int64(p.Total), count: int(p.Count),
		expires: r.env.Expires, sealing: r.sealing()}
}

// contents is what a mail turned out to hold.
type contents struct {
	size int64
	head []byte // its header, with the empty line at its end
	view *message.View
}

// check reads the body of a mail as it was carried, in little memory. The error wraps
// [envelope.ErrBodyHash] if it is not what its parts name, [envelope.ErrCompressed] or
// [envelope.ErrTooLarge] if its sender made it so; else it is one of reading.
func (m *arrival) check(body io.Reader, limit int64) (*contents, error) {
	sum := envelope.NewBodyCheck(&envelope.Part{BodyHash: m.hash, Total: uint32(m.total)})
	carried := io.TeeReader(body, sum)
	in := &watch{r: carried, limit: limit}
	if m.flags&envelope.FlagCompressed != 0 {
		dec, err := envelope.NewDecompressor(carried, limit)
		if err != nil {
			return nil, err
		}
		defer dec.Close()
		in.r = dec
	}
	view, err := message.Parse(in)
	if in.err == nil && err == nil {
		_, err = io.Copy(io.Discard, in) // what Parse had no use for
	}
	if in.err != nil {
		err = in.err
	}
	if err != nil && !ofSender(err) {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, carried); err != nil {
		return nil, err
	}
	if broken := sum.Check(); broken != nil {
		return nil, broken // then nothing in it is the sender's
	}
	if err != nil {
		return nil, err
	}
	head := in.head.Bytes()
	return &contents{size: in.size, head: head[:message.HeaderLength(head, in.size == int64(len(head)))], view: view}, nil
}

// ofSender reports whether the sender of a mail made it wrong.
func ofSender(err error) bool {
	return errors.Is(err, envelope.ErrCompressed) || errors.Is(err, envelope.ErrTooLarge)
}

// maxShownHeader is what [message.HeaderLength] looks at.
const maxShownHeader = 256 << 10

// watch counts what is read, and keeps its beginning and the first error.
type watch struct {
	r     io.Reader
	limit int64
	size  int64
	head  bytes.Buffer
	err   error
}

// Read reads on.
func (w *watch) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.head.Write(p[:min(n, max(0, maxShownHeader+1-w.head.Len()))])
	if w.size += int64(n); w.size > w.limit && err == nil {
		err = fmt.Errorf("more than %d bytes: %w", w.limit, envelope.ErrTooLarge)
	}
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// completeMail checks a small mail of which every part is there, and makes it one that is
// shown, answered for, and known from now on.
func (a *Account) completeMail(ctx context.Context, tx *sql.Tx, dir *directory, m *arrival, limit int64) (*Summary, error) {
	body, err := readBody(ctx, tx, m.mail)
	if err != nil {
		return nil, err
	}
	c, err := m.check(bytes.NewReader(body), limit)
	return a.settle(ctx, tx, dir, m, c, err)
}

// takeWhole takes in a mail of one part, which is most of all mail: it is never incomplete.
func (a *Account) takeWhole(ctx context.Context, tx *sql.Tx, dir *directory, r *opened, limit int64) (*Summary, error) {
	m := r.arrival(0)
	m.body = r.part.Body
	c, err := m.check(bytes.NewReader(m.body), limit)
	return a.settle(ctx, tx, dir, m, c, err)
}

// settle makes what was found out about a mail true: it is shown, refused, or dropped.
func (a *Account) settle(ctx context.Context, tx *sql.Tx, dir *directory, m *arrival, c *contents, err error) (*Summary, error) {
	switch {
	case errors.Is(err, envelope.ErrBodyHash):
		a.log.Warn("mail dropped: its parts do not make the body they name", "from", m.from.name)
		return nil, m.drop(ctx, tx)
	case err != nil && ofSender(err):
		a.log.Warn("mail refused", "from", m.from.name, "error", err)
		return nil, a.refuse(ctx, tx, m)
	case err != nil:
		return nil, err
	}
	now := a.now()
	a.completed.Add(1)
	id, err := freeID(ctx, tx, m.id)
	if err != nil {
		return nil, err
	}
	v := c.view
	if err := m.keep(ctx, tx, id, c, now); err != nil {
		return nil, err
	}
	if err := toIndex(ctx, tx, m.mail); err != nil {
		return nil, err
	}
	size, err := a.showArrived(ctx, tx, dir, m, id, c)
	if err != nil {
		return nil, err
	}
	if err := a.placeArrived(ctx, tx, m.mail, id, size); err != nil {
		return nil, err
	}
	if err := a.answer(ctx, tx, m, envelope.ReceiptStored); err != nil {
		return nil, err
	}
	return &Summary{ID: id, From: m.from.name, Sender: m.from.id, Certain: m.certain, Subject: v.Subject,
		Date: fromMillis(dateOf(v, now)), Received: now, Size: c.size, Attachments: len(v.Attachments)}, nil
}

// keep makes the mail a complete one, and stores it if it is of one part.
func (m *arrival) keep(ctx context.Context, tx *sql.Tx, id MailID, c *contents, now time.Time) error {
	v := c.view
	if m.mail != 0 {
		_, err := tx.ExecContext(ctx, "UPDATE mails SET id = ?, size = ?, subject = ?, date = ?, attachments = ?, message_id = ?, received = ? WHERE n = ?",
			id[:], c.size, v.Subject, dateOf(v, now), len(v.Attachments), v.MessageID, millis(now), m.mail)
		return err
	}
	r, err := tx.ExecContext(ctx, `INSERT INTO mails (id, folder, sender, mail_id, body_hash, flags, total, count, have, certain, received, size, subject, date, attachments, message_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, 1, 1, ?, ?, ?, ?, ?, ?, ?)`, id[:], inbox, m.from.id[:], m.id[:], m.hash[:], m.flags, m.total, m.certain, millis(now),
		c.size, v.Subject, dateOf(v, now), len(v.Attachments), v.MessageID)
	if err != nil {
		return err
	}
	if m.mail, err = r.LastInsertId(); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO body (mail, idx, data) VALUES (?, 0, ?)", m.mail, blob(m.body))
	return err
}

// drop removes what is there of the mail.
func (m *arrival) drop(ctx context.Context, tx *sql.Tx) error {
	if m.mail == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM mails WHERE n = ?", m.mail)
	return err
}

// freeID returns id, or a random one if a mail here has it already: senders choose
// their ids, and mail to oneself has that of the sent copy.
func freeID(ctx context.Context, tx *sql.Tx, id MailID) (MailID, error) {
	var taken int
	err := tx.QueryRowContext(ctx, "SELECT count(*) FROM mails WHERE id = ?", id[:]).Scan(&taken)
	if taken > 0 {
		id = randomID()
	}
	return id, err
}

// refuse drops a mail for good and says so to its sender.
func (a *Account) refuse(ctx context.Context, tx *sql.Tx, m *arrival) error {
	if err := m.drop(ctx, tx); err != nil {
		return err
	}
	return a.answer(ctx, tx, m, envelope.ReceiptRefused)
}

// answer notes that a mail is dealt with and queues its receipt.
func (a *Account) answer(ctx context.Context, tx *sql.Tx, m *arrival, code envelope.ReceiptCode) error {
	from, until := m.from.id, m.expires.Time().Add(seenFor)
	if m.expires == 0 {
		until = a.now().Add(MaxLifetime + seenFor)
	}
	_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?, ?)", from[:], m.id[:], m.hash[:], code, millis(until), int64(m.expires), m.sealing[:])
	if err != nil {
		return err
	}
	return a.queueReceipt(ctx, tx, from, m.id, m.hash, code)
}

// completeLarge checks a large mail of which every part is there, without a transaction,
// and then settles it in a small one. It returns nil if another process was faster. One is
// checked at a time.
func (a *Account) completeLarge(ctx context.Context, dir *directory, m *arrival) (s *Summary, err error) {
	select {
	case a.completing <- struct{}{}:
		defer func() { <-a.completing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	limit, err := a.receiveLimit(ctx, a.db)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	c, found := m.check(&bodyReader{ctx: ctx, a: a, mail: m.mail, count: m.count}, limit)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	a.log.Debug("large mail checked", "bytes", m.total, "took", time.Since(began), "error", found)
	err = a.write(ctx, func(tx *sql.Tx) error {
		s = nil
		var open int
		err := tx.QueryRowContext(ctx, "SELECT count(*) FROM mails WHERE n = ? AND id IS NULL AND folder = ? AND have = count", m.mail, inbox).Scan(&open)
		if err != nil || open == 0 {
			return err
		}
		s, err = a.settle(ctx, tx, dir, m, c, found)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("take in a large mail: %w", err)
	}
	return s, nil
}

// completeWaiting completes the large mails that the program ended before it did.
func (a *Account) completeWaiting(ctx context.Context) (mails []Summary, err error) {
	dir, err := a.directory(ctx, a.db)
	if err != nil {
		return nil, err
	}
	var list []*arrival
	err = each(ctx, a.db, "SELECT n, sender, mail_id, body_hash, flags, total, count, certain FROM mails WHERE id IS NULL AND folder = ? AND have = count AND count > ?",
		[]any{inbox, smallMail}, func(rows *sql.Rows) error {
			m := new(arrival)
			var sender passport.ID
			if err := rows.Scan(&m.mail, into{sender[:]}, into{m.id[:]}, into{m.hash[:]}, &m.flags, &m.total, &m.count, &m.certain); err != nil {
				return err
			}
			if m.from = dir.byID[sender]; m.from != nil { // a contact still
				list = append(list, m)
			}
			return nil
		})
	for _, m := range list {
		if err != nil {
			break
		}
		var s *Summary
		if s, err = a.completeLarge(ctx, dir, m); s != nil {
			mails = append(mails, *s)
		}
	}
	return mails, err
}
