package account

import (
	"bytes"
	"context"
	"database/sql"
	"errors"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// sealing names all that was sealed together with a part: a mail that is sealed anew has
// a later end or other keys.
func (r *opened) sealing() [16]byte { return noise.H16([]byte("sealing"), r.with.key()) }

// takenBefore reports whether the mail of a part was dealt with already. If its sender
// sealed it anew, perhaps the answer did not arrive: it is given again, once for each
// sealing, however many parts that has and however many nodes deliver them.
func (a *Account) takenBefore(ctx context.Context, tx *sql.Tx, r *opened) (bool, error) {
	p, from := r.part, r.from.id
	var code uint8
	var expires int64
	var answered []byte
	err := tx.QueryRowContext(ctx, "SELECT code, expires, sealing FROM seen WHERE sender = ? AND mail_id = ? AND body_hash = ?",
		from[:], p.MailID[:], p.BodyHash[:]).Scan(&code, &expires, &answered)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	sealing := r.sealing()
	if err != nil || r.env.Expires < passport.Time(expires) || r.env.Expires == passport.Time(expires) && bytes.Equal(answered, sealing[:]) {
		return true, err
	}
	_, err = tx.ExecContext(ctx, "UPDATE seen SET expires = ?, sealing = ?, until = max(until, ?) WHERE sender = ? AND mail_id = ? AND body_hash = ?",
		int64(r.env.Expires), sealing[:], millis(r.env.Expires.Time().Add(seenFor)), from[:], p.MailID[:], p.BodyHash[:])
	if err != nil {
		return true, err
	}
	return true, a.queueReceipt(ctx, tx, from, p.MailID, p.BodyHash, code)
}

// showAgain is what the fault DoubleAccept does: a mail that came before is one more mail.
func (a *Account) showAgain(ctx context.Context, tx *sql.Tx, r *opened) (*Summary, error) {
	p, from, id := r.part, r.from.id, randomID()
	if p.Index != 0 {
		return nil, nil
	}
	res, err := tx.ExecContext(ctx, `INSERT INTO mails (id, folder, sender, mail_id, body_hash, flags, total, count, have, certain, received, size, subject, date, attachments, message_id)
		SELECT ?1, folder, sender, ?1, body_hash, flags, total, count, have, certain, ?2, size, subject, date, attachments, message_id FROM mails
		WHERE folder = ?3 AND sender = ?4 AND mail_id = ?5 AND body_hash = ?6 AND id IS NOT NULL`, id[:], millis(a.now()), inbox, from[:], p.MailID[:], p.BodyHash[:])
	if err != nil {
		return nil, err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return nil, err
	}
	s := &Summary{ID: id, From: r.from.name, Sender: from, Certain: r.certain, Received: a.now(), Date: a.now()}
	if err := tx.QueryRowContext(ctx, "SELECT subject, size FROM mails WHERE id = ?", id[:]).Scan(&s.Subject, &s.Size); err != nil {
		return nil, err
	}
	n, err := res.LastInsertId()
	if err != nil {
		return nil, err
	}
	if err := a.placeArrived(ctx, tx, n, id, s.Size); err != nil {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO body SELECT (SELECT n FROM mails WHERE id = ?1), idx, data FROM body WHERE mail =
		(SELECT n FROM mails WHERE folder = ?2 AND sender = ?3 AND mail_id = ?4 AND body_hash = ?5)`, id[:], inbox, from[:], p.MailID[:], p.BodyHash[:])
	return s, err
}
