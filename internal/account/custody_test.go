package account_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/passport"
)

// The number of holders is what the nodes say now, the largest of them; when it falls the
// state stays and the history says so.
func TestHoldersMayBecomeFewer(t *testing.T) {
	alice, _ := offline(t, nil)
	id := send(t, alice, account.Draft{To: []string{"bob"}})
	say := func(node byte, held int) {
		t.Helper()
		if err := alice.SetHeld(t.Context(), id, node, held); err != nil {
			t.Fatal(err)
		}
	}
	want := func(s account.State, held int, reason string) {
		t.Helper()
		o := state(t, alice, id)
		if o.State != s || o.Held != held || o.Reason != reason {
			t.Fatalf("mail is %v by %d (%q), want %v by %d (%q)", o.State, o.Held, o.Reason, s, held, reason)
		}
		if last := o.History[len(o.History)-1]; last.State != s || last.Held != held && s == account.Held {
			t.Fatalf("history ends with %+v, want %v by %d", last, s, held)
		}
	}
	const none = "no other member is known to have it any more; it is handed on again"
	say(1, 3) // before the node confirmed it, this is no news
	if o := state(t, alice, id); o.State != account.Queued {
		t.Fatalf("mail is %v", o.State)
	}
	say(1, 0)
	if err := alice.Advance(t.Context(), id, account.Accepted); err != nil {
		t.Fatal(err)
	}
	say(1, 0)
	want(account.Accepted, 0, "")
	say(1, 2)
	want(account.Held, 2, "")
	say(2, 1) // another node knows of one, perhaps of the same
	want(account.Held, 2, "")
	say(1, 1)
	want(account.Held, 1, "")
	say(1, 0) // the other still says one
	want(account.Held, 1, "")
	say(2, 0)
	want(account.Held, 0, none)
	say(1, 4)
	want(account.Held, 4, "")
	notes := make(map[string]int)
	for _, h := range state(t, alice, id).History {
		notes[h.Note]++
	}
	for note, n := range map[string]int{"a member no longer has it; 1 hold it": 1, "a member no longer has it; none holds it": 1, "stored by other members of the mesh": 2} {
		if notes[note] != n {
			t.Errorf("history says %q %d times, want %d: %v", note, notes[note], n, notes)
		}
	}
	q, err := alice.Queue(t.Context())
	if err != nil || len(q) != 1 || q[0].Held != 4 || q[0].State != account.Held {
		t.Errorf("the queue says %+v, %v", q, err)
	}
	if err := alice.Advance(t.Context(), id, account.Delivered); err != nil {
		t.Fatal(err)
	}
	say(1, 5)
	if o := state(t, alice, id); o.State != account.Delivered || o.Held != 4 {
		t.Errorf("mail is %v by %d", o.State, o.Held)
	}
}

// What a node says about envelopes that were replaced meanwhile is no news of those that
// are on their way now.
func TestCustodyOfOldEnvelopes(t *testing.T) {
	c := new(clock)
	n := startNode(t, c)
	alice, bob := create(t, c, "alice"), create(t, c, "bob")
	join(t, n, alice)
	exchange(t, alice, bob)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Lifetime: 60 * day})
	sync1(t, alice)
	old := state(t, alice, id).Envelopes[0]
	w, err := alice.Watch(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	sealedAnew(t, c, alice, id)
	if err := w.Say(t.Context(), old, 3); err != nil {
		t.Fatal(err)
	}
	if o := wantState(t, alice, id, account.Accepted); o.Held != 0 {
		t.Errorf("held by %d, which have other envelopes", o.Held)
	}
}

// A member that has receipts of before says nothing of those that wait now, even if their
// row has the same number.
func TestCustodyOfOldReceipts(t *testing.T) {
	alice, bob := offline(t, nil)
	first := send(t, alice, account.Draft{To: []string{"bob"}})
	take(t, bob, envelopes(t, alice, first)...)
	old := receipts(t, bob)
	handedOver(t, bob)
	watching := make([]*account.Watching, 2)
	for i := range watching {
		w, err := bob.Watch(t.Context(), byte(i))
		if err != nil {
			t.Fatal(err)
		}
		watching[i] = w
	}
	e, err := envelope.Parse(old[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := watching[0].Say(t.Context(), e.ID(), 1); err != nil {
		t.Fatal(err)
	}
	second := send(t, alice, account.Draft{To: []string{"bob"}})
	take(t, bob, envelopes(t, alice, second)...)
	fresh := receipts(t, bob)
	if err := watching[1].Say(t.Context(), e.ID(), 1); err != nil {
		t.Fatal(err)
	}
	if list := receipts(t, bob); len(fresh) != 1 || len(list) != 1 {
		t.Fatalf("%d receipts wait, want the second mail's", len(list))
	}
}

// The list of envelopes of which custody is watched is read only when its version changed:
// the version changes with the list.
func TestWatchedVersion(t *testing.T) {
	c := new(clock)
	_, alice, bob := pair(t, c)
	sync1(t, bob)
	version, ids, err := alice.Watched(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	step := func(what string, changes bool, do func()) {
		t.Helper()
		do()
		v, list, err := alice.Watched(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if other := !slices.Equal(ids, list); other != changes || other && v == version {
			t.Errorf("%s: the list changed: %v, its version: %v; want %v", what, other, v != version, changes)
		}
		version, ids = v, list
	}
	var id account.MailID
	step("a new mail", false, func() { id = send(t, alice, account.Draft{To: []string{"bob"}, Lifetime: 60 * day}) })
	step("accepted", true, func() { sync1(t, alice) })
	step("held", false, func() {
		if err := alice.SetHeld(t.Context(), id, 1, 1); err != nil {
			t.Fatal(err)
		}
	})
	step("sealed anew", true, func() { sealedAnew(t, c, alice, id) })
	step("answered", true, func() { sync1(t, bob); sync1(t, alice) })
	send(t, bob, account.Draft{To: []string{"alice"}})
	sync1(t, bob)
	step("a receipt given", true, func() { sync1(t, alice) })
	step("a contact removed", true, func() {
		if err := alice.RemoveContact(t.Context(), "bob"); err != nil {
			t.Fatal(err)
		}
	})
}

// Members of which only a node told that was removed do not count any more.
func TestHoldersOfRemovedNode(t *testing.T) {
	n := startNode(t, nil)
	alice, bob := create(t, nil, "alice"), create(t, nil, "bob")
	join(t, n, alice)
	exchange(t, alice, bob)
	id := send(t, alice, account.Draft{To: []string{"bob"}})
	sync1(t, alice)
	key := n.ID()
	if err := alice.Exec(t.Context(), "INSERT OR REPLACE INTO custody SELECT n, ?, 5 FROM outgoing", key[:]); err != nil {
		t.Fatal(err)
	}
	if err := alice.SetHeld(t.Context(), id, 2, 2); err != nil {
		t.Fatal(err)
	}
	if o := wantState(t, alice, id, account.Held); o.Held != 5 {
		t.Fatalf("held by %d, want 5", o.Held)
	}
	if _, err := alice.RemoveNode(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	o := wantState(t, alice, id, account.Held)
	if o.Held != 2 {
		t.Errorf("held by %d, want the 2 of the node that is left", o.Held)
	}
	if o.Next.After(time.Now()) {
		t.Errorf("the mail that the removed node took is due at %v, want now", o.Next)
	}
}

// A member that has a mail now and then not does not fill the database.
func TestHistoryIsBounded(t *testing.T) {
	alice, _ := offline(t, nil)
	id := send(t, alice, account.Draft{To: []string{"bob"}})
	if err := alice.Advance(t.Context(), id, account.Accepted); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		if err := alice.SetHeld(t.Context(), id, 1, 1+i%2); err != nil {
			t.Fatal(err)
		}
	}
	if o := state(t, alice, id); len(o.History) > 200 || o.Held != 2 {
		t.Errorf("history has %d entries, held by %d", len(o.History), o.Held)
	}
	if err := alice.Advance(t.Context(), id, account.Delivered); err != nil {
		t.Fatal(err)
	}
	o := state(t, alice, id)
	if last := o.History[len(o.History)-1]; last.State != account.Delivered {
		t.Errorf("history ends with %+v, want that it was delivered", last)
	}
}

// The ids of the envelopes are told as long as the mail is known, also once it is
// delivered and the envelopes themselves are gone.
func TestEnvelopesOfMail(t *testing.T) {
	alice, bob := offline(t, nil)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Attachments: []account.Attachment{attachment("f", randomBytes(t, 150_000))}})
	before := state(t, alice, id).Envelopes
	take(t, bob, envelopes(t, alice, id)...)
	take(t, alice, receipts(t, bob)...)
	o := wantState(t, alice, id, account.Delivered)
	if len(before) < 3 || fmt.Sprint(before) != fmt.Sprint(o.Envelopes) {
		t.Errorf("envelopes are %v, then %v", before, o.Envelopes)
	}
}

// A mail of a kind that an older program put aside is taken in by one that knows it.
func TestKeptPartIsOpened(t *testing.T) {
	n := startNode(t, nil)
	alice, bob := create(t, nil, "alice"), create(t, nil, "bob")
	join(t, n, bob)
	exchange(t, alice, bob)
	exchange(t, bob, alice)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "from the future"})
	from, part := alice.ID(), state(t, alice, id).Envelopes[0]
	if err := bob.Exec(t.Context(), "INSERT INTO kept VALUES (?, ?, ?, 1)", part[:], from[:], envelopes(t, alice, id)[0]); err != nil {
		t.Fatal(err)
	}
	if got := sync1(t, bob); len(got) != 1 || got[0].ID != id {
		t.Fatalf("bob got %+v", got)
	}
	if o, err := bob.Overview(t.Context()); err != nil || o.Newer != 0 {
		t.Errorf("%d parts are still kept (%v)", o.Newer, err)
	}
	if got := sync1(t, bob); len(got) != 0 {
		t.Errorf("bob got %+v again", got)
	}
}

// A second chain of the user's own passport, or of a contact's, is told.
func TestOwnFork(t *testing.T) {
	n := startNode(t, nil)
	alice, bob := create(t, nil, "alice"), create(t, nil, "bob")
	join(t, n, alice)
	join(t, n, bob)
	add(t, bob, alice)
	fork, err := alice.Forked(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, err := alice.Passport(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*passport.Passport{first, fork, fork} {
		for _, a := range []*account.Account{alice, bob} {
			if err := a.TakeForeign(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, a := range []*account.Account{alice, bob} {
		o, err := a.Overview(t.Context())
		if err != nil || len(o.Forked) != 1 || o.Forked[0] != "alice" {
			t.Errorf("%s is told of forks of %q (%v)", a.Name(), o.Forked, err)
		}
	}
	sync1(t, alice)
	if now, err := alice.Passport(t.Context()); err != nil || now.Tip() != first.Tip() {
		t.Errorf("the chain seen first is not in force (%v)", err)
	}
}
