package account_test

import (
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
)

// notices returns the notices in the inbox whose subject begins so, as raw messages.
func notices(t *testing.T, a *account.Account, begin string) (list []string) {
	t.Helper()
	for _, s := range inboxOf(t, a) {
		if strings.HasPrefix(s.Subject, begin) {
			list = append(list, string(raw(t, a, s.ID)))
		}
	}
	return list
}

func wantIn(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("lacks %q:\n%s", p, text)
		}
	}
}

// tryToSync syncs with a node that may be away.
func tryToSync(t *testing.T, a *account.Account) error {
	t.Helper()
	_, err := a.Sync(deadline(t), account.SyncOptions{})
	return err
}

// After four hours without an answer there is one notice for each mail and recipient, in
// the form of RFC 3464; and no more of them.
func TestDelayNotice(t *testing.T) {
	c := new(clock)
	n, alice, bob := pair(t, c)
	sync1(t, alice)
	n.Stop()
	id := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "Slow", Lifetime: 36 * time.Hour})
	c.Add(4*time.Hour - time.Minute)
	if tryToSync(t, alice) == nil || len(notices(t, alice, "")) != 0 {
		t.Fatalf("%d notices before four hours", len(notices(t, alice, "")))
	}
	for range 3 {
		c.Add(2 * time.Minute)
		if tryToSync(t, alice) == nil {
			t.Fatal("the node is there")
		}
	}
	list := notices(t, alice, "Not delivered yet: Slow")
	if len(list) != 1 {
		t.Fatalf("%d notices, want 1", len(list))
	}
	until := state(t, alice, id).Created.Add(36 * time.Hour).UTC()
	wantIn(t, list[0], "Action: delayed", "Status: 4.4.1", "Final-Recipient: rfc822; "+bob.ID().String()+"@asmtp",
		"Will-Retry-Until: "+until.Format(time.RFC1123Z), "no node has taken it yet")
	wantState(t, alice, id, account.Queued)
	c.Add(36 * time.Hour)
	o := wantState(t, alice, id, account.Unconfirmed)
	if tryToSync(t, alice) == nil {
		t.Fatal("the node is there")
	}
	if !strings.Contains(o.Reason, "36 hours") || !strings.Contains(o.Reason, "never left") {
		t.Errorf("reason is %q", o.Reason)
	}
	list = notices(t, alice, "Not delivered: Slow")
	if len(list) != 1 {
		t.Fatalf("%d notices of the end, want 1", len(list))
	}
	wantIn(t, list[0], "Action: failed", "Status: 4.4.7", "could not be delivered")
	if len(inboxOf(t, alice)) != 2 {
		t.Errorf("the inbox has %d notices, want 2", len(inboxOf(t, alice)))
	}
}

// At the end of what left the device nobody knows whether it arrived, and the notice says so.
func TestEndIsUncertain(t *testing.T) {
	c := new(clock)
	_, alice, _ := pair(t, c)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "Gone", Lifetime: time.Hour})
	sync1(t, alice)
	wantState(t, alice, id, account.Accepted)
	c.Add(time.Hour)
	wantState(t, alice, id, account.Unconfirmed)
	sync1(t, alice)
	sync1(t, alice)
	list := notices(t, alice, "Not confirmed: Gone")
	if len(list) != 1 {
		t.Fatalf("%d notices, want 1", len(list))
	}
	wantIn(t, list[0], "Action: failed", "may have arrived", "within its lifetime of 1 hour", "before you send it again")
}

// A device that was away while the receipt waited at the node: it takes the receipt in
// first, and tells of neither delay nor end.
func TestReceiptComesBeforeNotices(t *testing.T) {
	c := new(clock)
	_, alice, bob := pair(t, c)
	sync1(t, bob)
	for _, away := range []time.Duration{5 * time.Hour, 15 * day} {
		id := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "x"})
		sync1(t, alice)
		if got := sync1(t, bob); len(got) != 1 {
			t.Fatalf("bob got %+v", got)
		}
		c.Add(away)
		state(t, alice, id) // who looks before the sync gets no notice, either
		sync1(t, alice)
		wantState(t, alice, id, account.Delivered)
	}
	if list := inboxOf(t, alice); len(list) != 0 {
		t.Errorf("alice has the notices %v", subjects(list))
	}
}

// A lifetime has bounds.
func TestLifetimeBounds(t *testing.T) {
	alice, _ := offline(t, nil)
	for _, tt := range []struct {
		d  time.Duration
		ok bool
	}{{0, true}, {time.Hour, true}, {60 * day, true}, {time.Hour - 1, false}, {60*day + 1, false}, {-time.Hour, false}} {
		_, err := alice.Send(t.Context(), account.Draft{To: []string{"bob"}, Lifetime: tt.d})
		if tt.ok && err != nil {
			t.Errorf("%v: %v", tt.d, err)
		}
		if !tt.ok {
			wantError(t, err, account.ErrLifetime)
		}
	}
}

// While its lifetime lasts, a mail is sealed anew before its envelopes end, and arrives
// after more weeks than any node keeps an envelope.
func TestSealedAnewForWeeks(t *testing.T) {
	c := new(clock)
	_, alice, bob := pair(t, c)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "patient", Lifetime: 50 * day})
	for range 45 * 2 { // twice a day
		sync1(t, alice)
		c.Add(12 * time.Hour)
	}
	wantState(t, alice, id, account.Accepted)
	got := sync1(t, bob)
	if len(got) != 1 {
		t.Fatalf("bob got %+v", got)
	}
	sync1(t, alice)
	wantState(t, alice, id, account.Delivered)
}

// By the plan alone no mail is without living envelopes: it is due before they end.
func TestDueBeforeEnvelopesEnd(t *testing.T) {
	c := new(clock)
	_, alice, _ := pair(t, c)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Lifetime: 40 * day})
	sync1(t, alice)
	for c.ahead < 35*day {
		end, err := alice.Expires(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		next := state(t, alice, id).Next
		if !next.Before(end) {
			t.Fatalf("due at %v, its envelopes end at %v", next, end)
		}
		c.Add(next.Sub(c.Now()) + time.Second)
		sync1(t, alice)
	}
}

// Clocks wrong by two hours, either way, on either side: mail, with the shortest lifetime
// too, is accepted, arrives, and is receipted.
func TestClocksOff(t *testing.T) {
	for _, tt := range []struct {
		name       string
		alice, bob time.Duration
	}{
		{"alice late", -2 * time.Hour, 0}, {"alice early", 2 * time.Hour, 0}, {"bob late", 0, -2 * time.Hour},
		{"bob early", 0, 2 * time.Hour}, {"late and early", -2 * time.Hour, 2 * time.Hour}, {"early and late", 2 * time.Hour, -2 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := startNode(t, nil)
			alice, bob := create(t, &clock{ahead: tt.alice}, "alice"), create(t, &clock{ahead: tt.bob}, "bob")
			join(t, n, alice)
			join(t, n, bob)
			acquaint(t, alice, bob)
			sync1(t, bob)
			for _, lifetime := range []time.Duration{time.Hour, 14 * day, 60 * day} {
				id := send(t, alice, account.Draft{To: []string{"bob"}, Lifetime: lifetime})
				sync1(t, alice)
				if o := state(t, alice, id); o.State != account.Accepted {
					t.Errorf("lifetime %v: %v (%s)", lifetime, o.State, o.Reason)
				}
				if got := sync1(t, bob); len(got) != 1 {
					t.Errorf("lifetime %v: bob got %+v", lifetime, got)
				}
				sync1(t, alice)
				wantState(t, alice, id, account.Delivered)
			}
		})
	}
}

// A clock that is days off is named as the reason why mail does not go out.
func TestClockFarOffIsNamed(t *testing.T) {
	n := startNode(t, nil)
	alice := create(t, &clock{ahead: 3 * day}, "alice")
	join(t, n, alice)
	id := send(t, alice, account.Draft{To: []string{"alice"}})
	sync1(t, alice)
	o := wantState(t, alice, id, account.Queued)
	wantIn(t, o.Reason, "too far away", "clock", "72h")
}
