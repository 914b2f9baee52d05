package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/message"
)

const (
	// readBatch and readBytes bound what ReadPlaces holds at a time.
	readBatch = 256
	readBytes = 1 << 20
	// enoughHeader is how much of a message tells where its header ends, however long that
	// is: more than what a header may have, see message.HeaderLength.
	enoughHeader = 256<<10 + 1
)

// stored is what is needed to read a mail.
type stored struct {
	mail  int64
	flags uint8
	count int   // pieces of the body
	size  int64 // of the message as carried
	skip  int64 // how much of it the header replaces
	shown []byte
}

const storedColumns = "m.n, m.flags, m.count, m.size, coalesce(s.skip, 0), s.header"

func (s *stored) fields() []any {
	return []any{&s.mail, &s.flags, &s.count, &s.size, &s.skip, &s.shown}
}

// carried reads the message as it was carried, in little memory.
func (s *stored) carried(ctx context.Context, a *Account) (io.ReadCloser, error) {
	body := &bodyReader{ctx: ctx, a: a, mail: s.mail, count: s.count}
	if s.flags&envelope.FlagCompressed == 0 {
		return io.NopCloser(body), nil
	}
	return envelope.NewDecompressor(body, s.size)
}

// present returns a message as it is presented, of the message as carried.
func (s *stored) present(raw []byte) (header, whole []byte) {
	if len(s.shown) == 0 {
		return raw[:message.HeaderLength(raw, true)], raw
	}
	whole = make([]byte, 0, len(s.shown)+len(raw))
	whole = append(append(whole, s.shown...), raw[min(s.skip, int64(len(raw))):]...)
	return whole[:len(s.shown)], whole
}

// unpack returns the message of a body as carried.
func (s *stored) unpack(body []byte) ([]byte, error) {
	if s.flags&envelope.FlagCompressed == 0 {
		return body, nil
	}
	return envelope.Decompress(body, s.size)
}

// ReadPlaces calls fn for those of the messages that are there, in the order of uids. It
// is the fast way to read many: header is the header as it is presented, with the empty
// line at its end; body is the whole message if bodies is set and it has at most 256 KiB,
// else nil. fn keeps neither. No transaction is open while fn runs.
func (a *Account) ReadPlaces(ctx context.Context, folder int64, uids []uint32, bodies bool, fn func(p Place, header, body []byte) error) error {
	for len(uids) > 0 {
		batch, used, err := a.readBatch(ctx, folder, uids[:min(len(uids), readBatch)], bodies)
		if err != nil {
			return err
		}
		for _, r := range batch {
			header, whole, err := a.open(ctx, folder, r, bodies)
			if err != nil {
				return err
			}
			if err := fn(r.place(), header, whole); err != nil {
				return err
			}
		}
		uids = uids[used:]
	}
	return nil
}

// readRow is a message of a batch. body is that of a mail of one part, else nil.
type readRow struct {
	placeRow
	stored
	body []byte
}

// readBatch reads messages until it has enough; used is how many of the UIDs it did.
func (a *Account) readBatch(ctx context.Context, folder int64, uids []uint32, bodies bool) (batch []*readRow, used int, err error) {
	size := 0
	used = len(uids)
	err = each(ctx, a.db, "SELECT j.key, "+placeColumns+", "+storedColumns+`, CASE WHEN m.count = 1 AND (?3 OR s.header IS NULL) THEN b.data END
		FROM json_each(?1) j CROSS JOIN places p ON p.folder = ?2 AND p.uid = j.value JOIN mails m ON m.n = p.mail
		LEFT JOIN shown s ON s.mail = p.mail LEFT JOIN body b ON b.mail = p.mail AND b.idx = 0 ORDER BY j.key`, []any{uidList(uids), folder, bodies}, func(rows *sql.Rows) error {
		if size >= readBytes {
			return errEnoughRead
		}
		var key int
		r := new(readRow)
		if err := rows.Scan(append(append(append([]any{&key}, r.placeRow.fields()...), r.stored.fields()...), &r.body)...); err != nil {
			return err
		}
		batch, used = append(batch, r), key+1
		size += len(r.body) + len(r.shown)
		return nil
	})
	if errors.Is(err, errEnoughRead) {
		return batch, used, nil
	}
	return batch, len(uids), err
}

var errEnoughRead = errors.New("enough for one batch")

// open returns the header of a message, and all of it if it was asked for and is small.
func (a *Account) open(ctx context.Context, folder int64, r *readRow, bodies bool) (header, whole []byte, err error) {
	if !bodies && len(r.shown) > 0 {
		return r.shown, nil, nil
	}
	if r.p.Size > maxWhole {
		in, err := a.OpenPlace(ctx, folder, r.p.UID)
		if err != nil {
			return nil, nil, err
		}
		defer in.Close()
		return in.Header(), nil, nil
	}
	if r.body == nil {
		if r.body, err = readBody(ctx, a.db, r.mail); err != nil {
			return nil, nil, err
		}
	}
	raw, err := r.unpack(r.body)
	if err != nil {
		return nil, nil, fmt.Errorf("mail %s: %w", r.p.Mail, err)
	}
	if header, whole = r.present(raw); !bodies {
		whole = nil
	}
	return header, whole, nil
}

// OpenPlace opens a message for reading in pieces.
func (a *Account) OpenPlace(ctx context.Context, folder int64, uid uint32) (*MessageReader, error) {
	m := &MessageReader{a: a}
	err := a.db.QueryRowContext(ctx, "SELECT p.size, "+storedColumns+" FROM places p JOIN mails m ON m.n = p.mail LEFT JOIN shown s ON s.mail = m.n WHERE p.folder = ? AND p.uid = ?", folder, uid).
		Scan(append([]any{&m.size}, m.stored.fields()...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("message %d: %w", uid, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return m, m.ready()
}

// openMail opens a mail as OpenPlace does.
func (a *Account) openMail(ctx context.Context, mail int64) (*MessageReader, error) {
	m := &MessageReader{a: a}
	err := a.db.QueryRowContext(ctx, "SELECT "+storedColumns+" FROM mails m LEFT JOIN shown s ON s.mail = m.n WHERE m.n = ?", mail).Scan(m.stored.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("mail %d: %w", mail, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	m.size = m.stored.size - m.skip + int64(len(m.shown))
	return m, m.ready()
}

// ready finds the header, if it was not made.
func (m *MessageReader) ready() error {
	if m.shown != nil {
		return nil
	}
	err := m.findHeader()
	if err != nil {
		m.Close()
	}
	return err
}

// MessageReader reads a message as it is presented. It holds no transaction and no
// connection between calls, so it may stay open for long; if the message is removed
// meanwhile, reading fails with an error that wraps [ErrNotFound].
type MessageReader struct {
	stored
	a    *Account
	size int64
	at   int64 // of the presented message

	raw   io.ReadCloser // the message as carried; nil before it is needed
	rawAt int64
}

// findHeader reads the header of a message that is presented as it is carried.
func (m *MessageReader) findHeader() error {
	head := make([]byte, min(m.stored.size, 16<<10))
	for {
		if err := m.seekRaw(0); err != nil {
			return err
		}
		n, err := io.ReadFull(m.raw, head)
		m.rawAt += int64(n)
		if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
			return err
		}
		whole := int64(n) == m.stored.size
		if l := message.HeaderLength(head[:n], whole); l > 0 || whole || n == enoughHeader {
			m.shown, m.skip = head[:l:l], int64(l)
			return nil
		}
		head = make([]byte, min(m.stored.size, enoughHeader))
	}
}

// Header returns the header, with the empty line at its end. It must not be changed.
func (m *MessageReader) Header() []byte { return m.shown }

// Size returns how many bytes the message has.
func (m *MessageReader) Size() int64 { return m.size }

// Read reads on in the message.
func (m *MessageReader) Read(p []byte) (int, error) {
	if m.at < int64(len(m.shown)) {
		n := copy(p, m.shown[m.at:])
		m.at += int64(n)
		return n, nil
	}
	if m.at >= m.size {
		return 0, io.EOF
	}
	if err := m.seekRaw(m.at - int64(len(m.shown)) + m.skip); err != nil {
		return 0, err
	}
	n, err := m.raw.Read(p)
	m.rawAt, m.at = m.rawAt+int64(n), m.at+int64(n)
	if err == io.EOF && m.at < m.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// SkipTo goes on reading at an offset. Going on is cheap, going back reads anew.
func (m *MessageReader) SkipTo(offset int64) error {
	if offset < 0 || offset > m.size {
		return fmt.Errorf("offset %d of a message of %d bytes", offset, m.size)
	}
	m.at = offset
	return nil
}

// seekRaw brings raw to an offset of the message as carried.
func (m *MessageReader) seekRaw(to int64) error {
	if m.raw == nil || to < m.rawAt {
		m.Close()
		raw, err := m.carried(context.Background(), m.a)
		if err != nil {
			return err
		}
		m.raw, m.rawAt = raw, 0
	}
	n, err := io.CopyN(io.Discard, m.raw, to-m.rawAt)
	m.rawAt += n
	if err != nil {
		return fmt.Errorf("read a message: %w", err)
	}
	return nil
}

// Close frees what reading needs.
func (m *MessageReader) Close() error {
	if m.raw != nil {
		m.raw.Close()
		m.raw = nil
	}
	return nil
}

// bodyReader reads the body of a mail as its parts carry it, a part at a time.
type bodyReader struct {
	ctx   context.Context
	a     *Account
	mail  int64
	count int
	next  int
	left  []byte
}

// Read reads on in the body.
func (b *bodyReader) Read(p []byte) (n int, err error) {
	for len(b.left) == 0 {
		if b.next == b.count {
			return 0, io.EOF
		}
		if b.left, err = pieceOf(b.ctx, b.a.db, b.mail, b.next); err != nil {
			return 0, err
		}
		b.next++
	}
	n = copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}
