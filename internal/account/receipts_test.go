package account_test

import (
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/passport"
)

const day = 24 * time.Hour

// sealedAnew returns the envelopes of a mail after its sender has sealed it again.
func sealedAnew(t *testing.T, c *clock, a *account.Account, id account.MailID) [][]byte {
	t.Helper()
	before := state(t, a, id).Envelopes
	c.Add(13*day + 18*time.Hour)
	sync1(t, a)
	after := state(t, a, id).Envelopes
	if len(after) != len(before) || after[0] == before[0] {
		t.Fatalf("the mail was not sealed anew: envelopes %v, then %v", before, after)
	}
	return envelopes(t, a, id)
}

func receipts(t *testing.T, a *account.Account) [][]byte {
	t.Helper()
	list, err := a.Receipts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// handedOver pretends that the node has all receipts.
func handedOver(t *testing.T, a *account.Account) {
	t.Helper()
	if err := a.Exec(t.Context(), "UPDATE batches SET accepted = 1, next = (SELECT max(created) + 6 * 3600 * 1000 FROM receipts)"); err != nil {
		t.Fatal(err)
	}
}

// A receipt that is lost is given again when the sender seals the mail anew: once for each
// sealing, however many parts it has and however often they come; the mail is shown once.
func TestLostReceiptIsGivenAgain(t *testing.T) {
	c := new(clock)
	n := startNode(t, c)
	alice, bob := create(t, c, "alice"), create(t, c, "bob")
	join(t, n, alice)
	exchange(t, alice, bob)
	exchange(t, bob, alice)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Lifetime: 60 * day, Attachments: []account.Attachment{attachment("f", randomBytes(t, 130_000))}})
	first := envelopes(t, alice, id)
	sync1(t, alice)
	if got := take(t, bob, first...); len(got) != 1 || len(receipts(t, bob)) != 1 {
		t.Fatalf("bob got %+v", got)
	}
	handedOver(t, bob) // and lost
	take(t, bob, first...)
	if r := receipts(t, bob); len(r) != 0 {
		t.Errorf("%d receipts for the same sealing again", len(r))
	}
	for range 2 {
		again := sealedAnew(t, c, alice, id)
		for _, e := range again { // each in a batch of its own, all twice, with the old ones
			if got := take(t, bob, e, first[0]); len(got) != 0 {
				t.Errorf("the mail was shown again")
			}
		}
		r := receipts(t, bob)
		if len(r) != 1 {
			t.Fatalf("%d receipts for a sealing, want 1", len(r))
		}
		handedOver(t, bob)
		take(t, bob, append(again, first...)...)
		if r := receipts(t, bob); len(r) != 0 {
			t.Errorf("%d more receipts when the parts come again", len(r))
		}
	}
	take(t, bob, sealedAnew(t, c, alice, id)...)
	take(t, alice, receipts(t, bob)...)
	wantState(t, alice, id, account.Delivered)
	if n, err := bob.Count(t.Context(), "SELECT count(*) FROM receipts"); err != nil || n != 1 {
		t.Errorf("%d receipts are kept (%v), want 1", n, err)
	}
}

// A receipt that waits while the contact's shared key changes is sealed for the new one.
func TestReceiptForChangedKey(t *testing.T) {
	alice, bob := offline(t, nil)
	id := send(t, alice, account.Draft{To: []string{"bob"}})
	take(t, bob, envelopes(t, alice, id)...)
	old := receipts(t, bob)
	if err := alice.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := alice.Passport(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Import(t.Context(), p.Export()); err != nil {
		t.Fatal(err)
	}
	fresh := receipts(t, bob)
	if len(old) != 1 || len(fresh) != 1 || string(old[0]) == string(fresh[0]) {
		t.Fatalf("%d receipts, then %d; want one, and it sealed anew", len(old), len(fresh))
	}
	take(t, alice, fresh...)
	wantState(t, alice, id, account.Delivered)
}

// Receipts stay until another member of the mesh has them.
func TestReceiptKeptUntilHeld(t *testing.T) {
	c := new(clock)
	a, b, alice, bob := two(t, c)
	join(t, b, bob)
	acquaint(t, alice, bob)
	syncUntil(t, bob, "bob knows alice", knows(t, bob, "alice"))
	syncUntil(t, alice, "alice knows bob", knows(t, alice, "bob"))
	send(t, alice, account.Draft{To: []string{"bob"}})
	sync1(t, alice)
	b.Await("the mail is at bob's node", hasEnvelopes)
	a.Stop()
	if got := sync1(t, bob); len(got) != 1 {
		t.Fatalf("bob got %+v", got)
	}
	batches := func() int {
		n, err := bob.Count(t.Context(), "SELECT count(*) FROM batches WHERE accepted > 0")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	c.Add(2 * day)
	sync1(t, bob)
	if n := batches(); n != 1 {
		t.Fatalf("%d envelopes of receipts are kept while nobody else has them, want 1", n)
	}
	a.Options.Listen = nodeOf(a).Address
	a.Restart()
	connected(t, b)
	// Both nodes may open the connection; if the exchange over the one that gives way is lost, or
	// meets the other's, the next is half a minute later.
	syncUntilWithin(t, 3*patience, bob, "the receipt is held", func([]account.Summary) bool { return batches() == 0 })
	if n, err := bob.Count(t.Context(), "SELECT count(*) FROM receipts"); err != nil || n != 0 {
		t.Errorf("%d receipts are kept (%v)", n, err)
	}
}

// At a node without neighbours nobody can confirm: receipts are handed over again for a
// day, and then done with.
func TestReceiptsOfLonelyNode(t *testing.T) {
	c := new(clock)
	_, alice, bob := pair(t, c)
	send(t, alice, account.Draft{To: []string{"bob"}})
	sync1(t, alice)
	sync1(t, bob)
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{time.Hour, 1}, {8 * time.Hour, 1}, {20 * time.Hour, 0}} {
		c.Add(step.after)
		sync1(t, bob)
		if n, err := bob.Count(t.Context(), "SELECT count(*) FROM receipts"); err != nil || n != step.want {
			t.Errorf("after %v more: %d receipts (%v), want %d", step.after, n, err, step.want)
		}
	}
}

// A receipt that no node took before its envelope ended is sealed anew.
func TestReceiptSealedAnew(t *testing.T) {
	c := new(clock)
	alice, bob := offline(t, c)
	id := send(t, alice, account.Draft{To: []string{"bob"}})
	take(t, bob, envelopes(t, alice, id)...)
	old := receipts(t, bob)
	c.Add(20 * day)
	fresh := receipts(t, bob)
	if len(old) != 1 || len(fresh) != 1 || string(old[0]) == string(fresh[0]) {
		t.Fatalf("%d receipts, then %d; want one, and it sealed anew", len(old), len(fresh))
	}
	wantState(t, alice, id, account.Unconfirmed)
	take(t, alice, fresh...)
	wantState(t, alice, id, account.Delivered)
}

// A receipt that a node accepted, and that nobody confirmed before its envelope ended, is
// sealed anew as well.
func TestAcceptedReceiptSealedAnew(t *testing.T) {
	c := new(clock)
	n := startNode(t, c)
	alice, bob := create(t, c, "alice"), create(t, c, "bob")
	join(t, n, bob)
	exchange(t, alice, bob)
	exchange(t, bob, alice)
	id := send(t, alice, account.Draft{To: []string{"bob"}})
	take(t, bob, envelopes(t, alice, id)...)
	receipts(t, bob)
	handedOver(t, bob)
	c.Add(20 * day)
	if _, err := bob.Sync(deadline(t), account.SyncOptions{}); err != nil { // cleans up
		t.Fatal(err)
	}
	if n, err := bob.Count(t.Context(), "SELECT count(*) FROM batches WHERE expires > ?", int64(passport.TimeOf(c.Now()))); err != nil || n != 1 {
		t.Errorf("%d receipts are on their way (%v), want 1", n, err)
	}
}

// A mail that is here is answered when its sender seals it anew, even if nothing else is
// known of it any more.
func TestForgottenMailIsAnswered(t *testing.T) {
	c := new(clock)
	n := startNode(t, c)
	alice, bob := create(t, c, "alice"), create(t, c, "bob")
	join(t, n, alice)
	exchange(t, alice, bob)
	exchange(t, bob, alice)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Lifetime: 60 * day})
	sync1(t, alice)
	take(t, bob, envelopes(t, alice, id)...)
	if err := bob.Exec(t.Context(), "DELETE FROM receipts"); err != nil {
		t.Fatal(err)
	}
	if err := bob.Exec(t.Context(), "DELETE FROM seen"); err != nil {
		t.Fatal(err)
	}
	if got := take(t, bob, sealedAnew(t, c, alice, id)...); len(got) != 0 {
		t.Error("the mail was shown again")
	}
	if r := receipts(t, bob); len(r) != 1 {
		t.Errorf("%d receipts, want 1", len(r))
	}
}

// A clock that was ahead for a while does not put off what is due for as long.
func TestClockWasAhead(t *testing.T) {
	c := new(clock)
	_, alice, bob := pair(t, c)
	sync1(t, bob)
	send(t, bob, account.Draft{To: []string{"alice"}})
	sync1(t, bob)
	c.Add(8 * day)
	id := send(t, alice, account.Draft{To: []string{"bob"}})
	sync1(t, alice) // hands over both: the mail and a receipt
	c.Add(-8 * day)
	before := state(t, alice, id).Next
	sync1(t, alice)
	if next := state(t, alice, id).Next; !next.Before(before) || next.After(c.Now().Add(8*time.Hour)) {
		t.Errorf("the mail is due at %v, then at %v", before, next)
	}
	if n, err := alice.Count(t.Context(), "SELECT count(*) FROM batches WHERE next > ?", c.Now().Add(8*time.Hour).UnixMilli()); err != nil || n != 0 {
		t.Errorf("%d receipts are put off for days (%v)", n, err)
	}
}
