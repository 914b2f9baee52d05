package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/asmtp/asmtp/passport"
)

// AddContact makes id a contact under name. Its passport may be unknown: mail for it
// then waits until the passport comes from the node. The same name and id again change
// nothing.
func (a *Account) AddContact(ctx context.Context, name string, id passport.ID) (Contact, error) {
	return a.addContact(ctx, name, id, nil)
}

// AddContactExport makes the owner of an exported passport a contact under name.
func (a *Account) AddContactExport(ctx context.Context, name string, export []byte) (Contact, error) {
	p, err := passport.Parse(export)
	if err != nil {
		return Contact{}, fmt.Errorf("contact %q: %w", name, err)
	}
	return a.addContact(ctx, name, p.ID(), p)
}

func (a *Account) addContact(ctx context.Context, name string, id passport.ID, pass *passport.Passport) (Contact, error) {
	if err := checkName(name); err != nil {
		return Contact{}, err
	}
	if id == a.ID() {
		return Contact{}, &ContactError{Name: name, Reason: "this is your own passport"}
	}
	var out Contact
	err := a.write(ctx, func(tx *sql.Tx) error {
		peers, err := a.peers(ctx, tx)
		if err != nil {
			return err
		}
		if err := checkNew(peers, name, id); err != nil {
			return err
		}
		if pass != nil {
			if err := a.mergePassport(ctx, tx, pass); err != nil {
				return err
			}
		}
		if peers[id] == nil {
			if err := a.insertContact(ctx, tx, name, id); err != nil {
				return err
			}
		}
		if peers, err = a.peers(ctx, tx); err != nil {
			return err
		}
		p := peers[id]
		if p.problem != "" {
			return &ContactError{Name: name, Other: p.taken, Reason: p.problem}
		}
		out = contactOf(p)
		if _, err := tx.ExecContext(ctx, "UPDATE outgoing SET next = 0 WHERE recipient = ? AND state = ?", id[:], Queued); err != nil {
			return err
		}
		return a.bumpPeers(ctx, tx)
	})
	return out, err
}

func checkNew(peers map[passport.ID]*peer, name string, id passport.ID) error {
	for _, p := range peers {
		same := strings.EqualFold(p.name, name)
		switch {
		case same && p.self:
			return &ContactError{Name: name, Reason: "this is your own name"}
		case same && p.id != id:
			return &ContactError{Name: name, Other: p.name, Reason: "the name is taken by another contact"}
		case !same && p.id == id:
			return &ContactError{Name: name, Other: p.name, Reason: fmt.Sprintf("the passport is your contact %s already", p.name)}
		}
	}
	return nil
}

func (a *Account) insertContact(ctx context.Context, tx *sql.Tx, name string, id passport.ID) error {
	var tip passport.Hash
	pass, err := a.loadPassport(ctx, tx, id)
	if err != nil {
		return err
	}
	if pass != nil {
		tip = pass.Tip()
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO contacts VALUES (?, ?, 0, ?, ?, ?)",
		id[:], name, tip[:], millis(a.now()), a.contactMAC(id, name, false, tip))
	if err != nil {
		return fmt.Errorf("add contact: %w", err)
	}
	return nil
}

func contactOf(p *peer) Contact {
	return Contact{Name: p.name, Passport: p.id, Verified: p.verified, Waiting: p.pass == nil, Problem: p.problem, Added: p.added}
}

// Contacts returns all contacts by name.
func (a *Account) Contacts(ctx context.Context) ([]Contact, error) {
	r, err := a.roster(ctx)
	if err != nil {
		return nil, err
	}
	var out []Contact
	for _, p := range r.peers {
		if !p.self {
			out = append(out, contactOf(p))
		}
	}
	sort.Slice(out, func(i, j int) bool { return strings.ToLower(out[i].Name) < strings.ToLower(out[j].Name) })
	return out, nil
}

// Contact returns the contact of a name, NAME@asmtp, id or ID@asmtp; else a [NoContactError].
func (a *Account) Contact(ctx context.Context, who string) (Contact, error) {
	p, err := a.findContact(ctx, a.db, who)
	if err != nil {
		return Contact{}, err
	}
	return contactOf(p), nil
}

func (a *Account) findContact(ctx context.Context, q querier, who string) (*peer, error) {
	dir, err := a.directory(ctx, q)
	if err != nil {
		return nil, err
	}
	p, err := dir.find(who)
	if err != nil {
		return nil, err
	}
	if p.self {
		return nil, &NoContactError{Name: who}
	}
	return p, nil
}

// RemoveContact removes a contact: mail from it is not taken any more. Mail that was
// exchanged stays; what is not sent yet waits until the contact is added again.
func (a *Account) RemoveContact(ctx context.Context, who string) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		p, err := a.findContact(ctx, tx, who)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE tagkeys SET gone = 1 WHERE peer = ?", p.id[:]); err != nil {
			return err
		}
		for _, table := range []string{"batches", "receipts"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE peer = ?", p.id[:]); err != nil {
				return err
			}
		}
		if err := a.bumpWatched(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM contacts WHERE id = ?", p.id[:]); err != nil {
			return err
		}
		return a.bumpPeers(ctx, tx)
	})
}

// SetVerified keeps whether the user compared the contact's passport by another way.
func (a *Account) SetVerified(ctx context.Context, who string, verified bool) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		p, err := a.findContact(ctx, tx, who)
		if err != nil {
			return err
		}
		p.verified = verified
		if err := a.updateContact(ctx, tx, p); err != nil {
			return err
		}
		return a.bumpPeers(ctx, tx)
	})
}

// updateContact writes the flags of a contact and the tip of its passport.
func (a *Account) updateContact(ctx context.Context, tx *sql.Tx, p *peer) error {
	var tip passport.Hash
	if p.pass != nil {
		tip = p.pass.Tip()
	}
	_, err := tx.ExecContext(ctx, "UPDATE contacts SET verified = ?, tip = ?, mac = ? WHERE id = ?",
		p.verified, tip[:], a.contactMAC(p.id, p.name, p.verified, tip), p.id[:])
	return err
}

// Import takes an exported passport: a contact's newer chain, or the user's own. It
// returns whose it is.
func (a *Account) Import(ctx context.Context, export []byte) (passport.ID, error) {
	p, err := passport.Parse(export)
	if err != nil {
		return passport.ID{}, fmt.Errorf("import: %w", err)
	}
	err = a.write(ctx, func(tx *sql.Tx) error { return a.mergePassport(ctx, tx, p) })
	return p.ID(), err
}

// mergePassport keeps the longer of what is known and p, and makes mail that waited
// for it due. A fork is an error: the chain seen first stays in force.
func (a *Account) mergePassport(ctx context.Context, tx *sql.Tx, p *passport.Passport) error {
	id := p.ID()
	known, err := a.loadPassport(ctx, tx, id)
	if err != nil {
		return err
	}
	if known != nil {
		merged, err := known.Merge(p)
		if err != nil {
			return fmt.Errorf("passport of %s: %w", id, err)
		}
		if merged == known || merged.Tip() == known.Tip() {
			return nil
		}
		p = merged
	}
	if err := putPassport(ctx, tx, p); err != nil {
		return err
	}
	if err := a.bumpPeers(ctx, tx); err != nil {
		return err
	}
	var c peer
	err = tx.QueryRowContext(ctx, "SELECT id, name, verified FROM contacts WHERE id = ?", id[:]).Scan(into{c.id[:]}, &c.name, &c.verified)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	c.pass = p
	if err := a.updateContact(ctx, tx, &c); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE outgoing SET next = 0 WHERE recipient = ? AND state = ?", id[:], Queued)
	return err
}
