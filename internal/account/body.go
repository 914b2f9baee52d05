package account

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/message"
)

// maxWhole is the largest message that is in memory as a whole: while it is sent or
// filed, and for the readers of many messages. What is larger goes through in pieces.
const maxWhole = 256 << 10

// stagedRows is how many pieces of a large body are written, or removed, in one
// transaction: a megabyte.
const stagedRows = 16

// pieceSize is how many bytes of a body are in one row: a full part of the largest class.
var pieceSize = envelope.Capacity(len(envelope.Sizes) - 1)

// staged is a message that is ready to become a mail, in one small transaction. A small
// one is in memory; the body of a large one is on disk already, in a row of mails without
// an id, which nobody sees and forgetOld removes if nothing comes of it.
type staged struct {
	flags uint8
	hash  envelope.BodyHash // of the body as carried
	total int64             // bytes of that
	size  int64             // bytes of the message
	count int               // rows of the body
	head  []byte            // the header, with the empty line at its end
	view  *message.View

	body []byte // of a small one, as carried
	mail int64  // the row of a large one; 0 for a small one
}

// stager takes a message in by its method Write, in bounded memory.
type stager struct {
	a      *Account
	ctx    context.Context
	folder int   // of the row of a large one
	limit  int64 // bytes of a message
	size   int64
	head   bytes.Buffer // of a small one all of it, of a large one its beginning
	large  *largeBody
	err    error // the first one
}

// newStager begins to take in a message that is to be in a folder, one of sent and filed.
// One of finish and drop must follow.
func (a *Account) newStager(ctx context.Context, folder int, limit int64) *stager {
	return &stager{a: a, ctx: ctx, folder: folder, limit: limit}
}

// storeBody takes in a message as it comes from r. Errors: [SizeError], and those of r.
func (a *Account) storeBody(ctx context.Context, r io.Reader, folder int, limit int64) (*staged, error) {
	s := a.newStager(ctx, folder, limit)
	_, err := io.Copy(s, r)
	if err != nil {
		s.drop()
		return nil, s.cause(err)
	}
	return s.finish()
}

// cause returns an error of whoever wrote into s as what s said it was.
func (s *stager) cause(err error) error {
	if s.err != nil {
		return s.err
	}
	return err
}

// Write takes in more of the message.
func (s *stager) Write(p []byte) (int, error) {
	if s.err == nil {
		s.err = s.write(p)
	}
	if s.err != nil {
		return 0, s.err
	}
	return len(p), nil
}

func (s *stager) write(p []byte) error {
	if s.size += int64(len(p)); s.size > s.limit {
		return &SizeError{Size: s.size, Limit: s.limit}
	}
	if s.large == nil {
		if s.size <= maxWhole {
			s.head.Write(p)
			return nil
		}
		if err := s.begin(); err != nil {
			return err
		}
	}
	return s.large.write(p)
}

// begin makes a large message of what was small until now.
func (s *stager) begin() error {
	var err error
	if s.large, err = s.a.newLargeBody(s.ctx, s.folder); err != nil {
		return err
	}
	// What does not shrink at its beginning, seldom does further on.
	if c, ok := envelope.Compress(s.head.Bytes()); ok && len(c) < s.head.Len()*31/32 {
		s.large.pack = envelope.NewCompressor(&s.large.rows)
	}
	return s.large.write(s.head.Bytes())
}

// finish returns the message once all of it was written.
func (s *stager) finish() (*staged, error) {
	if s.err != nil {
		s.drop()
		return nil, s.err
	}
	if s.large == nil {
		return s.small()
	}
	m, err := s.large.finish()
	if err != nil {
		s.drop()
		return nil, err
	}
	m.size = s.size
	m.head = bytes.Clone(s.head.Bytes()[:message.HeaderLength(s.head.Bytes(), false)])
	return m, nil
}

func (s *stager) small() (*staged, error) {
	raw := s.head.Bytes()
	view, err := message.Parse(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	m := &staged{size: s.size, head: raw[:message.HeaderLength(raw, true)], view: view, body: raw}
	if c, ok := envelope.Compress(raw); ok {
		m.body, m.flags = c, envelope.FlagCompressed
	}
	m.hash, m.total = envelope.HashBody(m.body), int64(len(m.body))
	m.count = int(envelope.PartCount(m.total))
	return m, nil
}

// drop removes what was staged.
func (s *stager) drop() {
	if s.large != nil {
		s.large.stop()
		s.a.unstage(s.ctx, s.large.rows.mail)
	}
}

// largeBody is a large message on its way into the database.
type largeBody struct {
	rows rowWriter
	pack io.WriteCloser // the compressor; nil for none

	parsing *io.PipeWriter
	parsed  chan parsed
}

type parsed struct {
	view *message.View
	err  error
}

func (a *Account) newLargeBody(ctx context.Context, folder int) (*largeBody, error) {
	l := &largeBody{rows: rowWriter{a: a, ctx: ctx, hash: envelope.NewBodyHasher()}, parsed: make(chan parsed, 1)}
	err := a.write(ctx, func(tx *sql.Tx) error {
		me, id, none := a.ID(), randomID(), envelope.BodyHash{}
		r, err := tx.ExecContext(ctx, `INSERT INTO mails (folder, sender, mail_id, body_hash, flags, total, count, have, certain, received)
			VALUES (?, ?, ?, ?, 0, 0, 0, 0, 1, ?)`, folder, me[:], id[:], none[:], millis(a.now()))
		if err != nil {
			return err
		}
		l.rows.mail, err = r.LastInsertId()
		return err
	})
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	l.parsing = w
	go func() {
		view, err := message.Parse(r)
		if err == nil { // what is left is of no interest
			_, err = io.Copy(io.Discard, r)
		}
		r.CloseWithError(err)
		l.parsed <- parsed{view, err}
	}()
	return l, nil
}

func (l *largeBody) write(p []byte) error {
	if _, err := l.parsing.Write(p); err != nil {
		return err
	}
	var err error
	if l.pack != nil {
		_, err = l.pack.Write(p)
	} else {
		_, err = l.rows.Write(p)
	}
	return err
}

// stop ends parsing.
func (l *largeBody) stop() {
	l.parsing.CloseWithError(io.ErrUnexpectedEOF)
	<-l.parsed
	l.parsed <- parsed{}
}

func (l *largeBody) finish() (*staged, error) {
	l.parsing.Close()
	p := <-l.parsed
	l.parsed <- p
	if p.err != nil {
		return nil, p.err
	}
	m := &staged{view: p.view, mail: l.rows.mail}
	if l.pack != nil {
		m.flags = envelope.FlagCompressed
		if err := l.pack.Close(); err != nil {
			return nil, err
		}
	}
	if err := l.rows.flush(true); err != nil {
		return nil, err
	}
	m.hash, m.total, m.count = l.rows.hash.Sum(), l.rows.hash.Size(), l.rows.next
	return m, nil
}

// rowWriter writes a body into rows, some in each transaction.
type rowWriter struct {
	a    *Account
	ctx  context.Context
	mail int64
	hash *envelope.BodyHasher
	next int // index of the next row
	full []byte
}

// Write takes in more of the body.
func (w *rowWriter) Write(p []byte) (int, error) {
	w.hash.Write(p)
	w.full = append(w.full, p...)
	if len(w.full) < stagedRows*pieceSize {
		return len(p), nil
	}
	return len(p), w.flush(false)
}

// flush writes what fills rows, at the end also what does not.
func (w *rowWriter) flush(end bool) error {
	for len(w.full) >= pieceSize || end && len(w.full) > 0 {
		rows, rest := 0, w.full
		err := w.a.write(w.ctx, func(tx *sql.Tx) error {
			for rows, rest = 0, w.full; rows < stagedRows && (len(rest) >= pieceSize || end && len(rest) > 0); rows++ {
				piece := rest[:min(len(rest), pieceSize)]
				if _, err := tx.ExecContext(w.ctx, "INSERT INTO body (mail, idx, data) VALUES (?, ?, ?)", w.mail, w.next+rows, piece); err != nil {
					return err
				}
				rest = rest[len(piece):]
			}
			return nil
		})
		if err != nil {
			return err
		}
		w.next += rows
		w.full = append(w.full[:0], rest...)
	}
	return nil
}

// unstage removes a large message that came to nothing, as far as that is possible now.
func (a *Account) unstage(ctx context.Context, mail int64) {
	if err := a.removeStaged(context.WithoutCancel(ctx), mail); err != nil {
		a.log.Warn("a message that was not taken in is left on disk for a day", "error", err)
	}
}

// removeStaged removes a message that never became a mail, some of its body in each
// transaction.
func (a *Account) removeStaged(ctx context.Context, mail int64) error {
	for more := true; more; {
		err := a.write(ctx, func(tx *sql.Tx) error {
			more = false
			var id []byte
			err := tx.QueryRowContext(ctx, "SELECT id FROM mails WHERE n = ?", mail).Scan(&id)
			if errors.Is(err, sql.ErrNoRows) || err == nil && id != nil {
				return nil
			}
			if err != nil {
				return err
			}
			r, err := tx.ExecContext(ctx, "DELETE FROM body WHERE rowid IN (SELECT rowid FROM body WHERE mail = ? LIMIT ?)", mail, 4*stagedRows)
			if err != nil {
				return err
			}
			n, err := r.RowsAffected()
			if more = n == 4*stagedRows; err != nil || more {
				return err
			}
			_, err = tx.ExecContext(ctx, "DELETE FROM mails WHERE n = ?", mail)
			return err
		})
		if err != nil {
			return fmt.Errorf("remove what was staged: %w", err)
		}
	}
	return nil
}

// keep makes the row of a mail in folder of the message: a large one has it already, and
// gets what is known now. The caller makes it a mail by setting what is its own.
func (m *staged) keep(ctx context.Context, tx *sql.Tx, a *Account, folder int, id MailID, hash envelope.BodyHash, sender []byte) (int64, error) {
	v, now := m.view, millis(a.now())
	if m.mail != 0 {
		r, err := tx.ExecContext(ctx, `UPDATE mails SET id = ?, folder = ?, sender = ?, mail_id = ?, body_hash = ?, flags = ?, total = ?, count = ?, have = ?,
			received = ?, read = 1, size = ?, subject = ?, date = ?, attachments = ?, message_id = ? WHERE n = ? AND id IS NULL`,
			id[:], folder, sender, id[:], hash[:], m.flags, m.total, m.count, m.count,
			now, m.size, v.Subject, dateOf(v, a.now()), len(v.Attachments), v.MessageID, m.mail)
		if err != nil {
			return 0, err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return 0, errors.Join(err, errors.New("what was staged is gone: it took more than a day"))
		}
		return m.mail, nil
	}
	r, err := tx.ExecContext(ctx, `INSERT INTO mails (id, folder, sender, mail_id, body_hash, flags, total, count, have,
		certain, received, read, size, subject, date, attachments, message_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, 1, ?, ?, ?, ?, ?)`,
		id[:], folder, sender, id[:], hash[:], m.flags, m.total, m.count, m.count,
		now, m.size, v.Subject, dateOf(v, a.now()), len(v.Attachments), v.MessageID)
	if err != nil {
		return 0, err
	}
	mail, err := r.LastInsertId()
	if err != nil {
		return 0, err
	}
	return mail, m.each(func(i int, piece []byte) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO body (mail, idx, data) VALUES (?, ?, ?)", mail, i, piece)
		return err
	})
}

// each calls fn for the pieces of a small message.
func (m *staged) each(fn func(i int, piece []byte) error) error {
	for i := range m.count {
		if err := fn(i, blob(m.body[i*pieceSize:min(len(m.body), (i+1)*pieceSize)])); err != nil {
			return err
		}
	}
	return nil
}
