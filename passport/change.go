package passport

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/asmtp/asmtp/noise"
)

var (
	// ErrNoChange is the error for a [Change] that changes nothing.
	ErrNoChange = errors.New("nothing to change")
	// ErrClock is wrapped by the errors for a registration made so far in the future
	// that one of the two devices must have a wrong clock. Writing it would move the
	// time of the passport ahead for good.
	ErrClock = errors.New("clocks of the devices differ")
)

// NewAlias draws an alias for a device, 16 hex digits that mean nothing: what is in
// a passport everybody can read. random nil means crypto/rand.
func NewAlias(random io.Reader) (string, error) {
	if random == nil {
		random = rand.Reader
	}
	var b [8]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("draw an alias: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// Create makes a passport of one block: it registers master under a random alias and
// sets a new shared key, whose secret it returns too. random nil means crypto/rand.
func Create(random io.Reader, master *noise.PrivateKey, now Time) (*Passport, *noise.SharedPrivate, error) {
	alias, err := NewAlias(random)
	if err != nil {
		return nil, nil, fmt.Errorf("create passport: %w", err)
	}
	return create(random, master, alias, now, noise.EmptyPassphrasePSK)
}

func create(random io.Reader, master *noise.PrivateKey, alias string, now Time, psk [noise.SeedSize]byte) (*Passport, *noise.SharedPrivate, error) {
	r, err := RequestRegistration(ID{}, master, alias, now)
	if err != nil {
		return nil, nil, fmt.Errorf("create passport: %w", err)
	}
	set, secret, err := shield(random, now, []noise.PublicKey{master.Public()}, psk)
	if err != nil {
		return nil, nil, fmt.Errorf("create passport: %w", err)
	}
	b, err := signBlock(master, now, Hash{}, []Entry{r, set})
	if err != nil {
		return nil, nil, fmt.Errorf("create passport: %w", err)
	}
	p, err := New(b)
	if err != nil {
		return nil, nil, fmt.Errorf("create passport: %w", err)
	}
	return p, secret, nil
}

// Change is what one new block does, in this order.
type Change struct {
	// Register adds devices; see [RequestRegistration].
	Register []Register
	// Deregister removes devices. Without Rotate a removed one still holds the
	// current shared key, which is tainted from then on.
	Deregister []noise.PublicKey
	// Rotate sets a new shared key, sealed to the keys that are then active. A new
	// device can open that one and later ones, none from before.
	Rotate bool
}

// Change returns p with one more block by author, which has to be active. The secret
// is the new shared key's, nil unless c.Rotate. random nil means crypto/rand.
//
// The block's time is the largest of now, its parent's and its registrations', so it
// never goes back; a registration from more than [RegistrationTime] after that is
// refused with [ErrClock]. What the rules forbid is an error that wraps [ErrRefused],
// for example a registration that timed out or the removal of the last key.
func (p *Passport) Change(random io.Reader, author *noise.PrivateKey, now Time, c Change) (*Passport, *noise.SharedPrivate, error) {
	return p.change(random, author, now, c, noise.EmptyPassphrasePSK)
}

func (p *Passport) change(random io.Reader, author *noise.PrivateKey, now Time, c Change, psk [noise.SeedSize]byte) (*Passport, *noise.SharedPrivate, error) {
	if len(c.Register)+len(c.Deregister) == 0 && !c.Rotate {
		return nil, nil, ErrNoChange
	}
	at, err := p.changeTime(now, c.Register)
	if err != nil {
		return nil, nil, fmt.Errorf("change passport %s: %w", p.id, err)
	}
	entries := make([]Entry, 0, len(c.Register)+len(c.Deregister)+1)
	for _, r := range c.Register {
		if err := r.Key.Check(); err != nil { // nothing could be sealed to it, or anybody sign as it
			return nil, nil, fmt.Errorf("change passport %s: register %s: %w", p.id, r.Key, err)
		}
		entries = append(entries, r)
	}
	for _, key := range c.Deregister {
		entries = append(entries, Deregister{Key: key, Created: at})
	}
	var secret *noise.SharedPrivate
	if c.Rotate {
		keys, err := p.activeAfter(entries, author.Public(), at)
		if err != nil {
			return nil, nil, fmt.Errorf("change passport %s: %w", p.id, err)
		}
		var set SetShared
		if set, secret, err = shield(random, at, keys, psk); err != nil {
			return nil, nil, fmt.Errorf("change passport %s: %w", p.id, err)
		}
		entries = append(entries, set)
	}
	b, err := signBlock(author, at, p.Tip(), entries)
	if err != nil {
		return nil, nil, fmt.Errorf("change passport %s: %w", p.id, err)
	}
	next, err := p.Append(b)
	if err != nil {
		return nil, nil, fmt.Errorf("change passport: %w", err)
	}
	return next, secret, nil
}

// changeTime returns the time of the next block.
func (p *Passport) changeTime(now Time, registrations []Register) (Time, error) {
	now = max(now, p.LastTime())
	at := now
	for _, r := range registrations {
		if ahead := r.Created.Sub(now); ahead > RegistrationTime*time.Second {
			return 0, fmt.Errorf("%w: registration of %s is of %v, %v ahead", ErrClock, r.Key.Short(), r.Created, ahead)
		}
		at = max(at, r.Created)
	}
	return at, nil
}

// activeAfter returns the keys that will be active after entries of a block.
func (p *Passport) activeAfter(entries []Entry, author noise.PublicKey, at Time) ([]noise.PublicKey, error) {
	l := ledger{Passport: *p}
	for i, e := range entries {
		if err := l.apply(e, author, at); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return l.active, nil
}

// shield draws a shared key and seals its secret to keys, in their order. It draws as
// the reference does: the secret first, then what each message needs.
func shield(random io.Reader, now Time, keys []noise.PublicKey, psk [noise.SeedSize]byte) (SetShared, *noise.SharedPrivate, error) {
	secret, err := noise.GenerateShared(random)
	if err != nil {
		return SetShared{}, nil, err
	}
	s := SetShared{Key: secret.Public(), Created: now, Recipients: len(keys)}
	for _, key := range keys {
		m, err := noise.SealN(random, &psk, key, secret.Bytes())
		if err != nil {
			return SetShared{}, nil, fmt.Errorf("seal shared key for %s: %w", key, err)
		}
		s.sealed = append(append(s.sealed, key[:keyIDSize]...), m...)
	}
	return s, secret, nil
}
