package passport_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// owner plays a user with several devices and knows what should come of each step.
type owner struct {
	t       *testing.T
	random  *rand.Rand
	entropy *rand.ChaCha8
	now     passport.Time
	p       *passport.Passport
	devices []*noise.PrivateKey // all ever made
	active  map[noise.PublicKey]bool
	shared  []*ownedKey // oldest first
}

type ownedKey struct {
	secret  *noise.SharedPrivate
	holders map[noise.PublicKey]bool
	tainted bool
}

func newOwner(t *testing.T, seed uint64) *owner {
	var s [32]byte
	binary.BigEndian.PutUint64(s[:], seed)
	o := &owner{t: t, random: rand.New(rand.NewPCG(seed, 0)), entropy: rand.NewChaCha8(s), now: start, active: make(map[noise.PublicKey]bool)}
	first := o.device()
	p, secret, err := passport.Create(o.entropy, first, o.now)
	if err != nil {
		t.Fatal(err)
	}
	o.p, o.active[first.Public()] = p, true
	o.rotated(secret)
	return o
}

func (o *owner) device() *noise.PrivateKey {
	k, err := noise.GenerateKey(o.entropy)
	if err != nil {
		o.t.Fatal(err)
	}
	o.devices = append(o.devices, k)
	return k
}

func (o *owner) rotated(secret *noise.SharedPrivate) {
	k := &ownedKey{secret: secret, holders: make(map[noise.PublicKey]bool)}
	for key := range o.active {
		k.holders[key] = true
	}
	o.shared = append(o.shared, k)
}

// pick returns a device that is active, or one that was removed, nil if there is none.
func (o *owner) pick(active bool) *noise.PrivateKey {
	for _, i := range o.random.Perm(len(o.devices)) {
		if o.active[o.devices[i].Public()] == active {
			return o.devices[i]
		}
	}
	return nil
}

// step makes one random change. Clocks of the devices differ by some minutes.
func (o *owner) step() {
	o.t.Helper()
	o.now += passport.Time(o.random.IntN(600))
	clock := func() passport.Time { return o.now - 300 + passport.Time(o.random.IntN(600)) }
	author := o.pick(true)
	var c passport.Change
	for range o.random.IntN(3) {
		device := o.pick(false) // a removed device may come back
		if device == nil || o.random.IntN(2) == 0 {
			device = o.device()
		}
		alias, err := passport.NewAlias(o.entropy)
		if err != nil {
			o.t.Fatal(err)
		}
		r, err := passport.RequestRegistration(o.p.ID(), device, alias, clock())
		if err != nil {
			o.t.Fatal(err)
		}
		c.Register = append(c.Register, r)
		o.active[device.Public()] = true
	}
	var removed bool
	for range o.random.IntN(3) {
		if device := o.pick(true).Public(); len(o.active) > 1 {
			c.Deregister = append(c.Deregister, device)
			delete(o.active, device)
			removed = true
		}
	}
	c.Rotate = o.random.IntN(2) == 0 || len(c.Register)+len(c.Deregister) == 0
	if removed {
		for _, k := range o.shared {
			k.tainted = true
		}
	}
	before := o.p.LastTime()
	p, secret, err := o.p.Change(o.entropy, author, clock(), c)
	if err != nil {
		o.t.Fatalf("%d blocks, %d keys: %v", o.p.Len(), len(o.p.Active()), err)
	}
	if p.LastTime() < before {
		o.t.Fatalf("time of the chain went back from %v to %v", before, p.LastTime())
	}
	if (secret != nil) != c.Rotate {
		o.t.Fatalf("rotate %v gave %v", c.Rotate, secret)
	}
	if c.Rotate {
		o.rotated(secret)
	}
	o.p = p
}

// check compares everything that p says with what the owner knows.
func (o *owner) check(p *passport.Passport) {
	o.t.Helper()
	if len(p.Active()) != len(o.active) {
		o.t.Fatalf("%d active keys, want %d", len(p.Active()), len(o.active))
	}
	for _, d := range o.devices {
		if p.IsActive(d.Public()) != o.active[d.Public()] {
			o.t.Fatalf("device %v active: %v", d, !o.active[d.Public()])
		}
	}
	keys := p.SharedKeys()
	if current, ok := p.Shared(); !ok || current != o.shared[len(o.shared)-1].secret.Public() || len(keys) != len(o.shared) {
		o.t.Fatalf("%d shared keys, current %v", len(keys), current)
	}
	for i, k := range o.shared {
		if keys[i].Key != k.secret.Public() || keys[i].Tainted != k.tainted {
			o.t.Fatalf("shared key %d is %+v, want %v tainted %v", i, keys[i], k.secret, k.tainted)
		}
	}
	for i := 1; i < p.Len(); i++ {
		if p.Blocks()[i].Previous() != p.Blocks()[i-1].Hash() {
			o.t.Fatalf("block %d does not name its parent", i)
		}
	}
}

// checkUnshield tries every device on every shared key.
func (o *owner) checkUnshield(p *passport.Passport) {
	o.t.Helper()
	for i, k := range o.shared {
		for _, d := range o.devices {
			secret, err := p.Unshield(k.secret.Public(), d, noise.EmptyPassphrasePSK)
			if k.holders[d.Public()] && (err != nil || !secret.Equal(k.secret)) {
				o.t.Errorf("holder %v cannot open shared key %d: %v", d, i, err)
			}
			if !k.holders[d.Public()] && !errors.Is(err, passport.ErrNotShared) {
				o.t.Errorf("%v opens shared key %d: %v", d, i, err)
			}
		}
	}
}

// Whatever devices do to a passport, it says what they did, block by block, and so do
// those who read its export.
func TestOwnerWithManyDevices(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			o := newOwner(t, seed)
			for range 40 {
				before, tip := o.p, o.p.Tip()
				o.step()
				o.check(o.p)
				if before.Tip() != tip || !o.p.Contains(tip) || before.Contains(o.p.Tip()) {
					t.Fatal("a change changed the passport before it")
				}
				export := o.p.Export()
				again, err := passport.Parse(export)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(again.Export(), export) || again.ID() != o.p.ID() || again.Tip() != o.p.Tip() {
					t.Fatal("reading the export gives another passport")
				}
				o.check(again)
			}
			o.checkUnshield(o.p)
		})
	}
}

// A cut export is refused, except between two blocks, where it is the passport as it
// was then.
func TestParseCutExport(t *testing.T) {
	o := newOwner(t, 1)
	whole := make(map[int]passport.Hash)
	for range 3 {
		whole[o.p.Size()] = o.p.Tip()
		o.step()
	}
	export := o.p.Export()
	for n := range export {
		p, err := passport.Parse(export[:n])
		tip, ok := whole[n]
		if (err == nil) != ok {
			t.Fatalf("%d of %d bytes: %v", n, len(export), err)
		}
		if ok && (p.Tip() != tip || p.Size() != n) {
			t.Fatalf("%d of %d bytes: tip %v, want %v", n, len(export), p.Tip(), tip)
		}
	}
}

// No bit of an export can change, and nothing follow it.
func TestParseChangedExport(t *testing.T) {
	o := newOwner(t, 2)
	o.step()
	export := o.p.Export()
	for i := range export {
		changed := slices.Clone(export)
		changed[i] ^= 1 << (i % 8)
		if _, err := passport.Parse(changed); err == nil {
			t.Errorf("a bit of byte %d of %d changed: accepted", i, len(export))
		}
	}
	for n := 1; n <= passport.HeaderSize+4; n++ {
		if _, err := passport.Parse(append(slices.Clone(export), make([]byte, n)...)); !errors.Is(err, passport.ErrExport) {
			t.Errorf("%d zeros after the export: %v", n, err)
		}
	}
}
