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
)

const (
	// filedPiece is how many bytes of a large message are in one row, filedRows how many
	// rows are written in one transaction.
	filedPiece = 60 << 10
	filedRows  = 16
)

// Filing says where and how [Account.Append] files a message.
type Filing struct {
	Folder   int64
	Flags    Flag
	Keywords []string
	Date     time.Time // INTERNALDATE; zero: now
	Size     int64     // announced; 0 or less: not known
}

// filing is a message that is being filed.
type filing struct {
	Filing
	id       MailID
	flags    uint8
	total    int64 // bytes of the body as stored
	size     int64 // of the message
	view     *message.View
	pieces   [][]byte // of a small message
	mail     int64    // the row of a large one
	received time.Time
}

// Append files a message, which may be any bytes and is kept as it is, in a folder and
// returns its UID. It is on disk when Append returns. A message with the Message-ID of one
// that was sent by this account and is in the folder for sent mail is not filed there
// once more: it is the same.
//
// Errors: [SizeError] beyond the limit of mails, [KeywordError], [ErrNotFound] for the
// folder, and those of r.
func (a *Account) Append(ctx context.Context, f Filing, r io.Reader) (uint32, error) {
	limit, _ := a.limits(ctx)
	if f.Size > limit {
		return 0, &SizeError{Size: f.Size, Limit: limit}
	}
	var err error
	if f.Keywords, err = checkKeywords(f.Keywords); err != nil {
		return 0, err
	}
	m := &filing{Filing: f, id: randomID(), received: a.now()}
	if m.Date.IsZero() {
		m.Date = m.received
	}
	var head bytes.Buffer
	if _, err := io.CopyN(&head, r, maxWhole+1); err == io.EOF {
		err = m.small(head.Bytes())
		if err != nil {
			return 0, err
		}
	} else if err != nil {
		return 0, fmt.Errorf("read the message: %w", err)
	} else if err := a.stage(ctx, m, io.MultiReader(&head, r), limit); err != nil {
		return 0, errors.Join(err, a.unstage(context.WithoutCancel(ctx), m))
	}
	var uid uint32
	err = a.write(ctx, func(tx *sql.Tx) error {
		uid, err = a.file(ctx, tx, m)
		return err
	})
	if err != nil && m.mail != 0 {
		err = errors.Join(err, a.unstage(context.WithoutCancel(ctx), m))
	}
	return uid, err
}

// small prepares a message that is in memory.
func (m *filing) small(raw []byte) (err error) {
	if m.view, err = message.Parse(bytes.NewReader(raw)); err != nil {
		return err
	}
	m.size = int64(len(raw))
	body := raw
	if c, ok := envelope.Compress(raw); ok {
		body, m.flags = c, envelope.FlagCompressed
	}
	m.total = int64(len(body))
	for m.pieces = [][]byte{}; len(body) > filedPiece; body = body[filedPiece:] {
		m.pieces = append(m.pieces, body[:filedPiece])
	}
	m.pieces = append(m.pieces, body)
	return nil
}

// stage stores a large message in pieces, a bounded number in one transaction. Until it
// is filed nobody sees it; what is left of one after a crash is removed by forgetOld.
func (a *Account) stage(ctx context.Context, m *filing, r io.Reader, limit int64) error {
	if err := a.write(ctx, func(tx *sql.Tx) (err error) {
		m.mail, err = a.insertFiled(ctx, tx, m, 0)
		return err
	}); err != nil {
		return err
	}
	buffer := make([]byte, filedRows*filedPiece)
	pieces := 0
	for last := false; !last; {
		n, err := io.ReadFull(r, buffer)
		last = err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return fmt.Errorf("read the message: %w", err)
		}
		if m.total += int64(n); m.total > limit {
			return &SizeError{Size: m.total, Limit: limit}
		}
		err = a.write(ctx, func(tx *sql.Tx) error {
			for i, b := 0, buffer[:n]; len(b) > 0; i++ {
				piece := b[:min(len(b), filedPiece)]
				if _, err := tx.ExecContext(ctx, "INSERT INTO body (mail, idx, data) VALUES (?, ?, ?)", m.mail, pieces+i, piece); err != nil {
					return err
				}
				b = b[len(piece):]
			}
			return nil
		})
		if err != nil {
			return err
		}
		pieces += (n + filedPiece - 1) / filedPiece
	}
	m.size = m.total
	err := a.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE mails SET total = ?, size = ?, count = ?, have = ? WHERE n = ?", m.total, m.size, pieces, pieces, m.mail)
		return err
	})
	if err != nil {
		return err
	}
	in, err := a.openMail(ctx, m.mail)
	if err != nil {
		return err
	}
	defer in.Close()
	m.view, err = message.Parse(in)
	return err
}

func (a *Account) unstage(ctx context.Context, m *filing) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM mails WHERE n = ? AND id IS NULL", m.mail)
		return err
	})
}

func (a *Account) insertFiled(ctx context.Context, tx *sql.Tx, m *filing, count int) (int64, error) {
	me, none := a.ID(), envelope.BodyHash{}
	r, err := tx.ExecContext(ctx, `INSERT INTO mails (folder, sender, mail_id, body_hash, flags, total, count, have, certain, received, read, size)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?, 1, ?)`, filed, me[:], m.id[:], none[:], m.flags, m.total, count, count, millis(m.received), m.size)
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

// file makes a message one that is seen.
func (a *Account) file(ctx context.Context, tx *sql.Tx, m *filing) (uint32, error) {
	if uid, err := a.sentAlready(ctx, tx, m); err != nil || uid > 0 {
		if err == nil && m.mail != 0 {
			_, err = tx.ExecContext(ctx, "DELETE FROM mails WHERE n = ?", m.mail)
		}
		return uid, err
	}
	mail := m.mail
	if mail == 0 {
		var err error
		if mail, err = a.insertFiled(ctx, tx, m, len(m.pieces)); err != nil {
			return 0, err
		}
		for i, piece := range m.pieces {
			if _, err := tx.ExecContext(ctx, "INSERT INTO body (mail, idx, data) VALUES (?, ?, ?)", mail, i, blob(piece)); err != nil {
				return 0, err
			}
		}
	}
	v := m.view
	_, err := tx.ExecContext(ctx, "UPDATE mails SET id = ?, subject = ?, date = ?, attachments = ?, message_id = ?, claimed = ? WHERE n = ?",
		m.id[:], v.Subject, dateOf(v, m.received), len(v.Attachments), v.MessageID, v.From.String(), mail)
	if err != nil {
		return 0, err
	}
	if err := toIndex(ctx, tx, mail); err != nil {
		return 0, err
	}
	return a.putPlace(ctx, tx, m.Folder, placed{mail: mail, id: m.id, flags: m.Flags & allFlags, keywords: m.Keywords, date: millis(m.Date), size: m.size})
}

// sentAlready returns the UID of the sent mail that a program files a copy of, with the
// flags of both.
func (a *Account) sentAlready(ctx context.Context, tx *sql.Tx, m *filing) (uint32, error) {
	if m.view.MessageID == "" {
		return 0, nil
	}
	var p placed
	var keywords string
	err := tx.QueryRowContext(ctx, `SELECT p.uid, p.mail, p.flags, p.keywords FROM mails m JOIN places p ON p.mail = m.n JOIN folders f ON f.n = p.folder
		WHERE m.message_id = ? AND m.folder = ? AND p.folder = ? AND f.special = ?`, m.view.MessageID, sent, m.Folder, SpecialSent).
		Scan(&p.uid, &p.mail, &p.flags, &keywords)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	p.keywords = splitKeywords(keywords)
	return p.uid, a.changeFlags(ctx, tx, m.Folder, []placed{p}, AddFlags, m.Flags, m.Keywords)
}
