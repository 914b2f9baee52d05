package account

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// SealKey makes a key file's content with a work factor.
func SealKey(content []byte, passphrase string, work int) ([]byte, error) {
	return sealKey(content, passphrase, work)
}

// Secrets returns what must not be on disk.
func (a *Account) Secrets() [][]byte {
	return [][]byte{a.secrets.master.Bytes(), a.secrets.database[:]}
}

// Exec changes the database behind the account's back.
func (a *Account) Exec(ctx context.Context, query string, args ...any) error {
	_, err := a.db.ExecContext(ctx, query, args...)
	return err
}

// Count returns the number that a query gives.
func (a *Account) Count(ctx context.Context, query string, args ...any) (n int, err error) {
	return n, a.db.QueryRowContext(ctx, query, args...).Scan(&n)
}

// Envelopes returns the sealed parts of a mail on its way to its first recipient.
func (a *Account) Envelopes(ctx context.Context, id MailID) (list [][]byte, err error) {
	r, err := a.roster(ctx)
	if err != nil {
		return nil, err
	}
	var all []*due
	err = each(ctx, a.db, "SELECT o.n, o.mail, m.count, o.recipient FROM outgoing o JOIN mails m ON m.n = o.mail WHERE o.mail_id = ? AND o.state < ? AND o.sealed_for <> x'' ORDER BY o.n", []any{id[:], Unconfirmed}, func(rows *sql.Rows) error {
		d := new(due)
		all = append(all, d)
		return rows.Scan(&d.n, &d.mail, &d.parts, into{d.to[:]})
	})
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		if d.with, err = a.outPair(ctx, r.own, r.peers[d.to]); err != nil {
			return nil, err
		}
		if d.ids, err = a.envelopeIDs(ctx, d); err != nil {
			return nil, err
		}
		e := a.envelopesOf(d)
		for _, id := range d.ids {
			b, err := e.envelope(ctx, id)
			if err != nil {
				return nil, err
			}
			list = append(list, b)
		}
	}
	return list, nil
}

// Take takes in envelopes as if a node had delivered them.
func (a *Account) Take(ctx context.Context, envelopes ...[]byte) ([]Summary, error) {
	o, err := a.newOpener(ctx)
	if err != nil {
		return nil, err
	}
	var batch []delivery
	for i, e := range envelopes {
		batch = append(batch, delivery{number: uint64(i + 1), envelope: e})
	}
	t, err := a.take(ctx, o, noise.PublicKey{1}, 1, batch, nil)
	return t.mails, err
}

// Receipts returns the sealed receipts that wait to be sent.
func (a *Account) Receipts(ctx context.Context) (list [][]byte, err error) {
	if err := a.sealReceipts(ctx); err != nil {
		return nil, err
	}
	batches, err := a.dueBatches(ctx, nil)
	for _, b := range batches {
		list = append(list, b.envelope)
	}
	return list, err
}

// SealPart seals a part for a contact, whatever is in it.
func (a *Account) SealPart(ctx context.Context, to passport.ID, p *envelope.Part) ([]byte, error) {
	own, err := a.self(ctx, a.db)
	if err != nil {
		return nil, err
	}
	peers, err := a.peers(ctx, a.db)
	if err != nil {
		return nil, err
	}
	with, err := a.outPair(ctx, own, peers[to])
	if err != nil {
		return nil, err
	}
	e, err := with.sealer.Seal(nil, a.expires(readLimits(ctx, a.db).retention, a.now().Add(defaultLifetime)), p)
	if err != nil {
		return nil, err
	}
	return e.Bytes(), nil
}

// Rotate replaces the own shared key.
func (a *Account) Rotate(ctx context.Context) error {
	own, err := a.self(ctx, a.db)
	if err != nil {
		return err
	}
	next, _, err := own.Change(nil, a.secrets.master, passport.TimeOf(a.now()), passport.Change{Rotate: true})
	if err != nil {
		return err
	}
	return a.write(ctx, func(tx *sql.Tx) error { return a.mergePassport(ctx, tx, next) })
}

// Advance reports a state as confirmed.
func (a *Account) Advance(ctx context.Context, id MailID, to State) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		var n int64
		if err := tx.QueryRowContext(ctx, "SELECT n FROM outgoing WHERE mail_id = ?", id[:]).Scan(&n); err != nil {
			return err
		}
		_, err := a.advance(ctx, tx, n, to, "test")
		return err
	})
}

// SetMailFloor sets up to which size mail is always taken in.
func (a *Account) SetMailFloor(size int64) { a.mailFloor = size }

// SetLimits sets what the node said last.
func (a *Account) SetLimits(ctx context.Context, mail int64) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		var node noise.PublicKey
		if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO nodes (key, address) VALUES (?, '')", node[:]); err != nil {
			return err
		}
		return a.saveLimits(ctx, tx, node, mail, defaultRetention)
	})
}

// BodyHash returns the hash that the parts of a sent mail carry.
func (a *Account) BodyHash(ctx context.Context, id MailID) (h envelope.BodyHash, err error) {
	return h, a.db.QueryRowContext(ctx, "SELECT body_hash FROM outgoing WHERE mail_id = ?", id[:]).Scan(into{h[:]})
}

// Columns returns what the schema is made of: tables with their columns, indexes, triggers.
func (a *Account) Columns(ctx context.Context) (map[string]bool, error) {
	list := make(map[string]bool)
	return list, each(ctx, a.db, `SELECT m.type || ' ' || m.name || ' ' || coalesce(c.name || ' ' || c.type || ' ' || c."notnull" || ' ' || coalesce(c.dflt_value, ''), '')
		FROM sqlite_schema m LEFT JOIN pragma_table_info(m.name) c ON m.type = 'table'`, nil, func(rows *sql.Rows) error {
		var text string
		err := rows.Scan(&text)
		list[text] = true
		return err
	})
}

// SetHeld takes in what a node says about a mail.
func (a *Account) SetHeld(ctx context.Context, id MailID, node byte, held int) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		c := custodyChange{held: held}
		if err := tx.QueryRowContext(ctx, "SELECT o.n, p.id FROM outgoing o JOIN outparts p ON p.outgoing = o.n WHERE o.mail_id = ?", id[:]).Scan(&c.n, into{c.id[:]}); err != nil {
			return err
		}
		return a.setHeld(ctx, tx, noise.PublicKey{node}, c)
	})
}

// Watched returns the version of the list of envelopes that are watched, and the list.
func (a *Account) Watched(ctx context.Context) (version string, ids []envelope.ID, err error) {
	v, err := getMeta(ctx, a.db, metaWatched)
	if err != nil {
		return "", nil, err
	}
	_, ids, err = a.watchList(ctx, noise.PublicKey{})
	return string(v), ids, err
}

// Watching is what one node was asked about, as of some time.
type Watching struct {
	a    *Account
	node noise.PublicKey
	w    *watched
}

// Watch asks a node about all that is on its way.
func (a *Account) Watch(ctx context.Context, node byte) (*Watching, error) {
	key := noise.PublicKey{node}
	w, _, err := a.watchList(ctx, key)
	return &Watching{a, key, w}, err
}

// Say takes in what the node says about an envelope.
func (w *Watching) Say(ctx context.Context, id envelope.ID, holders int) error {
	c, changed := w.w.count(id, holders)
	if !changed {
		return nil
	}
	return w.a.write(ctx, func(tx *sql.Tx) error { return w.a.setHeld(ctx, tx, w.node, c) })
}

// Expires returns the end of a mail's envelopes.
func (a *Account) Expires(ctx context.Context, id MailID) (time.Time, error) {
	var end int64
	err := a.db.QueryRowContext(ctx, "SELECT expires FROM outgoing WHERE mail_id = ?", id[:]).Scan(&end)
	return passport.Time(end).Time(), err
}

// Forked returns another continuation of the own passport than [Account.Rotate] makes.
func (a *Account) Forked(ctx context.Context) (*passport.Passport, error) {
	own, err := a.self(ctx, a.db)
	if err != nil {
		return nil, err
	}
	next, _, err := own.Change(nil, a.secrets.master, passport.TimeOf(a.now()), passport.Change{Rotate: true})
	return next, err
}

// TakeForeign takes in a passport as if a node had told of it.
func (a *Account) TakeForeign(ctx context.Context, p *passport.Passport) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		return a.mergeForeign(ctx, tx, clientapi.PassportChange{ID: p.ID(), Passport: p})
	})
}

// Dir returns the directory of the account.
func (a *Account) Dir() string { return a.dir }

// Write runs a statement in a write, which then fails with err.
func (a *Account) Write(ctx context.Context, query string, result error) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, query); err != nil {
			return err
		}
		return result
	})
}

// HoldCompletion keeps large mails from being checked until release is called.
func (a *Account) HoldCompletion() (release func()) {
	a.completing <- struct{}{}
	return func() { <-a.completing }
}

// KnowsRoster reports whether contacts are looked up without asking the database.
func (a *Account) KnowsRoster() bool { return a.knownRoster() != nil }

// Delivery is what a node delivers: without a number while it is still storing it, and
// without the envelope when the number follows.
type Delivery struct {
	Number   uint64
	ID       envelope.ID
	Envelope []byte
}

// Mailbox takes in deliveries of a node as one call of receive does.
type Mailbox struct {
	a    *Account
	node Node
	in   *intake
}

func (a *Account) Mailbox(n Node) *Mailbox {
	return &Mailbox{a, n, &intake{early: make(map[envelope.ID]earlyEnvelope)}}
}

// Take takes in a batch. It returns the mails that are shown by it, what may be acknowledged
// by now, and from where the mailbox would be read again.
func (m *Mailbox) Take(ctx context.Context, list ...Delivery) (mails []Summary, acks []uint64, from uint64, err error) {
	var batch []delivery
	for _, d := range list {
		batch = append(batch, delivery{number: d.Number, id: d.ID, envelope: d.Envelope})
	}
	if batch, err = m.in.settle(batch); err != nil {
		return nil, nil, 0, err
	}
	o, err := m.a.newOpener(ctx)
	if err != nil {
		return nil, nil, 0, err
	}
	t, err := m.a.take(ctx, o, m.node.Key, 1, batch, nil)
	if err != nil {
		return nil, nil, 0, err
	}
	m.in.settled(batch, &t)
	err = each(ctx, m.a.db, "SELECT number FROM acks WHERE node = ? ORDER BY number", []any{m.node.Key[:]}, func(rows *sql.Rows) error {
		var n uint64
		err := rows.Scan(&n)
		acks = append(acks, n)
		return err
	})
	if err != nil {
		return nil, nil, 0, err
	}
	at, err := m.a.place(ctx, m.node)
	return t.mails, acks, at.small, err
}

// PretendLink makes the account take a node for connected.
func (a *Account) PretendLink() { a.links.Add(1) }

// Fresh is mail as it is handed over, by the rows of the outbox.
type Fresh struct{ list []*due }

// TakeFresh takes what just entered the outbox.
func (a *Account) TakeFresh() (f Fresh, more bool) {
	f.list, more = a.fresh.take()
	return f, more
}

// FindDue looks for what is due.
func (a *Account) FindDue(ctx context.Context) (f Fresh, err error) {
	f.list, err = a.dueMail(ctx, selection{first: true})
	return f, err
}

// Offer returns which of the mails are to be handed over.
func (a *Account) Offer(ctx context.Context, f Fresh) (left []MailID, err error) {
	list, err := a.offer(ctx, slices.Clone(f.list))
	for _, d := range list {
		left = append(left, d.id)
	}
	return left, err
}

// Mark says whether the mails were not looked for.
func (f Fresh) Mark(fresh bool) {
	for _, d := range f.list {
		d.fresh = fresh
	}
}
