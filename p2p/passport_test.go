package p2p_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/p2p"
	"github.com/asmtp/asmtp/passport"
)

// someone is a user and her passport.
type someone struct {
	master *noise.PrivateKey
	p      *passport.Passport
}

func person(t *testing.T) someone {
	t.Helper()
	master, err := noise.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := passport.Create(nil, master, passport.TimeOf(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	return someone{master, p}
}

// rotated returns s's passport with one block more, different each time.
func (s someone) rotated(t *testing.T) *passport.Passport {
	t.Helper()
	p, _, err := s.p.Change(nil, s.master, passport.TimeOf(time.Now()), passport.Change{Rotate: true})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// publish puts a passport as a client of n does.
func (n *node) publish(p *passport.Passport) {
	n.m.t.Helper()
	if _, err := n.store.PutPassport(n.m.t.Context(), p); err != nil {
		n.m.t.Fatal(err)
	}
	n.PassportChanged(p.ID())
}

func (n *node) tip(id passport.ID) passport.Hash {
	p, err := n.store.Passport(id)
	if err != nil {
		return passport.Hash{}
	}
	return p.Tip()
}

// A passport, and then a block more of it, gets from one end of a line to the other.
func TestPassportCrossesALine(t *testing.T) {
	m := newMesh(t)
	a, _, c := m.line()
	alice := person(t)
	a.publish(alice.p)
	m.bell.until(t, "c has the passport", func() bool { return c.tip(alice.p.ID()) == alice.p.Tip() })
	longer := alice.rotated(t)
	a.publish(longer)
	m.bell.until(t, "c has the longer chain", func() bool { return c.tip(alice.p.ID()) == longer.Tip() })
}

// What both sides had before they met is the same on both after.
func TestPassportsAreUnitedOnConnect(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false), m.node("b", true)
	tips := map[passport.ID]passport.Hash{}
	for range 300 { // more than one message holds
		p := person(t).p
		a.publish(p)
		tips[p.ID()] = p.Tip()
	}
	// One of which each side is behind in another one.
	x, y := person(t), person(t)
	a.publish(x.p)
	b.publish(x.p)
	longX, longY := x.rotated(t), y.rotated(t)
	a.publish(longX)
	a.publish(y.p)
	b.publish(longY)
	tips[x.p.ID()], tips[y.p.ID()] = longX.Tip(), longY.Tip()
	m.connect(a, b)
	m.bell.until(t, "both have all", func() bool {
		for id, tip := range tips {
			if a.tip(id) != tip || b.tip(id) != tip {
				return false
			}
		}
		return true
	})
}

// Who connects asks for the passports that only the other side has.
func TestPassportsAreAskedFor(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false), m.node("b", true, func(n *node) { n.every = time.Hour }) // opens no session
	var tips []*passport.Passport
	for range 20 {
		p := person(t).p
		b.publish(p)
		tips = append(tips, p)
	}
	m.connect(a, b)
	m.bell.until(t, "a has all", func() bool {
		return !slices.ContainsFunc(tips, func(p *passport.Passport) bool { return a.tip(p.ID()) != p.Tip() })
	})
}

// Of a fork each node keeps the end it saw first, has the other one as proof, and
// blames nobody who passes it on.
func TestForkIsKeptAsProof(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false), m.node("b", true)
	alice := person(t)
	one, other := alice.rotated(t), alice.rotated(t)
	if one.Tip() == other.Tip() {
		t.Fatal("no fork")
	}
	a.publish(one)
	b.publish(other)
	m.connect(a, b)
	began := a.since(b)
	proofs := func(n *node) (count int) {
		err := n.store.Forks(func(f *passport.ForkError) bool {
			count++
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		return count
	}
	m.bell.until(t, "both have the proof", func() bool { return proofs(a) == 1 && proofs(b) == 1 })
	if a.tip(alice.p.ID()) != one.Tip() || b.tip(alice.p.ID()) != other.Tip() {
		t.Error("a node follows the other end")
	}
	if !a.since(b).Equal(began) || !a.connected(b) {
		t.Error("the neighbour was blamed")
	}
	var fork *passport.ForkError
	if _, err := a.store.PutPassport(t.Context(), other); !errors.As(err, &fork) {
		t.Errorf("a takes the other end: %v", err)
	}
}

// What a node cannot keep, and the other end of a fork that it has as proof, is not sent to
// it with every reconciliation; the rest of what it is told of comes through.
func TestPassportsThatAreNotKeptRest(t *testing.T) {
	m := newMesh(t)
	clock := new(clockwork)
	a := m.node("a", false)
	b := m.node("b", true, func(n *node) { n.now, n.every = clock.now, time.Hour })
	alice, bob := person(t), person(t)
	a.publish(alice.rotated(t))
	b.publish(alice.rotated(t))
	m.connect(a, b)
	m.bell.until(t, "b has seen the fork", func() bool { return b.chains.Load() == 1 })
	b.noPassports.Store(true)
	a.publish(bob.p)
	m.bell.until(t, "b refused", func() bool { return b.chains.Load() == 2 })
	for range 3 {
		last := a.with(b).Last
		a.Reconcile(b.key.Public())
		a.settled(b, last)
	}
	b.noPassports.Store(false)
	carol := person(t)
	a.publish(carol.p)
	m.bell.until(t, "b has another one", func() bool { return b.tip(carol.p.ID()) == carol.p.Tip() })
	if n := b.chains.Load(); n != 3 {
		t.Errorf("%d passports came, want 3", n)
	}
	clock.advance(time.Hour + time.Minute)
	a.Reconcile(b.key.Public())
	m.bell.until(t, "b has the one that it refused, an hour later", func() bool { return b.tip(bob.p.ID()) == bob.p.Tip() })
	if !a.connected(b) {
		t.Error("a was dropped")
	}
}

// A neighbour that tells of passports that it does not have, or asks without end, costs
// little, and nothing is kept.
func TestPassportsThatNobodyHas(t *testing.T) {
	m := newMesh(t)
	b, evil := m.node("b", true), m.node("evil", false)
	m.connect(evil, b)
	began := b.since(evil)
	s, err := evil.OpenStream(t.Context(), b.key.Public(), p2p.PassportProtocol)
	if err != nil {
		t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(patience))
	for round := range 3 {
		if err := p2p.WriteMessage(s, 1, u16(256, random(byte(round), 256*32))); err != nil {
			t.Fatal(err)
		}
		kind, wants, err := p2p.ReadMessage(s)
		if err != nil || kind != 2 || wants[2] != 1 {
			t.Fatalf("message %d, %v; it should want all", kind, err)
		}
		for range 256 { // and nothing follows
			if err := p2p.WriteMessage(s, 4, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for round := range 200 {
		if err := p2p.WriteMessage(s, 5, u16(256, random(byte(round), 256*32))); err != nil {
			t.Fatal(err)
		}
	}
	alice := person(t)
	b.publish(alice.p)
	m.bell.until(t, "evil is told as before", func() bool { return evil.tip(alice.p.ID()) == alice.p.Tip() })
	if err := b.store.PassportTips(func(id passport.ID, _ passport.Hash) bool {
		if id != alice.p.ID() {
			t.Error("b keeps a passport that nobody has")
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if !b.since(evil).Equal(began) {
		t.Error("the connection broke")
	}
}
