package account

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/message"
	"github.com/asmtp/asmtp/passport"
)

const (
	// maxIndexed is how many bytes of a mail's text can be searched for.
	maxIndexed = 256 << 10
	// minPrefix is how many digits of an id are needed at least.
	minPrefix = 4
	// noticeSender is shown as the sender of what the account itself reports.
	noticeSender = "Mail delivery"
)

func indexMail(ctx context.Context, q querier, mail int64, v *message.View, sender string) error {
	text := v.Text
	if len(text) > maxIndexed {
		text = text[:maxIndexed]
	}
	for _, f := range v.Attachments {
		text += " " + f.Name
	}
	_, err := q.ExecContext(ctx, "INSERT INTO search (rowid, subject, sender, text) VALUES (?, ?, ?, ?)",
		mail, v.Subject, sender+" "+v.From.Name, strings.ToValidUTF8(text, ""))
	return err
}

// Inbox lists received mail, newest first.
func (a *Account) Inbox(ctx context.Context, o InboxOptions) ([]Summary, error) {
	return a.list(ctx, inbox, o)
}

// Sent lists sent mail, newest first; From is the user and Read is true.
func (a *Account) Sent(ctx context.Context, o InboxOptions) ([]Summary, error) {
	return a.list(ctx, sent, o)
}

func (a *Account) list(ctx context.Context, folder int, o InboxOptions) ([]Summary, error) {
	where, args := "folder = ? AND id IS NOT NULL AND deleted = 0", []any{folder}
	if o.Unread {
		where += " AND read = 0"
	}
	if o.Search != "" {
		query := searchQuery(o.Search)
		if query == "" {
			return nil, nil
		}
		where += " AND n IN (SELECT rowid FROM search WHERE search MATCH ?)"
		args = append(args, query)
	}
	limit := -1
	if o.Limit > 0 {
		limit = o.Limit
	}
	return a.summaries(ctx, where+" ORDER BY received DESC, n DESC LIMIT ?", append(args, limit)...)
}

// searchQuery turns the user's words into a query in which every word must occur, the
// last letters of each left open. Nothing of FTS5's own syntax gets through.
func searchQuery(words string) string {
	var terms []string
	for _, w := range strings.FieldsFunc(words, func(r rune) bool { return unicode.IsSpace(r) || r == '"' || r == 0 }) {
		if strings.ContainsFunc(w, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
			terms = append(terms, `"`+w+`"*`)
		}
	}
	return strings.Join(terms, " ")
}

func (a *Account) summaries(ctx context.Context, where string, args ...any) ([]Summary, error) {
	peers, err := a.peers(ctx, a.db)
	if err != nil {
		return nil, err
	}
	dir := newDirectory(a.ID(), a.name, peers)
	var out []Summary
	err = each(ctx, a.db, "SELECT id, sender, certain, notice, subject, date, received, size, read, attachments FROM mails WHERE "+where, args, func(rows *sql.Rows) error {
		var s Summary
		var notice bool
		var date, received int64
		if err := rows.Scan(into{s.ID[:]}, into{s.Sender[:]}, &s.Certain, &notice, &s.Subject, &date, &received, &s.Size, &s.Read, &s.Attachments); err != nil {
			return err
		}
		s.From, s.Date, s.Received = dir.who(s.Sender), fromMillis(date), fromMillis(received)
		if notice {
			s.From = noticeSender
		}
		out = append(out, s)
		return nil
	})
	return out, err
}

// Find returns the id of the mail whose id begins with prefix, at least 4 hex digits:
// received mail and sent mail. Errors: [ErrNotFound], [AmbiguousError].
func (a *Account) Find(ctx context.Context, prefix string) (MailID, error) {
	prefix = strings.ToLower(strings.TrimSpace(prefix))
	if len(prefix) < minPrefix || len(prefix) > 32 || strings.Trim(prefix, "0123456789abcdef") != "" {
		return MailID{}, fmt.Errorf("mail %q: an id is %d to 32 hex digits: %w", message.CleanLine(prefix), minPrefix, ErrNotFound)
	}
	low, high := bound(prefix, '0'), bound(prefix, 'f')
	var ids []MailID
	err := each(ctx, a.db, `SELECT id FROM mails WHERE id BETWEEN ?1 AND ?2 AND deleted = 0
		UNION SELECT mail_id FROM outgoing WHERE mail_id BETWEEN ?1 AND ?2`, []any{low, high}, func(rows *sql.Rows) error {
		var id MailID
		err := rows.Scan(into{id[:]})
		ids = append(ids, id)
		return err
	})
	switch {
	case err != nil:
		return MailID{}, err
	case len(ids) == 0:
		return MailID{}, fmt.Errorf("mail %s: %w", prefix, ErrNotFound)
	case len(ids) > 1:
		return MailID{}, &AmbiguousError{Prefix: prefix, IDs: ids}
	}
	return ids[0], nil
}

func bound(prefix string, digit byte) []byte {
	b, err := hex.DecodeString(prefix + strings.Repeat(string(digit), 32-len(prefix)))
	if err != nil {
		return nil // not reached: the digits were checked
	}
	return b
}

// row returns the number of a mail that is shown.
func (a *Account) row(ctx context.Context, q querier, id MailID) (n int64, err error) {
	err = q.QueryRowContext(ctx, "SELECT n FROM mails WHERE id = ? AND deleted = 0", id[:]).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("mail %s: %w", id, ErrNotFound)
	}
	return n, err
}

// raw returns the message of a mail.
func (a *Account) raw(ctx context.Context, id MailID) ([]byte, error) {
	n, err := a.row(ctx, a.db, id)
	if err != nil {
		return nil, err
	}
	var flags uint8
	var size int64
	if err := a.db.QueryRowContext(ctx, "SELECT flags, size FROM mails WHERE n = ?", n).Scan(&flags, &size); err != nil {
		return nil, err
	}
	body, err := readBody(ctx, a.db, n)
	if err != nil || flags&envelope.FlagCompressed == 0 {
		return body, err
	}
	return envelope.Decompress(body, size)
}

func (a *Account) view(ctx context.Context, id MailID) (*message.View, error) {
	raw, err := a.raw(ctx, id)
	if err != nil {
		return nil, err
	}
	return message.Parse(bytes.NewReader(raw))
}

// Mail opens a received or sent mail. It does not mark it as read.
func (a *Account) Mail(ctx context.Context, id MailID) (*Mail, error) {
	v, err := a.view(ctx, id)
	if err != nil {
		return nil, err
	}
	list, err := a.summaries(ctx, "id = ? AND deleted = 0", id[:])
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("mail %s: %w", id, ErrNotFound)
	}
	peers, err := a.peers(ctx, a.db)
	if err != nil {
		return nil, err
	}
	dir := newDirectory(a.ID(), a.name, peers)
	m := &Mail{Summary: list[0], Text: v.Text, MessageID: v.MessageID}
	for _, to := range v.To {
		m.To = append(m.To, dir.show(to))
	}
	for _, cc := range v.Cc {
		m.Cc = append(m.Cc, dir.show(cc))
	}
	for _, f := range v.Attachments {
		m.Attachments = append(m.Attachments, AttachmentInfo(f))
	}
	return m, nil
}

// Raw writes the RFC 5322 message of a mail to w, byte for byte as it was sent.
func (a *Account) Raw(ctx context.Context, id MailID, w io.Writer) error {
	raw, err := a.raw(ctx, id)
	if err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}

// SaveAttachments writes the attachments of a mail into dir, which is made if it is
// missing, under names that are safe and not taken yet. It returns the paths.
func (a *Account) SaveAttachments(ctx context.Context, id MailID, dir string) ([]string, error) {
	raw, err := a.raw(ctx, id)
	if err != nil {
		return nil, err
	}
	return message.SaveAttachments(bytes.NewReader(raw), dir)
}

// MarkRead sets whether a mail was read. If the account has read receipts on, its
// sender is told once.
func (a *Account) MarkRead(ctx context.Context, id MailID, read bool) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		n, err := a.row(ctx, tx, id)
		if err != nil {
			return err
		}
		if read && a.o.ReadReceipts {
			if err := a.queueReadReceipt(ctx, tx, n); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, "UPDATE mails SET read = ? WHERE n = ?", read, n)
		return err
	})
}

func (a *Account) queueReadReceipt(ctx context.Context, tx *sql.Tx, n int64) error {
	var sender passport.ID
	var id envelope.MailID
	var hash envelope.BodyHash
	err := tx.QueryRowContext(ctx, "SELECT sender, mail_id, body_hash FROM mails WHERE n = ? AND folder = ? AND notice = 0 AND read = 0", n, inbox).
		Scan(into{sender[:]}, into{id[:]}, into{hash[:]})
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return a.queueReceipt(ctx, tx, sender, id, hash, envelope.ReceiptRead)
}

// Delete removes a mail from this device. A sent mail that is still on its way goes on.
func (a *Account) Delete(ctx context.Context, id MailID) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		n, err := a.row(ctx, tx, id)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM search WHERE rowid = ?", n); err != nil {
			return err
		}
		var needed int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM outgoing WHERE mail = ?", n).Scan(&needed); err != nil {
			return err
		}
		if needed == 0 {
			_, err = tx.ExecContext(ctx, "DELETE FROM mails WHERE n = ?", n)
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE mails SET deleted = 1 WHERE n = ?", n); err != nil {
			return err
		}
		return dropBodies(ctx, tx)
	})
}

// dropBodies removes the contents of deleted sent mail that is not on its way any more.
func dropBodies(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM body WHERE mail IN (SELECT n FROM mails WHERE deleted = 1 AND NOT EXISTS
		(SELECT 1 FROM outgoing WHERE mail = mails.n AND state IN (?, ?, ?)))`, Queued, Accepted, Held)
	return err
}

// Reply returns a draft that answers a mail: to its sender, with the subject and the
// references set.
func (a *Account) Reply(ctx context.Context, id MailID) (Draft, error) {
	list, err := a.summaries(ctx, "id = ? AND deleted = 0 AND notice = 0", id[:])
	if err != nil {
		return Draft{}, err
	}
	if len(list) == 0 {
		return Draft{}, fmt.Errorf("mail %s to reply to: %w", id, ErrNotFound)
	}
	d := Draft{To: []string{idAddress(list[0].Sender)}, Subject: list[0].Subject, Reply: id}
	if !strings.HasPrefix(strings.ToLower(d.Subject), "re:") {
		d.Subject = "Re: " + d.Subject
	}
	return d, nil
}

// notice puts the report of a failure or a delay (RFC 3464) into the inbox.
func (a *Account) notice(ctx context.Context, tx *sql.Tx, out int64, f message.Failure) error {
	f.To, f.Date = message.Address{Name: a.name, Addr: idAddress(a.ID())}, a.now()
	var to passport.ID
	var created int64
	err := tx.QueryRowContext(ctx, "SELECT o.recipient, o.created, m.subject, m.message_id FROM outgoing o JOIN mails m ON m.n = o.mail WHERE o.n = ?", out).
		Scan(into{to[:]}, &created, &f.Subject, &f.OrigID)
	if err != nil {
		return err
	}
	var name string
	if err := tx.QueryRowContext(ctx, "SELECT name FROM contacts WHERE id = ?", to[:]).Scan(&name); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	id := randomID()
	f.Recipient, f.Sent, f.MessageID = message.Address{Name: name, Addr: idAddress(to)}, fromMillis(created), id.String()+"@"+domain
	var raw bytes.Buffer
	if err := message.Notice(&raw, f); err != nil {
		return err
	}
	v, err := message.Parse(bytes.NewReader(raw.Bytes()))
	if err != nil {
		return err
	}
	me, hash, now := a.ID(), envelope.HashBody(raw.Bytes()), millis(a.now())
	r, err := tx.ExecContext(ctx, `INSERT INTO mails (id, folder, sender, mail_id, body_hash, flags, total, count, have, certain, received, notice, size, subject, date, message_id)
		VALUES (?, ?, ?, ?, ?, 0, ?, 1, 1, 1, ?, 1, ?, ?, ?, ?)`, id[:], inbox, me[:], id[:], hash[:], raw.Len(), now, raw.Len(), v.Subject, now, v.MessageID)
	if err != nil {
		return err
	}
	n, err := r.LastInsertId()
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO body VALUES (?, 0, ?)", n, raw.Bytes()); err != nil {
		return err
	}
	return indexMail(ctx, tx, n, v, noticeSender)
}
