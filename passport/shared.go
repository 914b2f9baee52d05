package passport

import (
	"errors"
	"fmt"

	"github.com/asmtp/asmtp/noise"
)

var (
	// ErrNotShared is wrapped by the errors for a shared key that is not sealed to
	// the master key at hand, so waiting or another passphrase will not help.
	ErrNotShared = errors.New("shared key is not sealed to this master key")
	// ErrUnshield is wrapped by the errors for a shared key that is sealed to the
	// master key at hand and does not open: most often the passphrase is another one.
	ErrUnshield = errors.New("shared key does not open")
)

// SharedKey is one shared key that a passport has or had.
type SharedKey struct {
	Key     noise.SharedPublic
	Created Time // of the entry that first set it
	// Tainted is true when a master key was removed after the entry that first set
	// the key: the removed device may know the secret and speak as this user, so
	// nothing under the key is certain to come from them.
	Tainted bool
}

// Shared returns the current shared key; false if none was ever set.
func (p *Passport) Shared() (noise.SharedPublic, bool) { return p.shared, p.hasShared }

// SharedKeys returns every shared key of the chain once, in the order in which they
// were first set. The current one, see [Passport.Shared], is the last of them unless
// somebody set an older key again.
func (p *Passport) SharedKeys() []SharedKey {
	var keys []SharedKey
	known := make(map[noise.SharedPublic]bool)
	for _, b := range p.blocks {
		for _, e := range b.entries {
			switch e := e.(type) {
			case Deregister:
				for i := range keys {
					keys[i].Tainted = true
				}
			case SetShared:
				if !known[e.Key] {
					known[e.Key] = true
					keys = append(keys, SharedKey{Key: e.Key, Created: e.Created})
				}
			}
		}
	}
	return keys
}

// Unshield opens the secret of a shared key of the passport with a master key. psk
// is [noise.EmptyPassphrasePSK] for passports of our own and
// [noise.PassphrasePSK] for those of the reference.
//
// As in the reference the first message that is addressed to the master key decides,
// in the order of the chain. Other than there, a secret that is not the one of key is
// an error, since the author of the block could have sealed any. If no message is
// addressed to master, the error wraps [ErrNotShared], otherwise [ErrUnshield].
func (p *Passport) Unshield(key noise.SharedPublic, master *noise.PrivateKey, psk [noise.SeedSize]byte) (*noise.SharedPrivate, error) {
	message := p.sealedFor(key, master.Public())
	if message == nil {
		return nil, fmt.Errorf("unshield %s of passport %s for %s: %w", key, p.id, master.Public().Short(), ErrNotShared)
	}
	secret, err := noise.OpenN(&psk, master, message)
	if err != nil {
		return nil, fmt.Errorf("unshield %s of passport %s: %w: %w", key, p.id, ErrUnshield, err)
	}
	defer clear(secret)
	shared, err := noise.NewSharedPrivate(secret)
	if err != nil {
		return nil, fmt.Errorf("unshield %s of passport %s: %w: %w", key, p.id, ErrUnshield, err)
	}
	if shared.Public() != key {
		return nil, fmt.Errorf("unshield %s of passport %s: %w: the secret inside is of another key", key, p.id, ErrUnshield)
	}
	return shared, nil
}

func (p *Passport) sealedFor(key noise.SharedPublic, master noise.PublicKey) []byte {
	for _, b := range p.blocks {
		for _, e := range b.entries {
			if s, ok := e.(SetShared); ok && s.Key == key {
				if m := s.message(master); m != nil {
					return m
				}
			}
		}
	}
	return nil
}
