package passport_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

func create(t testing.TB, name string) *passport.Passport {
	t.Helper()
	p, _, err := passport.Create(nil, key(t, name), start)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func request(t testing.TB, id passport.ID, name, alias string, now passport.Time) passport.Register {
	t.Helper()
	r, err := passport.RequestRegistration(id, key(t, name), alias, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A new passport names nobody and differs each time, even for the same key and second.
func TestCreate(t *testing.T) {
	p, secret, err := passport.Create(nil, key(t, "a"), start)
	if err != nil {
		t.Fatal(err)
	}
	if shared, ok := p.Shared(); !ok || shared != secret.Public() {
		t.Errorf("shared key %v, secret returned of %v", shared, secret.Public())
	}
	r := p.Blocks()[0].Entries()[0].(passport.Register)
	if len(r.Alias) != 16 || strings.Trim(r.Alias, "0123456789abcdef") != "" || !r.PassportID.IsZero() {
		t.Errorf("registration %+v", r)
	}
	if p.Tip() != passport.Hash(p.ID()) || p.LastTime() != start || p.Len() != 1 || !p.Blocks()[0].Previous().IsZero() {
		t.Errorf("passport at %v of %d blocks", p.LastTime(), p.Len())
	}
	if other := create(t, "a"); other.ID() == p.ID() {
		t.Error("two passports of one key have one id")
	}
}

// What Change refuses, it refuses with the cause, and gives nothing.
func TestChangeRefuses(t *testing.T) {
	p := create(t, "a")
	with := func(r ...passport.Register) passport.Change { return passport.Change{Register: r} }
	without := func(names ...string) (c passport.Change) {
		for _, n := range names {
			c.Deregister = append(c.Deregister, key(t, n).Public())
		}
		return c
	}
	b := request(t, p.ID(), "b", "b", start)
	forged := b
	forged.Timeout++
	weak := b
	weak.Key = noise.PublicKey{1} // the identity: anybody can sign as it
	foreign := request(t, passport.ID{1}, "b", "b", start)
	for _, tt := range []struct {
		name   string
		author string
		now    passport.Time
		c      passport.Change
		want   error
	}{
		{"nothing", "a", start, passport.Change{}, passport.ErrNoChange},
		{"stranger as author", "b", start, passport.Change{Rotate: true}, passport.ErrRefused},
		{"last key", "a", start, without("a"), passport.ErrRefused},
		{"key that is not active", "a", start, without("b"), passport.ErrRefused},
		{"key that is not active, rotating", "a", start, passport.Change{Deregister: without("b").Deregister, Rotate: true}, passport.ErrRefused},
		{"key twice", "a", start, with(b, b), passport.ErrRefused},
		{"alias twice", "a", start, with(b, request(t, p.ID(), "c", "b", start)), passport.ErrRefused},
		{"active key", "a", start, with(request(t, p.ID(), "a", "a2", start)), passport.ErrRefused},
		{"timed out", "a", start + 3601, with(b), passport.ErrRefused},
		{"for another passport", "a", start, with(foreign), passport.ErrRefused},
		{"from far ahead", "a", start, with(request(t, p.ID(), "b", "b", start+3601)), passport.ErrClock},
		{"forged registration", "a", start, with(forged), passport.ErrEntry},
		{"made without RequestRegistration", "a", start, with(passport.Register{Key: b.Key, Alias: "b", Created: start, Timeout: start + 3600, Signature: b.Signature}), passport.ErrEntry},
		{"weak key", "a", start, with(weak), noise.ErrKey},
	} {
		got, secret, err := p.Change(nil, key(t, tt.author), tt.now, tt.c)
		if !errors.Is(err, tt.want) || got != nil || secret != nil {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if _, _, err := p.Change(iotest.ErrReader(errors.New("no randomness")), key(t, "a"), start, passport.Change{Rotate: true}); err == nil {
		t.Error("rotated without randomness")
	}
}

// A block is never older than its parent nor than what it registers.
func TestChangeTime(t *testing.T) {
	p := create(t, "a")
	for _, tt := range []struct {
		name               string
		now, created, want passport.Time
	}{
		{"clock went on", start + 100, start, start + 100},
		{"clock of the author behind", start - 100, start, start},
		{"clock of the new device ahead", start, start + 50, start + 50},
		{"at the very timeout", start + 3600, start, start + 3600},
	} {
		q, _, err := p.Change(nil, key(t, "a"), tt.now, passport.Change{
			Register: []passport.Register{request(t, p.ID(), "b", "b", tt.created)}, Rotate: true,
		})
		if err != nil || q.LastTime() != tt.want {
			t.Errorf("%s: %v, want time %v", tt.name, err, tt.want)
		}
	}
}

// A secret that is not the one of the public key is refused, and so is what the
// author sealed with another passphrase.
func TestUnshieldRefuses(t *testing.T) {
	a := key(t, "a")
	p := create(t, "a")
	s, right, err := passport.Shield(nil, start, p.Active(), noise.EmptyPassphrasePSK)
	if err != nil {
		t.Fatal(err)
	}
	liar := s
	liar.Key = noise.SharedPublic{9}
	b, err := passport.SignBlock(a, start, p.Tip(), []passport.Entry{liar, s})
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.Append(b); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		key    noise.SharedPublic
		master string
		psk    [32]byte
		want   error
	}{
		{"right", s.Key, "a", noise.EmptyPassphrasePSK, nil},
		{"secret of another key", liar.Key, "a", noise.EmptyPassphrasePSK, passport.ErrUnshield},
		{"another passphrase", s.Key, "a", [32]byte{1}, passport.ErrUnshield},
		{"key that never was the passport's", noise.SharedPublic{1}, "a", noise.EmptyPassphrasePSK, passport.ErrNotShared},
		{"master key that it is not sealed to", s.Key, "b", noise.EmptyPassphrasePSK, passport.ErrNotShared},
	} {
		got, err := p.Unshield(tt.key, key(t, tt.master), tt.psk)
		if !errors.Is(err, tt.want) || (got != nil) != (tt.want == nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if got != nil && !got.Equal(right) {
			t.Errorf("%s: another secret", tt.name)
		}
		if err != nil && (bytes.Contains([]byte(err.Error()), a.Bytes()) || strings.Contains(err.Error(), "secret of")) {
			t.Errorf("%s: the error tells too much: %v", tt.name, err)
		}
	}
}

// A request survives the way from one device to the other, and nothing else does.
func TestParseRegister(t *testing.T) {
	r := request(t, passport.ID{1, 2}, "b", "0123456789abcdef0123456789abcdef", start)
	b := r.Bytes()
	got, err := passport.ParseRegister(b)
	if err != nil || got != r {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range b {
		b[i] ^= 1
		if _, err := passport.ParseRegister(b); !errors.Is(err, passport.ErrEntry) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		b[i] ^= 1
		if _, err := passport.ParseRegister(b[:i]); !errors.Is(err, passport.ErrEntry) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
	if _, err := passport.ParseRegister(append(b, 0)); !errors.Is(err, passport.ErrEntry) {
		t.Errorf("a byte too many: %v", err)
	}
	for _, alias := range []string{"ä", "a\x00b", strings.Repeat("a", 33)} {
		if _, err := passport.RequestRegistration(passport.ID{}, key(t, "b"), alias, start); !errors.Is(err, passport.ErrEntry) {
			t.Errorf("alias %q: %v", alias, err)
		}
	}
}
