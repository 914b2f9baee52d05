package account

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// carrying is the body of a mail as its parts carry it.
type carrying struct {
	id    MailID
	hash  envelope.BodyHash
	flags uint8
	total int64
	count int
}

// carryingOf returns the body of a mail that is on its way.
func carryingOf(ctx context.Context, q querier, mail int64) (c carrying, err error) {
	err = q.QueryRowContext(ctx, "SELECT mail_id, body_hash, flags, total, count FROM mails WHERE n = ?", mail).
		Scan(into{c.id[:]}, into{c.hash[:]}, &c.flags, &c.total, &c.count)
	return c, err
}

// part returns a part; piece is what the row of that index holds.
func (c *carrying) part(index int, piece []byte, from, to passport.Hash) *envelope.Part {
	return &envelope.Part{Kind: envelope.KindMail, Flags: c.flags, MailID: c.id, BodyHash: c.hash, Total: uint32(c.total),
		Index: uint16(index), Count: uint16(c.count), SenderTip: from, RecipientTip: to, Body: piece}
}

// inHandBytes bounds how much of a mail need not be sealed a second time when it is handed over
// after it was sealed.
const inHandBytes = 8 << 20

// sealedMail is a mail as it is sealed for one recipient.
type sealedMail struct {
	sealing
	expires   passport.Time
	ids       []envelope.ID
	envelopes [][]byte // the first, as many as inHandBytes allows
}

// sealAll seals a mail for one recipient. pieces calls a function for each piece of the body.
func sealAll(c *carrying, pieces func(func(i int, piece []byte) error) error, own *passport.Passport, p *peer, with *pair, expires passport.Time) (*sealedMail, error) {
	s := &sealedMail{sealing: sealing{from: own.Tip(), to: p.pass.Tip()}, expires: expires, ids: make([]envelope.ID, 0, c.count)}
	rand.Read(s.seed[:])
	room := inHandBytes
	return s, pieces(func(i int, piece []byte) error {
		e, err := s.seal(c, i, piece, with, expires)
		if err != nil {
			return fmt.Errorf("seal for %s: %w", p.name, err)
		}
		s.ids = append(s.ids, e.ID())
		if room -= envelope.HeaderSize + len(e.Sealed); room >= 0 {
			s.envelopes = append(s.envelopes, e.Bytes())
		}
		return nil
	})
}

// store stores the ids of the envelopes in place of those that were there.
func (s *sealedMail) store(ctx context.Context, tx *sql.Tx, out int64) error {
	for i, id := range s.ids {
		if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO outparts (outgoing, idx, id, envelope) VALUES (?, ?, ?, x'')", out, i, id[:]); err != nil {
			return err
		}
	}
	return nil
}

// eachPiece calls fn for the rows of a body, one after the other. No statement is open
// while fn runs.
func eachPiece(ctx context.Context, q querier, mail int64, count int, fn func(i int, piece []byte) error) error {
	for i := range count {
		piece, err := pieceOf(ctx, q, mail, i)
		if err == nil {
			err = fn(i, piece)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func pieceOf(ctx context.Context, q querier, mail int64, index int) (piece []byte, err error) {
	err = q.QueryRowContext(ctx, "SELECT data FROM body WHERE mail = ? AND idx = ?", mail, index).Scan(&piece)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("the mail was removed: %w", ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return blob(piece), nil
}

// sealing is what the envelopes of a mail are made of, the same each time: they are not kept,
// only their ids, so that a mail is on disk once, and not again for each of its recipients.
//
//	seed 32 | sender's tip 16 | recipient's tip 16
type sealing struct {
	seed     [32]byte
	from, to passport.Hash
}

const sealingSize = 32 + 16 + 16

func (s *sealing) bytes() []byte {
	return append(append(append(make([]byte, 0, sealingSize), s.seed[:]...), s.from[:]...), s.to[:]...)
}

func parseSealing(b []byte) (s sealing, err error) {
	if len(b) != sealingSize {
		return s, fmt.Errorf("sealing of a mail: %w", ErrTampered)
	}
	copy(s.seed[:], b)
	copy(s.from[:], b[32:])
	copy(s.to[:], b[48:])
	return s, nil
}

// seal makes the envelope of a part. The ephemeral key follows from the secret seed and
// all that is sealed, so nothing else is ever sealed with it, even if the database was
// changed.
func (s *sealing) seal(c *carrying, index int, piece []byte, with *pair, expires passport.Time) (*envelope.Envelope, error) {
	p := c.part(index, piece, s.from, s.to)
	class := envelope.ClassFor(len(piece))
	if c.count > smallMail { // its last part may be of a smaller class, and is the beginning of that
		class = len(envelope.Sizes) - 1
	}
	if class < 0 {
		return nil, fmt.Errorf("body of a mail on its way: %w", ErrTampered)
	}
	plain, err := p.Encode(envelope.PartSize(class))
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	sum := noise.H32([]byte("ephemeral key of a large mail"), s.seed[:], with.key(), with.sealer.OwnID[:], with.sealer.PeerID[:],
		[]byte{byte(expires >> 24), byte(expires >> 16), byte(expires >> 8), byte(expires)}, plain)
	return with.sealer.Seal(bytes.NewReader(sum[:]), expires, p)
}

// sealAnew draws a new sealing for a mail and keeps the ids of its envelopes: of the same mail id
// and body, so that the recipient knows it for the same mail.
func (a *Account) sealAnew(ctx context.Context, d *due, r *roster, p *peer) error {
	c, err := carryingOf(ctx, a.db, d.mail)
	if err != nil {
		return err
	}
	pieces := func(fn func(int, []byte) error) error { return eachPiece(ctx, a.db, d.mail, c.count, fn) }
	sealed, err := sealAll(&c, pieces, r.own, p, d.with, a.expires(r.limits.retention, d.end))
	if errors.Is(err, ErrNotFound) {
		return a.gone(ctx, d.n)
	}
	if err != nil {
		return err
	}
	err = a.write(ctx, func(tx *sql.Tx) error {
		if s, _, err := stateOf(ctx, tx, d.n); err != nil || s.Final() { // a receipt came meanwhile
			return errors.Join(err, errSettled)
		}
		if err := sealed.store(ctx, tx, d.n); err != nil {
			return err
		}
		a.untried.forget(d.n)
		if _, err := tx.ExecContext(ctx, "UPDATE outgoing SET sealed_for = ?, expires = ?, sealing = ? WHERE n = ?", d.with.key(), int64(sealed.expires), sealed.bytes(), d.n); err != nil {
			return err
		}
		return a.sealedAnew(ctx, tx, d.n)
	})
	if err == nil {
		d.inHand = sealed
	}
	return err
}

// envelopes gives the envelopes of a mail while it is handed over: those in hand, and the others
// made again.
type envelopes struct {
	a       *Account
	d       *due
	index   map[envelope.ID]int
	known   bool // what follows
	stored  bool // as an earlier build did with small mail
	c       carrying
	s       sealing
	expires passport.Time
}

func (a *Account) envelopesOf(d *due) *envelopes {
	e := &envelopes{a: a, d: d, index: make(map[envelope.ID]int, len(d.ids))}
	for i, id := range d.ids {
		e.index[id] = i
	}
	return e
}

// know reads what the envelopes are made of.
func (e *envelopes) know(ctx context.Context) error {
	if e.known {
		return nil
	}
	var sealed, sealing []byte
	var expires int64
	err := e.a.db.QueryRowContext(ctx, "SELECT sealed_for, sealing, expires FROM outgoing WHERE n = ?", e.d.n).Scan(&sealed, &sealing, &expires)
	if err != nil {
		return err
	}
	if !bytes.Equal(e.d.with.key(), sealed) {
		return errSettled // sealed anew meanwhile: the next round knows what to do
	}
	if e.stored = len(sealing) == 0 && !e.d.large(); e.stored {
		e.known = true
		return nil
	}
	e.expires = passport.Time(expires)
	if e.s, err = parseSealing(sealing); err != nil {
		return err
	}
	e.c, err = carryingOf(ctx, e.a.db, e.d.mail)
	e.known = err == nil
	return err
}

// envelope returns the encoded envelope with that id.
func (e *envelopes) envelope(ctx context.Context, id envelope.ID) ([]byte, error) {
	i := e.index[id]
	if in := e.d.inHand; in != nil && i < len(in.envelopes) {
		return in.envelopes[i], nil
	}
	if err := e.know(ctx); err != nil {
		return nil, err
	}
	if e.stored {
		return e.a.storedEnvelope(ctx, e.d.n, id)
	}
	piece, err := pieceOf(ctx, e.a.db, e.d.mail, i)
	if errors.Is(err, ErrNotFound) {
		return nil, e.a.gone(ctx, e.d.n)
	}
	if err != nil {
		return nil, err
	}
	sealed, err := e.s.seal(&e.c, i, piece, e.d.with, e.expires)
	if err != nil {
		return nil, err
	}
	if sealed.ID() != id {
		return nil, fmt.Errorf("body of a mail on its way: %w", ErrTampered)
	}
	return sealed.Bytes(), nil
}
