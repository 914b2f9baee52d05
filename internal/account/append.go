package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/asmtp/asmtp/envelope"
)

// Filing says where and how [Account.Append] files a message.
type Filing struct {
	Folder   int64
	Flags    Flag
	Keywords []string
	Date     time.Time // INTERNALDATE; zero: now
	Size     int64     // announced; 0 or less: not known
}

// Append files a message, which may be any bytes and is kept as it is, in a folder and
// returns its UID. It is on disk when Append returns. A message with the Message-ID of one
// that was sent by this account and is in the folder for sent mail is not filed there
// once more: it is the same.
//
// Errors: [SizeError] beyond the limit of mails, [KeywordError], [ErrNotFound] for the
// folder, and those of r.
func (a *Account) Append(ctx context.Context, f Filing, r io.Reader) (uint32, error) {
	limit := readLimits(ctx, a.db).mail
	if f.Size > limit {
		return 0, &SizeError{Size: f.Size, Limit: limit}
	}
	var err error
	if f.Keywords, err = checkKeywords(f.Keywords); err != nil {
		return 0, err
	}
	if f.Date.IsZero() {
		f.Date = a.now()
	}
	m, err := a.storeBody(ctx, r, filed, limit)
	if err != nil {
		return 0, fmt.Errorf("read the message: %w", err)
	}
	var uid uint32
	err = a.write(ctx, func(tx *sql.Tx) error {
		var err error
		uid, err = a.file(ctx, tx, f, m)
		return err
	})
	if err != nil && m.mail != 0 {
		a.unstage(ctx, m.mail)
	}
	return uid, err
}

// file makes a message one that is seen.
func (a *Account) file(ctx context.Context, tx *sql.Tx, f Filing, m *staged) (uint32, error) {
	if uid, err := a.sentAlready(ctx, tx, f, m.view.MessageID); err != nil || uid > 0 {
		if err == nil && m.mail != 0 {
			_, err = tx.ExecContext(ctx, "DELETE FROM mails WHERE n = ?", m.mail)
		}
		return uid, err
	}
	id := randomID()
	mail, err := m.keep(ctx, tx, a, filed, id, envelope.BodyHash{}, a.idBytes())
	if err != nil {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE mails SET claimed = ? WHERE n = ?", m.view.From.String(), mail); err != nil {
		return 0, err
	}
	if err := toIndex(ctx, tx, mail); err != nil {
		return 0, err
	}
	return a.putPlace(ctx, tx, f.Folder, placed{mail: mail, id: id, flags: f.Flags & allFlags, keywords: f.Keywords, date: millis(f.Date), size: m.size})
}

// sentAlready returns the UID of the sent mail that a program files a copy of, with the
// flags of both.
func (a *Account) sentAlready(ctx context.Context, tx *sql.Tx, f Filing, messageID string) (uint32, error) {
	if messageID == "" {
		return 0, nil
	}
	var p placed
	var keywords string
	err := tx.QueryRowContext(ctx, `SELECT p.uid, p.mail, p.flags, p.keywords FROM mails m JOIN places p ON p.mail = m.n JOIN folders f ON f.n = p.folder
		WHERE m.message_id = ? AND m.message_id <> '' AND m.folder = ? AND m.folder > 0 AND p.folder = ? AND f.special = ?`, messageID, sent, f.Folder, SpecialSent).
		Scan(&p.uid, &p.mail, &p.flags, &keywords)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	p.keywords = splitKeywords(keywords)
	return p.uid, a.changeFlags(ctx, tx, f.Folder, []placed{p}, AddFlags, f.Flags, f.Keywords)
}
