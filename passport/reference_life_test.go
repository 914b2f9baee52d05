package passport_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/asmtp/asmtp/internal/asmtptest/vectors"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

type lifeCase struct {
	Keys           []keyPair
	PassphraseSeed vectors.Hex `json:"passphrase_seed"`
	Blocks         []*lifeBlock
	Unshield       []*lifeUnshield
	Export         vectors.Hex
}

type lifeBlock struct {
	Version       uint16
	ContentSize   int `json:"content_size"`
	Time          uint32
	ContentHash   vectors.Hex `json:"content_hash"`
	Previous      vectors.Hex
	Author        vectors.Hex
	Signature     vectors.Hex
	Hash          vectors.Hex
	Bytes         vectors.Hex
	Entries       []*lifeEntry
	RotateRngSeed vectors.Hex `json:"rotate_rng_seed"`
	StateAfter    state       `json:"state_after"`
}

type lifeEntry struct {
	Type                int
	Bytes               vectors.Hex
	Key                 vectors.Hex
	Alias               string
	Passport            vectors.Hex
	CreatedAt           uint32 `json:"created_at"`
	RegistrationTimeout uint32 `json:"registration_timeout"`
	Signature           vectors.Hex
	Count               int
	Messages            []struct {
		KeyID   vectors.Hex `json:"key_id"`
		Message vectors.Hex
	}
}

type lifeUnshield struct {
	MasterSecret   vectors.Hex `json:"master_secret"`
	PassphraseSeed vectors.Hex `json:"passphrase_seed"`
	SharedKey      vectors.Hex `json:"shared_key"`
	Result         vectors.Result
	Secret         vectors.Hex
}

// Whole lives of passports: every field reads as the original wrote it, every byte is
// written as the original writes it, and the state after every block is the same.
func TestReferencePassport(t *testing.T) {
	vectors.Each(t, "passport", func(t *testing.T, c lifeCase) {
		if err := c.check(); err != nil {
			t.Fatal(err)
		}
		mustFailChanged(t, c.Export, c.check)
		for _, b := range c.Blocks {
			mustFailChanged(t, b.Hash[:4], c.check)
			mustFailChanged(t, b.RotateRngSeed[:min(4, len(b.RotateRngSeed))], c.check)
			mustFailChanged(t, b.Entries[0].Bytes[:4], c.check)
		}
		for _, u := range c.Unshield {
			if u.Result.OK {
				mustFailChanged(t, u.Secret[:4], c.check)
				mustFailChanged(t, u.PassphraseSeed[:4], c.check)
			}
		}
	})
}

func (c *lifeCase) check() error {
	whole, err := passport.Parse(c.Export)
	if err != nil {
		return err
	}
	if !bytes.Equal(whole.Export(), c.Export) || whole.Len() != len(c.Blocks) {
		return errors.New("export has other bytes")
	}
	var p *passport.Passport
	for i, want := range c.Blocks {
		b := whole.Blocks()[i]
		if err := errors.Join(want.check(b), c.rewrite(want, b)); err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
		if p, err = apply(p, b); err != nil {
			return err
		}
		if err := want.StateAfter.check(p); err != nil {
			return fmt.Errorf("state after block %d: %w", i, err)
		}
	}
	for i, u := range c.Unshield {
		if err := u.check(p); err != nil {
			return fmt.Errorf("unshield %d: %w", i, err)
		}
	}
	return nil
}

// check compares what was read with the fields of the vector.
func (want *lifeBlock) check(b *passport.Block) error {
	hash, author := b.Hash(), b.Author()
	previous := b.Previous()
	switch {
	case !bytes.Equal(b.Bytes(), want.Bytes):
		return errors.New("other bytes")
	case !bytes.Equal(hash[:], want.Hash):
		return fmt.Errorf("hash %v, want %x", hash, want.Hash)
	case !bytes.Equal(author[:], want.Author):
		return fmt.Errorf("author %v, want %x", author, want.Author)
	case previous.IsZero() != (want.Previous == nil):
		return fmt.Errorf("previous %v, want %x", previous, want.Previous)
	case want.Previous != nil && !bytes.Equal(previous[:], want.Previous):
		return fmt.Errorf("previous %v, want %x", previous, want.Previous)
	case b.Time() != passport.Time(want.Time):
		return fmt.Errorf("time %d, want %d", b.Time(), want.Time)
	case b.Size() != passport.HeaderSize+want.ContentSize || want.Version != 0:
		return fmt.Errorf("size %d, want %d and version 0", b.Size(), passport.HeaderSize+want.ContentSize)
	case !bytes.Equal(want.Bytes[8:24], want.ContentHash) || !bytes.Equal(want.Bytes[72:136], want.Signature):
		return errors.New("content hash or signature is elsewhere")
	case len(b.Entries()) != len(want.Entries):
		return fmt.Errorf("%d entries, want %d", len(b.Entries()), len(want.Entries))
	}
	for i, e := range b.Entries() {
		if err := want.Entries[i].check(e); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

func (want *lifeEntry) check(e passport.Entry) error {
	if !bytes.Equal(passport.AppendTo(e, nil), want.Bytes) {
		return errors.New("other bytes")
	}
	if e.CreatedAt() != passport.Time(want.CreatedAt) {
		return fmt.Errorf("created at %d, want %d", e.CreatedAt(), want.CreatedAt)
	}
	ok := false
	switch e := e.(type) {
	case passport.Register:
		ok = want.Type == 1 && bytes.Equal(e.Key[:], want.Key) && e.Alias == want.Alias &&
			bytes.Equal(e.PassportID[:], want.Passport) && e.Timeout == passport.Time(want.RegistrationTimeout) &&
			bytes.Equal(e.Signature[:], want.Signature)
	case passport.Deregister:
		ok = want.Type == 2 && bytes.Equal(e.Key[:], want.Key)
	case passport.SetShared:
		ok = want.Type == 3 && bytes.Equal(e.Key[:], want.Key) && e.Recipients == want.Count
		for _, m := range want.Messages {
			var key noise.PublicKey
			copy(key[:], m.KeyID)
			ok = ok && e.IsFor(key) && bytes.Contains(want.Bytes, append(m.KeyID[:len(m.KeyID):len(m.KeyID)], m.Message...))
		}
	}
	if !ok {
		return fmt.Errorf("%+v, want %+v", e, want)
	}
	return nil
}

// rewrite makes the block again out of the fields, the keys and the random seed.
func (c *lifeCase) rewrite(want *lifeBlock, b *passport.Block) error {
	var entries []passport.Entry
	for i, w := range want.Entries {
		e, err := c.rewriteEntry(want, w)
		if err != nil {
			return fmt.Errorf("make entry %d: %w", i, err)
		}
		if !bytes.Equal(passport.AppendTo(e, nil), w.Bytes) {
			return fmt.Errorf("entry %d is written with other bytes", i)
		}
		entries = append(entries, e)
	}
	author, err := c.key(want.Author)
	if err != nil {
		return err
	}
	again, err := passport.SignBlock(author, b.Time(), b.Previous(), entries)
	if err != nil {
		return err
	}
	if !bytes.Equal(again.Bytes(), want.Bytes) {
		return errors.New("the block is written with other bytes")
	}
	return nil
}

func (c *lifeCase) rewriteEntry(block *lifeBlock, w *lifeEntry) (passport.Entry, error) {
	created := passport.Time(w.CreatedAt)
	switch w.Type {
	case 1:
		key, err := c.key(w.Key)
		if err != nil {
			return nil, err
		}
		return passport.RequestRegistration(passport.ID(w.Passport), key, w.Alias, created)
	case 2:
		return passport.Deregister{Key: noise.PublicKey(w.Key), Created: created}, nil
	}
	var keys []noise.PublicKey
	for _, m := range w.Messages {
		key, err := c.key(m.KeyID)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key.Public())
	}
	random := noise.NewStream([32]byte(block.RotateRngSeed))
	s, _, err := passport.Shield(random, created, keys, [32]byte(c.PassphraseSeed))
	return s, err
}

// key returns the key of the case whose public part begins with prefix.
func (c *lifeCase) key(prefix []byte) (*noise.PrivateKey, error) {
	for _, k := range c.Keys {
		if bytes.HasPrefix(k.Public, prefix) {
			return k.private()
		}
	}
	return nil, fmt.Errorf("no key %x in the case", prefix)
}

func (u *lifeUnshield) check(p *passport.Passport) error {
	master, err := noise.NewPrivateKey(u.MasterSecret)
	if err != nil {
		return err
	}
	shared := noise.SharedPublic(u.SharedKey)
	secret, err := p.Unshield(shared, master, [32]byte(u.PassphraseSeed))
	if (err == nil) != u.Result.OK {
		return fmt.Errorf("%v, want %s", err, u.Result.Text)
	}
	if err != nil {
		if secret != nil || errors.Is(err, passport.ErrNotShared) == errors.Is(err, passport.ErrUnshield) {
			return fmt.Errorf("refused with %v and a secret: %v", err, secret)
		}
		return nil
	}
	if !bytes.Equal(secret.Bytes(), u.Secret) || secret.Public() != shared {
		return errors.New("another secret")
	}
	return nil
}
