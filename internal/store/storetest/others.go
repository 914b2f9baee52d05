package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

func master(n byte) *noise.PrivateKey {
	k, err := noise.NewPrivateKey(append([]byte{n}, make([]byte, noise.SeedSize-1)...))
	if err != nil {
		panic(err) // only for a seed of another length
	}
	return k
}

func newPassport(t *testing.T, k *noise.PrivateKey) *passport.Passport {
	t.Helper()
	p, _, err := passport.Create(nil, k, passport.TimeOf(time.Now()))
	ok(t, err)
	return p
}

// change appends a block that registers a key, or deregisters one.
func change(t *testing.T, p *passport.Passport, author, register *noise.PrivateKey, deregister ...noise.PublicKey) *passport.Passport {
	t.Helper()
	now := passport.TimeOf(time.Now())
	c := passport.Change{Deregister: deregister}
	if register != nil {
		r, err := passport.RequestRegistration(p.ID(), register, register.Public().String()[:16], now)
		ok(t, err)
		c.Register = []passport.Register{r}
	}
	q, _, err := p.Change(nil, author, now, c)
	ok(t, err)
	return q
}

func (f *fixture) putPassport(p *passport.Passport, want bool) {
	f.t.Helper()
	changed, err := f.PutPassport(ctx, p)
	ok(f.t, err)
	if changed != want {
		f.t.Errorf("passport of %d blocks: changed = %v", p.Len(), changed)
	}
}

func (f *fixture) wantOwner(k *noise.PrivateKey, p *passport.Passport) {
	f.t.Helper()
	id, found := f.PassportOf(k.Public())
	if found != (p != nil) || found && id != p.ID() {
		f.t.Errorf("passport of key %s: %v %s", k.Public().Short(), found, id)
	}
}

func (f *fixture) changes(after uint64) (list []passport.ID, last uint64) {
	f.t.Helper()
	ok(f.t, f.PassportsChanged(after, func(n uint64, id passport.ID) bool {
		if n <= last {
			f.t.Errorf("change %d after %d", n, last)
		}
		list, last = append(list, id), n
		return true
	}))
	return list, last
}

func testPassports(t *testing.T, f *fixture) {
	a, b, c := master(1), master(2), master(3)
	p1 := newPassport(t, a)
	other := newPassport(t, c)
	p2 := change(t, p1, a, b)
	p3 := change(t, p2, b, nil, a.Public())
	f.putPassport(p1, true)
	f.putPassport(other, true)
	seen := f.LastPassportChange()
	f.wantOwner(a, p1)
	f.wantOwner(b, nil)
	f.putPassport(p3, true) // two blocks at once
	f.putPassport(p3, false)
	f.putPassport(p2, false) // an older state
	for range 2 {
		f.wantOwner(a, nil)
		f.wantOwner(b, p3)
		f.wantOwner(c, other)
		got, err := f.Passport(p1.ID())
		ok(t, err)
		if got.Tip() != p3.Tip() || got.Len() != 3 {
			t.Errorf("tip %s after %d blocks", got.Tip(), got.Len())
		}
		list, last := f.changes(0)
		if !slices.Equal(list, []passport.ID{other.ID(), p1.ID()}) || last != f.LastPassportChange() {
			t.Errorf("changes %v, last %d of %d", list, last, f.LastPassportChange())
		}
		if list, _ := f.changes(seen); !slices.Equal(list, []passport.ID{p1.ID()}) {
			t.Errorf("changed since: %v", list)
		}
		tips := map[passport.ID]passport.Hash{}
		ok(t, f.PassportTips(func(id passport.ID, h passport.Hash) bool { tips[id] = h; return true }))
		if len(tips) != 2 || tips[p1.ID()] != p3.Tip() {
			t.Errorf("tips %v", tips)
		}
		f.crash()
	}
	if _, err := f.Passport(passport.ID{9}); err == nil {
		t.Error("a passport that was never put is there")
	}
}

func testForks(t *testing.T, f *fixture) {
	a, b, c := master(1), master(2), master(3)
	p1 := newPassport(t, a)
	ours := change(t, p1, a, b)
	theirs := change(t, change(t, p1, a, c), a, b)
	f.putPassport(ours, true)
	var fork *passport.ForkError
	for range 2 {
		_, err := f.PutPassport(ctx, theirs)
		if !errors.As(err, &fork) {
			t.Fatalf("other branch: %v", err)
		}
	}
	f.crash()
	if got, err := f.Passport(p1.ID()); err != nil || got.Tip() != ours.Tip() {
		t.Errorf("in force: %v (%v), want the first seen", got, err)
	}
	f.wantOwner(c, nil)
	n := 0
	ok(t, f.Forks(func(e *passport.ForkError) bool {
		n++
		if e.ID != p1.ID() || e.Ours.Hash() != ours.Tip() || e.Theirs.Hash() != theirs.Blocks()[1].Hash() {
			t.Errorf("proof %v", e)
		}
		return true
	}))
	if n != 1 {
		t.Errorf("%d proofs, want 1", n)
	}
	f.putPassport(change(t, ours, a, c), true) // ours goes on
}

func testMesh(t *testing.T, f *fixture) {
	if _, _, _, found, err := f.Mesh(); found || err != nil {
		t.Errorf("a new store is in a mesh (%v)", err)
	}
	statements := func(want ...string) {
		t.Helper()
		f.crash()
		list, err := f.Statements()
		ok(t, err)
		var got []string
		for _, s := range list {
			got = append(got, string(s))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("statements %q, want %q", got, want)
		}
	}
	founder := make([]byte, noise.SeedSize)
	founder[3] = 7
	ok(t, f.SetMesh(ctx, mesh.ID{1}, mesh.Secret{2}, founder, []byte("one")))
	ok(t, f.PutStatements(ctx, [][]byte{[]byte("two"), []byte("one")}))
	ok(t, f.SetMesh(ctx, mesh.ID{1}, mesh.Secret{2}, founder))
	statements("one", "two")
	id, secret, seed, found, err := f.Mesh()
	if id != (mesh.ID{1}) || secret != (mesh.Secret{2}) || !slices.Equal(seed, founder) || !found || err != nil {
		t.Errorf("mesh %v found %v (%v)", id, found, err)
	}
	ok(t, f.SetMesh(ctx, mesh.ID{4}, mesh.Secret{5}, nil, []byte("three")))
	statements("three")
	if id, _, seed, _, _ := f.Mesh(); id != (mesh.ID{4}) || seed != nil {
		t.Errorf("mesh %v with a founder's seed of %d bytes", id, len(seed))
	}
}

func testPeople(t *testing.T, f *fixture) {
	added := time.Unix(1_800_000_000, 0).UTC()
	ok(t, f.PutUser(ctx, "b1", added))
	ok(t, f.PutUser(ctx, "a1", added))
	ok(t, f.PutUser(ctx, "a1", added.Add(time.Hour)))
	if err := f.DeleteUser(ctx, "c1"); err == nil {
		t.Error("a user who is not there was deleted")
	}
	ok(t, f.DeleteUser(ctx, "b1"))
	addresses := []string{"node.example:9800", "[::1]:9800"}
	ok(t, f.PutPeer(ctx, device(1), []string{"old:1"}, 5))
	ok(t, f.PutPeer(ctx, device(1), addresses, 6))
	ok(t, f.PutPeer(ctx, device(2), nil, 7))
	ok(t, f.DeletePeer(ctx, device(2)))
	f.crash()
	n := 0
	ok(t, f.Users(func(name string, at time.Time) bool {
		if n++; name != "a1" || !at.Equal(added) {
			t.Errorf("user %s at %v", name, at)
		}
		return true
	}))
	ok(t, f.Peers(func(k noise.PublicKey, a []string, seen passport.Time) bool {
		if n++; k != device(1) || !slices.Equal(a, addresses) || seen != 6 {
			t.Errorf("peer %v %v %v", k, a, seen)
		}
		return true
	}))
	if n != 2 {
		t.Errorf("%d users and peers", n)
	}
	for name, want := range map[string]bool{"a1": true, "b1": false, "a": false} {
		if got, err := f.HasUser(name); got != want || err != nil {
			t.Errorf("has %s: %v, %v", name, got, err)
		}
	}
}

func testTokens(t *testing.T, f *fixture) {
	now := passport.TimeOf(time.Now())
	twice, ended := mesh.Token{1}, mesh.Token{2}
	ok(t, f.PutToken(ctx, 1, twice, 2, now.Add(time.Hour)))
	ok(t, f.PutToken(ctx, 1, ended, 2, now.Add(-time.Hour)))
	take := func(kind byte, token mesh.Token, want bool) {
		t.Helper()
		if got, err := f.TakeToken(ctx, kind, token.Hash()); got != want || err != nil {
			t.Errorf("take: %v, %v", got, err)
		}
		f.crash()
	}
	take(2, twice, false) // of another kind
	take(1, twice, true)
	take(1, twice, true)
	take(1, twice, false)
	take(1, ended, false)
	take(1, mesh.Token{3}, false)
}

func testStamps(t *testing.T, f *fixture) {
	fresh := func(kind byte, peer byte, stamp uint64, want bool) {
		t.Helper()
		if got, err := f.FreshStamp(ctx, kind, device(peer), stamp); got != want || err != nil {
			t.Errorf("kind %d, stamp %d: %v, %v, want %v", kind, stamp, got, err, want)
		}
	}
	for i := range uint64(64) {
		fresh(2, 1, 1000-2*i, true) // 874 … 1000
	}
	f.crash()
	fresh(2, 1, 1000, false)
	fresh(2, 1, 874, false)
	fresh(2, 1, 873, false) // below the 64 highest
	fresh(2, 1, 875, true)  // takes the place of 874
	fresh(2, 1, 874, false)
	fresh(2, 1, 875, false)
	fresh(2, 1, ^uint64(0), true)
	fresh(3, 1, 1000, true)
	fresh(2, 2, 1000, true)
}

func testNextStamp(t *testing.T, f *fixture) {
	last := uint64(0)
	for i := range 30 {
		n, err := f.NextStamp()
		ok(t, err)
		if n <= last || n < uint64(time.Now().Add(-time.Minute).UnixNano()) {
			t.Errorf("stamp %d after %d", n, last)
		}
		last = n
		if i%10 == 9 {
			f.crash()
		}
	}
}
