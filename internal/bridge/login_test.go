package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asmtp/asmtp/internal/account"
)

// took is how long the answer to a wrong password takes.
func took(t *throttle, s source) time.Duration {
	began := time.Now()
	t.fail(context.Background(), s)
	return time.Since(began)
}

// Each wrong password is answered later than the one before, up to a bound; others are
// not slowed, and what is long ago or was followed by a right one is forgotten.
func TestThrottleGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newThrottle(time.Now)
		alice, bob, other := source{"h", "alice"}, source{"h", "bob"}, source{"i", "alice"}
		last := time.Duration(0)
		for range 12 {
			d := took(th, alice)
			if d < last || d > lastDelay || d == last && d != lastDelay {
				t.Errorf("%v after %v", d, last)
			}
			last = d
		}
		if last != lastDelay {
			t.Errorf("it ends with %v", last)
		}
		for _, s := range []source{bob, other} {
			if d := took(th, s); d != firstDelay {
				t.Errorf("%v is slowed by others: %v", s, d)
			}
		}
		th.succeed(alice)
		if d := took(th, alice); d != firstDelay {
			t.Errorf("after a right password: %v", d)
		}
		took(th, alice)
		time.Sleep(forgetAfter + time.Second)
		if d := took(th, alice); d != firstDelay {
			t.Errorf("after a long time: %v", d)
		}
	})
}

// What waits and what is remembered is bounded, and a wait ends with its context.
func TestThrottleIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newThrottle(time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range maxWaiting {
			wg.Go(func() {
				if !th.fail(ctx, source{"h", fmt.Sprint(i)}) {
					t.Error("there was no room")
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		if th.fail(ctx, source{"h", "more"}) || time.Since(began) > 0 {
			t.Error("one more waited")
		}
		cancel()
		wg.Wait()
		if time.Since(began) > 0 {
			t.Error("a wait does not end with its context")
		}
		for i := range 3 * maxSources {
			th.count(source{"h", fmt.Sprint(i)})
			th.waiting = 0
		}
		if n := len(th.sources); n > maxSources {
			t.Errorf("%d sources are remembered", n)
		}
	})
}

// The user says which account is meant; of two with one name the password does. A name
// that nobody has is as wrong as a password.
func TestLoginFindsTheAccount(t *testing.T) {
	one, two := createAccount(t, "alice"), createAccount(t, "alice")
	p1, p2 := newPassword(t, one), newPassword(t, two)
	var log strings.Builder
	b, err := New(Options{Accounts: []*account.Account{one, two}, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		user, password string
		want           *account.Account
	}{
		{"alice", p1, one}, {"alice", p2, two}, {one.ID().String(), p1, one}, {two.ID().String() + "@asmtp", p2, two},
		{one.ID().String(), p2, nil}, {"bob", p1, nil}, {"alice@example.org", p1, nil}, {"alice", "wrong-" + p1, nil}, {"alice", "", nil}, {"", p1, nil},
	} {
		s, err := b.login(t.Context(), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5}, tt.user, tt.password, nil)
		if tt.want == nil {
			if !errors.Is(err, errLogin) {
				t.Errorf("%s with a wrong password: %v", tt.user, err)
			}
			b.throttle.sources = make(map[source]*failures) // do not wait longer
		} else if err != nil || s.acc != tt.want {
			t.Errorf("%s: %v", tt.user, err)
		}
	}
	for _, secret := range []string{p1, p2, "wrong-"} {
		if strings.Contains(log.String(), secret) {
			t.Error("a password is in the log")
		}
	}
}

// While wrong passwords wait for their answers, a program with the right one gets in at
// once, from the same machine and for the same account.
func TestLoginIsNeverLockedOut(t *testing.T) {
	e := newSMTPEnv(t, nil)
	for range maxWaiting + 8 {
		c := e.dial()
		c.send("EHLO test\r\n" + plain("alice", "wrong") + "\r\n")
	}
	began := time.Now()
	e.queued(e.login().mail(letter))
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("it took %v", d)
	}
}

// A connection may fail only so often.
func TestLoginEndsConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("waits some seconds")
	}
	e := newSMTPEnv(t, nil)
	c := e.dial()
	c.do("EHLO test", "250")
	last := time.Duration(0)
	for range maxLogins {
		began := time.Now()
		c.do(plain("alice", "wrong"), "535 5.7.8")
		if d := time.Since(began); d < last {
			t.Errorf("%v after %v", d, last)
		} else {
			last = d
		}
	}
	c.ended()
}

// A revoked password is worthless at once, also for who is logged in with it; others stay.
func TestLoginRevoked(t *testing.T) {
	imap := imapEnv{t: t}
	e := newSMTPEnv(t, func(o *Options) {
		var err error
		if o.IMAP, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		imap.addr = o.IMAP.Addr().String()
	})
	other, err := e.acc.MakePassword(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	in := func(password string) (*smtpClient, *imapClient) {
		s, i := e.dial(), imap.dial()
		s.do("EHLO test", "250")
		s.do(plain("alice", password), "235")
		i.ok("LOGIN alice " + password)
		return s, i
	}
	goes := func(s *smtpClient, i *imapClient) {
		t.Helper()
		s.want("421 4.7.0 the password was revoked")
		s.ended()
		if line := i.line(); !strings.HasPrefix(line, "* BYE the password was revoked") {
			t.Errorf("IMAP says %q", line)
		}
	}
	stays := func(s *smtpClient, i *imapClient) {
		t.Helper()
		s.do("NOOP", "250")
		i.ok("NOOP")
	}
	s1, i1 := in(e.password)
	s2, i2 := in(other)
	if err := e.acc.RevokePassword(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	goes(s1, i1)
	c := e.dial()
	c.do("EHLO test", "250")
	c.do(plain("alice", e.password), "535")
	stays(s2, i2)

	next, err := e.acc.MakePassword(t.Context(), "other") // in the place of the one before
	if err != nil {
		t.Fatal(err)
	}
	goes(s2, i2)
	stays(in(next))
}

func BenchmarkLogin(b *testing.B) {
	a := createAccount(b, "alice")
	p := newPassword(b, a)
	br, err := New(Options{Accounts: []*account.Account{a}})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := br.login(b.Context(), nil, "alice", p, nil); err != nil {
			b.Fatal(err)
		}
	}
}
