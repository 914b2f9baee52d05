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

const (
	// MinLifetime and MaxLifetime bound for how long delivery of a mail is tried.
	MinLifetime     = time.Hour
	MaxLifetime     = 60 * 24 * time.Hour
	defaultLifetime = 14 * 24 * time.Hour
	// maxClockOff is by how much clocks may be wrong.
	maxClockOff = 2 * time.Hour
	// defaultRetention and defaultMailLimit hold until the node said what its mesh does.
	defaultRetention = 14 * 24 * time.Hour
	defaultMailLimit = 50 << 20
	// maxMailLimit is the largest limit that is believed: a mail is in memory as a whole.
	maxMailLimit = 1 << 30
	// retentionMargin is how much earlier than the retention envelopes end, so that no
	// node whose clock is off refuses them as too far away.
	retentionMargin = 4 * time.Hour
)

// What the column folder of a mail says: how it came here.
const (
	inbox = 0 // it arrived
	sent  = 1
	filed = 2 // by a mail program, or imported
)

// Send puts a mail into the outbox. When it returns, the mail is on disk for every
// recipient, in the order To, Cc, Bcc. Nothing is sent yet: that is [Account.Sync].
//
// Errors: [NoContactError], [ErrNoRecipient], [SizeError], [ErrLifetime].
func (a *Account) Send(ctx context.Context, d Draft) ([]Outgoing, error) {
	if d.Lifetime == 0 {
		d.Lifetime = defaultLifetime
	}
	if d.Lifetime < MinLifetime || d.Lifetime > MaxLifetime {
		return nil, fmt.Errorf("%v: %w", d.Lifetime, ErrLifetime)
	}
	peers, err := a.peers(ctx, a.db)
	if err != nil {
		return nil, err
	}
	dir := newDirectory(a.ID(), a.name, peers)
	id := randomID()
	raw, recipients, err := a.compose(ctx, dir, id, d)
	if err != nil {
		return nil, err
	}
	view, err := message.Parse(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	m := outMail{id: id, raw: int64(len(raw)), view: view, lifetime: d.Lifetime, skip: headerLength(raw, true)}
	m.shown = message.Sent(raw[:m.skip], dir.asReader)
	m.body, m.flags = raw, 0
	if c, ok := envelope.Compress(raw); ok {
		m.body, m.flags = c, envelope.FlagCompressed
	}
	m.hash = envelope.HashBody(m.body)
	own, err := a.self(ctx, a.db)
	if err != nil {
		return nil, err
	}
	seals := make([]*pair, len(recipients))
	for i, p := range recipients {
		if p.waiting() == "" {
			if seals[i], err = a.outPair(ctx, own, p); err != nil {
				return nil, err
			}
		}
	}
	err = a.write(ctx, func(tx *sql.Tx) error { return a.enqueue(ctx, tx, &m, own, recipients, seals) })
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	return a.Status(ctx, id)
}

// outMail is a mail that is about to enter the outbox.
type outMail struct {
	id       MailID
	hash     envelope.BodyHash
	flags    uint8
	body     []byte // as carried
	raw      int64  // bytes of the message
	shown    []byte // the header that the sender is shown, in place of the first skip bytes
	skip     int
	view     *message.View
	lifetime time.Duration
}

// compose returns the message as it is sent, and its recipients, each once.
func (a *Account) compose(ctx context.Context, dir *directory, id MailID, d Draft) ([]byte, []*peer, error) {
	limit, _ := a.limits(ctx)
	out := &limitedBuffer{limit: limit}
	from := message.Address{Name: a.name, Addr: idAddress(a.ID())}
	messageID := id.String() + "@" + domain
	if d.Raw != nil {
		recipients, err := a.composeRaw(out, dir, d, message.Changes{From: from, Date: a.now(), MessageID: messageID})
		return out.Bytes(), recipients, out.or(err)
	}
	l := message.Letter{From: from, Subject: d.Subject, Date: a.now(), MessageID: messageID, Text: d.Text}
	recipients, err := resolve(dir, d.To, d.Cc, d.Bcc)
	if err != nil {
		return nil, nil, err
	}
	if l.To, err = wireAddresses(dir, d.To); err != nil {
		return nil, nil, err
	}
	if l.Cc, err = wireAddresses(dir, d.Cc); err != nil {
		return nil, nil, err
	}
	for _, f := range d.Attachments {
		l.Attachments = append(l.Attachments, message.Attachment(f))
	}
	if d.Reply != (MailID{}) {
		v, err := a.view(ctx, d.Reply)
		if err != nil {
			return nil, nil, fmt.Errorf("reply to %s: %w", d.Reply, err)
		}
		if v.MessageID != "" {
			l.InReplyTo, l.References = v.MessageID, append(v.References, v.MessageID)
		}
	}
	err = message.Compose(out, l)
	return out.Bytes(), recipients, out.or(err)
}

func (a *Account) composeRaw(w io.Writer, dir *directory, d Draft, c message.Changes) ([]*peer, error) {
	limit, _ := a.limits(context.Background())
	src, err := io.ReadAll(io.LimitReader(d.Raw, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	if int64(len(src)) > limit {
		return nil, &SizeError{Size: int64(len(src)), Limit: limit}
	}
	to := [][]string{d.To, d.Cc, d.Bcc}
	if len(d.To)+len(d.Cc)+len(d.Bcc) == 0 {
		h, err := message.ReadHeader(bytes.NewReader(src))
		if err != nil {
			return nil, err
		}
		to = nil
		for _, list := range [][]message.Address{h.To, h.Cc, h.Bcc} {
			var field []string
			for _, m := range list {
				field = append(field, m.Addr)
			}
			to = append(to, field)
		}
	}
	recipients, err := resolve(dir, to...)
	if err != nil {
		return nil, err
	}
	c.Address = func(m message.Address) (message.Address, error) { return wireAddress(dir, m, false) }
	return recipients, message.Rewrite(w, bytes.NewReader(src), c)
}

// resolve finds the recipients, each once.
func resolve(dir *directory, fields ...[]string) ([]*peer, error) {
	var out []*peer
	seen := make(map[passport.ID]bool)
	for _, field := range fields {
		for _, who := range field {
			addr, err := message.ParseAddress(who)
			if err != nil {
				return nil, fmt.Errorf("recipient %q: %w", message.CleanLine(who), err)
			}
			p, err := dir.find(addr.Addr)
			if err != nil {
				return nil, err
			}
			if !seen[p.id] {
				seen[p.id] = true
				out = append(out, p)
			}
		}
	}
	if len(out) == 0 {
		return nil, ErrNoRecipient
	}
	return out, nil
}

func wireAddresses(dir *directory, list []string) ([]message.Address, error) {
	var out []message.Address
	for _, who := range list {
		m, err := message.ParseAddress(who)
		if err != nil {
			return nil, fmt.Errorf("recipient %q: %w", message.CleanLine(who), err)
		}
		if m, err = wireAddress(dir, m, true); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// wireAddress returns an address as it leaves the device: the passport's id, and a
// display name only if the user wrote one that is not the petname. An address of
// somebody unknown is an error if must is set; else it stays if it cannot be a petname
// of this device.
func wireAddress(dir *directory, m message.Address, must bool) (message.Address, error) {
	p, err := dir.find(m.Addr)
	if err != nil {
		_, id, ours := localPart(m.Addr)
		if must || ours && id.IsZero() {
			return m, err
		}
		return m, nil
	}
	out := message.Address{Addr: idAddress(p.id)}
	if p.self {
		out.Name = p.name
	} else if m.Name != p.name && m.Name != m.Addr {
		out.Name = m.Name
	}
	return out, nil
}

// enqueue stores a mail, its copy among the sent ones and its sealed parts.
func (a *Account) enqueue(ctx context.Context, tx *sql.Tx, m *outMail, own *passport.Passport, recipients []*peer, seals []*pair) error {
	now := a.now()
	me := a.ID()
	r, err := tx.ExecContext(ctx, `INSERT INTO mails (id, folder, sender, mail_id, body_hash, flags, total, count, have,
		certain, received, read, size, subject, date, attachments, message_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, 1, ?, ?, ?, ?, ?)`,
		m.id[:], sent, me[:], m.id[:], m.hash[:], m.flags, len(m.body), envelope.PartCount(int64(len(m.body))), envelope.PartCount(int64(len(m.body))),
		millis(now), m.raw, m.view.Subject, dateOf(m.view, now), len(m.view.Attachments), m.view.MessageID)
	if err != nil {
		return err
	}
	mail, err := r.LastInsertId()
	if err != nil {
		return err
	}
	parts, err := envelope.Split(envelope.KindMail, m.flags, m.id, m.body, passport.Hash{}, passport.Hash{})
	if err != nil {
		return err
	}
	for i, p := range parts {
		if _, err := tx.ExecContext(ctx, "INSERT INTO body VALUES (?, ?, ?)", mail, i, blob(p.Body)); err != nil {
			return err
		}
	}
	if err := toIndex(ctx, tx, mail); err != nil {
		return err
	}
	size, err := keepShown(ctx, tx, mail, m.shown, m.skip, m.raw)
	if err != nil {
		return err
	}
	if err := a.placeSent(ctx, tx, mail, m.id, size, m.view.MessageID); err != nil {
		return err
	}
	for i, p := range recipients {
		r, err := tx.ExecContext(ctx, `INSERT INTO outgoing (mail, mail_id, body_hash, recipient, created, lifetime_end, state, since, reason)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, mail, m.id[:], m.hash[:], p.id[:], millis(now), millis(now.Add(m.lifetime)), Queued, millis(now), p.waiting())
		if err != nil {
			return err
		}
		n, err := r.LastInsertId()
		if err != nil {
			return err
		}
		if err := addHistory(ctx, tx, n, Queued, 0, now, p.waiting()); err != nil {
			return err
		}
		if seals[i] == nil {
			continue
		}
		if err := a.sealParts(ctx, tx, n, parts, own, p, seals[i], now.Add(m.lifetime)); err != nil {
			return err
		}
	}
	return nil
}

// sealParts seals the parts of a mail for one recipient and stores the envelopes in
// place of those that were there.
func (a *Account) sealParts(ctx context.Context, tx *sql.Tx, out int64, parts []*envelope.Part, own *passport.Passport, p *peer, with *pair, end time.Time) error {
	expires := a.expires(ctx, tx, end)
	if _, err := tx.ExecContext(ctx, "DELETE FROM outparts WHERE outgoing = ?", out); err != nil {
		return err
	}
	for i, part := range parts {
		part.SenderTip, part.RecipientTip = own.Tip(), p.pass.Tip()
		e, err := with.sealer.Seal(nil, expires, part)
		if err != nil {
			return fmt.Errorf("seal for %s: %w", p.name, err)
		}
		id := e.ID()
		if _, err := tx.ExecContext(ctx, "INSERT INTO outparts (outgoing, idx, id, envelope) VALUES (?, ?, ?, ?)", out, i, id[:], e.Bytes()); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, "UPDATE outgoing SET sealed_for = ?, expires = ? WHERE n = ?", with.key(), int64(expires), out)
	return err
}

// key says with which shared keys parts were sealed.
func (p *pair) key() []byte { return append(append([]byte(nil), p.own[:]...), p.theirs[:]...) }

// expires returns the end of an envelope that is sealed now for a mail whose lifetime
// ends at end: not before that, whatever the clocks, and no later than the mesh keeps mail.
func (a *Account) expires(ctx context.Context, q querier, end time.Time) passport.Time {
	_, retention := readLimits(ctx, q)
	latest := passport.TimeOf(a.now().Add(retention - retentionMargin))
	wanted := passport.TimeOf(end.Add(maxClockOff + envelope.ExpiresStep*time.Second - time.Second))
	return min(wanted-wanted%envelope.ExpiresStep, latest-latest%envelope.ExpiresStep)
}

// limits returns the largest mail and how long the mesh keeps mail, as the node said last.
func (a *Account) limits(ctx context.Context) (mail int64, retention time.Duration) {
	return readLimits(ctx, a.db)
}

// blob makes an empty body an empty blob instead of NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func dateOf(v *message.View, now time.Time) int64 {
	if v.Date.IsZero() {
		return millis(now)
	}
	return millis(v.Date)
}

// limitedBuffer is a buffer that fails beyond a limit.
type limitedBuffer struct {
	bytes.Buffer
	limit int64
	over  bool
}

var errOver = errors.New("too large")

// Write takes p in, or fails for good.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.over || int64(b.Len())+int64(len(p)) > b.limit {
		b.over = true
		return 0, errOver
	}
	return b.Buffer.Write(p)
}

// or returns the error about the size if that was it, else err.
func (b *limitedBuffer) or(err error) error {
	if b.over {
		return &SizeError{Size: b.limit + 1, Limit: b.limit}
	}
	return err
}
