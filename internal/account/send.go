package account

import (
	"bytes"
	"context"
	"database/sql"
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
	// sealedBefore is how many bytes of small mail are sealed at most before the outbox is
	// written: a copy for each recipient.
	sealedBefore = 1 << 20
	// maxClockOff is by how much clocks may be wrong.
	maxClockOff = 2 * time.Hour
	// defaultRetention and defaultMailLimit hold until the node said what its mesh does.
	defaultRetention = 14 * 24 * time.Hour
	defaultMailLimit = 50 << 20
	// maxMailLimit is the largest limit that is believed.
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
// recipient, in the order To, Cc, Bcc, or that of the envelope. Nothing is sent yet: that
// is [Account.Sync]. A large mail takes a few megabytes of memory.
//
// Errors: [NoContactError], [ErrNoRecipient], [SizeError], [ErrLifetime], and those of
// what the draft reads from.
func (a *Account) Send(ctx context.Context, d Draft) ([]Outgoing, error) {
	if d.Lifetime == 0 {
		d.Lifetime = defaultLifetime
	}
	if d.Lifetime < MinLifetime || d.Lifetime > MaxLifetime {
		return nil, fmt.Errorf("%v: %w", d.Lifetime, ErrLifetime)
	}
	r := a.knownRoster()
	if r == nil {
		var err error
		if r, err = a.roster(ctx); err != nil {
			return nil, err
		}
	}
	dir := r.dir
	m := &outMail{roster: r, id: randomID(), now: a.now(), lifetime: d.Lifetime, envID: d.EnvID}
	s := a.newStager(ctx, sent, r.limits.mail)
	if err := a.compose(ctx, s, dir, m, d); err != nil {
		s.drop()
		return nil, s.cause(err)
	}
	staged, err := s.finish()
	if err != nil {
		return nil, err
	}
	m.staged = staged
	by := message.SentBy{Show: dir.asReader}
	for _, to := range m.to {
		by.To = append(by.To, idAddress(to.id))
	}
	m.shown = message.Sent(m.head, by)
	out, err := a.sendStaged(ctx, m)
	if err != nil && m.mail != 0 {
		a.unstage(ctx, m.mail)
	}
	return out, err
}

// outMail is a mail that is about to enter the outbox.
type outMail struct {
	*staged
	id       MailID
	now      time.Time
	lifetime time.Duration
	envID    string
	shown    []byte // the header that the sender is shown
	to       []recipient
	roster   *roster
}

// recipient is one that a mail goes to.
type recipient struct {
	*peer
	notify message.Notify
	orcpt  string
	with   *pair       // to seal with; nil if the mail has to wait
	sealed *sealedMail // nil if it has to wait or is large, or much is to be sealed
}

// sendStaged makes a mail of what was composed.
func (a *Account) sendStaged(ctx context.Context, m *outMail) (out []Outgoing, err error) {
	for i := range m.to {
		to := &m.to[i]
		if to.waiting() != "" {
			continue
		}
		if to.with, err = a.outPair(ctx, m.roster.own, to.peer); err != nil {
			return nil, err
		}
		// Before the transaction, which others wait for, if that takes little memory.
		if m.count <= smallMail && m.total*int64(len(m.to)) <= sealedBefore {
			if to.sealed, err = a.seal(ctx, a.db, m, to); err != nil {
				return nil, err
			}
		}
	}
	err = a.write(ctx, func(tx *sql.Tx) error {
		out, err = a.enqueue(ctx, tx, m)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	return out, nil
}

// compose writes the message as it is sent to w, and finds its recipients, each once.
func (a *Account) compose(ctx context.Context, w io.Writer, dir *directory, m *outMail, d Draft) (err error) {
	from := message.Address{Name: a.name, Addr: idAddress(a.ID())}
	messageID := m.id.String() + "@" + domain
	if d.Raw != nil {
		return a.composeRaw(w, dir, m, d, message.Changes{From: from, Date: m.now, MessageID: messageID})
	}
	l := message.Letter{From: from, Subject: d.Subject, Date: m.now, MessageID: messageID, Text: d.Text}
	if m.to, err = d.recipients(dir, d.To, d.Cc, d.Bcc); err != nil {
		return err
	}
	if l.To, err = wireAddresses(dir, d.To); err != nil {
		return err
	}
	if l.Cc, err = wireAddresses(dir, d.Cc); err != nil {
		return err
	}
	for _, f := range d.Attachments {
		l.Attachments = append(l.Attachments, message.Attachment(f))
	}
	if d.Reply != (MailID{}) {
		v, err := a.view(ctx, d.Reply)
		if err != nil {
			return fmt.Errorf("reply to %s: %w", d.Reply, err)
		}
		if v.MessageID != "" {
			l.InReplyTo, l.References = v.MessageID, append(v.References, v.MessageID)
		}
	}
	return message.Compose(w, l)
}

func (a *Account) composeRaw(w io.Writer, dir *directory, m *outMail, d Draft, c message.Changes) (err error) {
	src, to := d.Raw, [][]string{d.To, d.Cc, d.Bcc}
	if len(d.Recipients)+len(d.To)+len(d.Cc)+len(d.Bcc) == 0 {
		var read bytes.Buffer // the header, and a little more
		h, err := message.ReadHeader(io.TeeReader(d.Raw, &read))
		if err != nil {
			return err
		}
		src, to = io.MultiReader(&read, d.Raw), nil
		for _, list := range [][]message.Address{h.To, h.Cc, h.Bcc} {
			var field []string
			for _, m := range list {
				field = append(field, m.Addr)
			}
			to = append(to, field)
		}
	}
	if m.to, err = d.recipients(dir, to...); err != nil {
		return err
	}
	c.Address = func(m message.Address) (message.Address, error) { return wireAddress(dir, m, false) }
	return message.Rewrite(w, src, c)
}

// recipients returns to whom a draft goes: those of its envelope, or else the given ones.
func (d *Draft) recipients(dir *directory, fields ...[]string) ([]recipient, error) {
	if len(d.Recipients) == 0 {
		peers, err := resolve(dir, fields...)
		var out []recipient
		for _, p := range peers {
			out = append(out, recipient{peer: p, notify: d.Notify})
		}
		return out, err
	}
	var out []recipient
	of := make(map[passport.ID]int)
	for _, r := range d.Recipients {
		peers, err := resolve(dir, []string{r.Address})
		if err != nil {
			return nil, err
		}
		if r.Notify == 0 {
			r.Notify = d.Notify
		}
		p := peers[0]
		if i, ok := of[p.id]; ok { // what any of its names asked for
			out[i].notify |= r.Notify
			continue
		}
		of[p.id] = len(out)
		out = append(out, recipient{peer: p, notify: r.Notify, orcpt: r.ORCPT})
	}
	return out, nil
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

// enqueue stores a mail, its copy among the sent ones and, if it is small, how it is sealed.
// A large one is sealed when it is handed over.
func (a *Account) enqueue(ctx context.Context, tx *sql.Tx, m *outMail) ([]Outgoing, error) {
	mail, err := m.keep(ctx, tx, a, sent, m.id, m.hash, a.idBytes())
	if err != nil {
		return nil, err
	}
	if err := toIndex(ctx, tx, mail); err != nil {
		return nil, err
	}
	size, err := keepShown(ctx, tx, mail, m.shown, len(m.head), m.size)
	if err != nil {
		return nil, err
	}
	if err := a.placeSent(ctx, tx, mail, m.id, size, m.view.MessageID); err != nil {
		return nil, err
	}
	var out []Outgoing
	for _, to := range m.to {
		if to.with != nil && to.sealed == nil && m.count <= smallMail {
			if to.sealed, err = a.seal(ctx, tx, m, &to); err != nil {
				return nil, err
			}
		}
		n, err := a.enqueueFor(ctx, tx, m, mail, to)
		if err != nil {
			return nil, err
		}
		o := Outgoing{ID: m.id, To: to.name, Passport: to.id, Subject: m.view.Subject, Size: m.size, Since: m.now, Reason: to.waiting(), Created: m.now,
			History: []Change{{State: Queued, Time: m.now, Note: to.waiting()}}}
		if m.count > smallMail {
			a.touch(changedLarge)
		}
		if to.sealed != nil {
			o.Envelopes = to.sealed.ids
			if err := to.sealed.store(ctx, tx, n); err != nil {
				return nil, err
			}
		}
		out = append(out, o)
	}
	return out, nil
}

// enqueueFor makes the row of a mail on its way to one recipient. With a node to which it
// goes at once it counts as offered from the beginning: to note that later is one more
// transaction.
func (a *Account) enqueueFor(ctx context.Context, tx *sql.Tx, m *outMail, mail int64, to recipient) (int64, error) {
	now, end := millis(m.now), millis(m.now.Add(m.lifetime))
	atOnce := to.sealed != nil && a.links.Load() > 0
	sealedFor, expires, sealing := []byte{}, passport.Time(0), []byte{}
	if to.sealed != nil {
		sealedFor, expires, sealing = to.with.key(), to.sealed.expires, to.sealed.bytes()
	}
	r, err := tx.ExecContext(ctx, `INSERT INTO outgoing (mail, mail_id, body_hash, recipient, created, lifetime_end, state, since, reason, notify, envid, orcpt, offered, sealed_for, expires, sealing)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, mail, m.id[:], m.hash[:], to.id[:], now, end, Queued, now, to.waiting(),
		to.notify, m.envID, to.orcpt, atOnce, sealedFor, int64(expires), sealing)
	if err != nil {
		return 0, err
	}
	n, err := r.LastInsertId()
	if err != nil {
		return 0, err
	}
	if atOnce {
		a.untried.put(n, m.id, to.sealed)
		d := &due{n: n, id: m.id, state: Queued, parts: m.count, size: m.total, mail: mail, to: to.id, sealed: sealedFor, expires: expires, end: fromMillis(end), offered: true, fresh: true}
		a.onCommit(func() { a.fresh.add(d) })
		a.touch(changedFresh)
	} else {
		a.touch(changedDue)
	}
	return n, addHistory(ctx, tx, n, Queued, 0, m.now, to.waiting())
}

// seal seals a small mail for one of its recipients.
func (a *Account) seal(ctx context.Context, q querier, m *outMail, to *recipient) (*sealedMail, error) {
	pieces := m.each
	if m.mail != 0 {
		pieces = func(fn func(int, []byte) error) error { return eachPiece(ctx, q, m.mail, m.count, fn) }
	}
	c := &carrying{id: m.id, hash: m.hash, flags: m.flags, total: m.total, count: m.count}
	return sealAll(c, pieces, m.roster.own, to.peer, to.with, a.expires(m.roster.limits.retention, m.now.Add(m.lifetime)))
}

// key says with which shared keys parts were sealed.
func (p *pair) key() []byte { return append(append([]byte(nil), p.own[:]...), p.theirs[:]...) }

// expires returns the end of an envelope that is sealed now for a mail whose lifetime
// ends at end: not before that, whatever the clocks, and no later than the mesh keeps mail.
func (a *Account) expires(retention time.Duration, end time.Time) passport.Time {
	latest := passport.TimeOf(a.now().Add(retention - retentionMargin))
	wanted := passport.TimeOf(end.Add(maxClockOff + envelope.ExpiresStep*time.Second - time.Second))
	return min(wanted-wanted%envelope.ExpiresStep, latest-latest%envelope.ExpiresStep)
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
