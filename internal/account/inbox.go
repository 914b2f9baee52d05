package account

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/message"
	"github.com/asmtp/asmtp/passport"
)

const (
	// minPrefix is how many digits of an id are needed at least.
	minPrefix = 4
	// noticeSender is shown as the sender of what the account itself reports.
	noticeSender = "Mail delivery"
)

// Inbox lists the mail of INBOX, newest first.
func (a *Account) Inbox(ctx context.Context, o InboxOptions) ([]Summary, error) {
	return a.list(ctx, "", o)
}

// Sent lists the mail in the folder of sent mail, newest first.
func (a *Account) Sent(ctx context.Context, o InboxOptions) ([]Summary, error) {
	return a.list(ctx, SpecialSent, o)
}

func (a *Account) list(ctx context.Context, special string, o InboxOptions) ([]Summary, error) {
	dir, err := a.directory(ctx, a.db)
	if err != nil {
		return nil, err
	}
	folder, err := specialFolder(ctx, a.db, special)
	if err != nil {
		return nil, err
	}
	var found map[int64]bool
	if o.Search != "" {
		words := searchWords(o.Search)
		if len(words) == 0 {
			return nil, nil
		}
		places, err := a.search(ctx, folder, words, false)
		if err != nil {
			return nil, err
		}
		found = make(map[int64]bool, len(places))
		for _, p := range places {
			found[p.mail] = true
		}
	}
	where := "FROM places p JOIN mails m ON m.n = p.mail WHERE p.folder = ?"
	if o.Unread {
		where += " AND p.flags & 1 = 0"
	}
	limit := -1
	if o.Limit > 0 && found == nil {
		limit = o.Limit
	}
	list, err := a.summaries(ctx, dir, where+" GROUP BY m.n ORDER BY m.received DESC, m.n DESC LIMIT ?", folder, limit)
	if err != nil || found == nil {
		return list, err
	}
	list = slices.DeleteFunc(list, func(s Summary) bool { return !found[s.n] })
	if o.Limit > 0 {
		list = list[:min(o.Limit, len(list))]
	}
	return list, nil
}

// searchWords returns the words of a search that say anything.
func searchWords(text string) []string {
	return slices.DeleteFunc(strings.Fields(text), func(w string) bool {
		return !strings.ContainsFunc(w, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
	})
}

// directory returns who is known.
func (a *Account) directory(ctx context.Context, q querier) (*directory, error) {
	if q == querier(a.db) {
		r, err := a.roster(ctx)
		if err != nil {
			return nil, err
		}
		return r.dir, nil
	}
	peers, err := a.peers(ctx, q)
	if err != nil {
		return nil, err
	}
	return newDirectory(a.ID(), a.name, peers), nil
}

// summaries returns the mails m of a query from "FROM" on. A mail is read if it is in one
// of its places.
func (a *Account) summaries(ctx context.Context, dir *directory, from string, args ...any) ([]Summary, error) {
	var out []Summary
	err := each(ctx, a.db, `SELECT m.n, m.id, m.folder, m.sender, m.certain, m.notice, m.claimed, m.subject, m.date, m.received, m.size, m.attachments,
		EXISTS (SELECT 1 FROM places q WHERE q.mail = m.n AND q.flags & 1) `+from, args, func(rows *sql.Rows) error {
		var s Summary
		var notice bool
		var claimed string
		var folder int
		var date, received int64
		if err := rows.Scan(&s.n, into{s.ID[:]}, &folder, into{s.Sender[:]}, &s.Certain, &notice, &claimed, &s.Subject, &date, &received, &s.Size, &s.Attachments, &s.Read); err != nil {
			return err
		}
		s.From, s.Date, s.Received = dir.who(s.Sender), fromMillis(date), fromMillis(received)
		switch {
		case notice:
			s.From = noticeSender
		case folder == filed:
			s.From = claimed
		}
		out = append(out, s)
		return nil
	})
	return out, err
}

// summary returns what is listed of a mail.
func (a *Account) summary(ctx context.Context, dir *directory, id MailID) (Summary, error) {
	list, err := a.summaries(ctx, dir, "FROM mails m WHERE m.id = ? AND m.deleted = 0", id[:])
	if err != nil {
		return Summary{}, err
	}
	if len(list) == 0 {
		return Summary{}, fmt.Errorf("mail %s: %w", id, ErrNotFound)
	}
	return list[0], nil
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

// raw reads the message of a mail as it was carried.
func (a *Account) raw(ctx context.Context, id MailID) (io.ReadCloser, error) {
	n, err := a.row(ctx, a.db, id)
	if err != nil {
		return nil, err
	}
	var s stored
	err = a.db.QueryRowContext(ctx, "SELECT "+storedColumns+" FROM mails m LEFT JOIN shown s ON s.mail = m.n WHERE m.n = ?", n).Scan(s.fields()...)
	if err != nil {
		return nil, err
	}
	return s.carried(ctx, a)
}

func (a *Account) view(ctx context.Context, id MailID) (*message.View, error) {
	raw, err := a.raw(ctx, id)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	return message.Parse(raw)
}

// Mail opens a received or sent mail. It does not mark it as read.
func (a *Account) Mail(ctx context.Context, id MailID) (*Mail, error) {
	v, err := a.view(ctx, id)
	if err != nil {
		return nil, err
	}
	dir, err := a.directory(ctx, a.db)
	if err != nil {
		return nil, err
	}
	s, err := a.summary(ctx, dir, id)
	if err != nil {
		return nil, err
	}
	m := &Mail{Summary: s, Text: v.Text, MessageID: v.MessageID}
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
	defer raw.Close()
	_, err = io.Copy(w, raw)
	return err
}

// SaveAttachments writes the attachments of a mail into dir, which is made if it is
// missing, under names that are safe and not taken yet. It returns the paths.
func (a *Account) SaveAttachments(ctx context.Context, id MailID, dir string) ([]string, error) {
	raw, err := a.raw(ctx, id)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	return message.SaveAttachments(raw, dir)
}

// MarkRead sets whether a mail was read. If the account has read receipts on, its
// sender is told once.
func (a *Account) MarkRead(ctx context.Context, id MailID, read bool) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		n, err := a.row(ctx, tx, id)
		if err != nil {
			return err
		}
		places, err := placesOf(ctx, tx, n)
		if err != nil {
			return err
		}
		how := RemoveFlags
		if read {
			how = AddFlags
		}
		for folder, list := range places {
			if err := a.changeFlags(ctx, tx, folder, list, how, FlagSeen, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// placesOf returns where a mail is, by folder.
func placesOf(ctx context.Context, q querier, mail int64) (map[int64][]placed, error) {
	out := make(map[int64][]placed)
	return out, each(ctx, q, "SELECT folder, uid, id, flags, keywords, date, size FROM places WHERE mail = ?", []any{mail}, func(rows *sql.Rows) error {
		p := placed{mail: mail}
		var folder int64
		var keywords string
		err := rows.Scan(&folder, &p.uid, into{p.id[:]}, &p.flags, &keywords, &p.date, &p.size)
		p.keywords = splitKeywords(keywords)
		out[folder] = append(out[folder], p)
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

// Delete removes a mail from all folders of this device. A sent mail that is still on its
// way goes on.
func (a *Account) Delete(ctx context.Context, id MailID) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		n, err := a.row(ctx, tx, id)
		if err != nil {
			return err
		}
		places, err := placesOf(ctx, tx, n)
		if err != nil {
			return err
		}
		for folder, list := range places {
			if err := a.removePlaces(ctx, tx, folder, list); err != nil {
				return err
			}
		}
		return nil
	})
}

// dropBodies removes the contents of deleted sent mail that is not on its way any more.
// The + keeps SQLite from looking through all that is on its way for each of them.
func dropBodies(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM body WHERE mail IN (SELECT n FROM mails WHERE deleted = 1 AND NOT EXISTS
		(SELECT 1 FROM outgoing WHERE mail = mails.n AND +state IN (?, ?, ?)))`, Queued, Accepted, Held)
	return err
}

// Reply returns a draft that answers a mail: to its sender, with the subject and the
// references set.
func (a *Account) Reply(ctx context.Context, id MailID) (Draft, error) {
	dir, err := a.directory(ctx, a.db)
	if err != nil {
		return Draft{}, err
	}
	s, err := a.summary(ctx, dir, id)
	if err == nil && s.From == noticeSender {
		err = ErrNotFound
	}
	if err != nil {
		return Draft{}, fmt.Errorf("mail %s to reply to: %w", id, err)
	}
	d := Draft{To: []string{idAddress(s.Sender)}, Subject: s.Subject, Reply: id}
	if !strings.HasPrefix(strings.ToLower(d.Subject), "re:") {
		d.Subject = "Re: " + d.Subject
	}
	return d, nil
}

// notice puts a report of what became of a mail (RFC 3464) into the inbox, unless whoever
// sent it wanted none (RFC 3461, section 4.1: NOTIFY=NEVER).
func (a *Account) notice(ctx context.Context, tx *sql.Tx, out int64, f message.Failure) error {
	f.To, f.Date = message.Address{Name: a.name, Addr: idAddress(a.ID())}, a.now()
	var to passport.ID
	var created int64
	var wanted message.Notify
	err := tx.QueryRowContext(ctx, "SELECT o.recipient, o.created, o.notify, o.envid, o.orcpt, m.subject, m.message_id FROM outgoing o JOIN mails m ON m.n = o.mail WHERE o.n = ?", out).
		Scan(into{to[:]}, &created, &wanted, &f.EnvID, &f.ORCPT, &f.Subject, &f.OrigID)
	if err != nil || wanted == message.NotifyNever {
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
	if err := toIndex(ctx, tx, n); err != nil {
		return err
	}
	return a.placeArrived(ctx, tx, n, id, int64(raw.Len()))
}
