package account_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/node/nodetest"
)

// Across a mesh of three nodes, with the recipient away: the sender sees that both other
// nodes hold the mail, and then that it was delivered.
func TestHeldThenDelivered(t *testing.T) {
	nodes := nodetest.Mesh(t, 3)
	alice, bob := create(t, nil, "alice"), create(t, nil, "bob")
	join(t, nodes[0], alice)
	join(t, nodes[2], bob)
	acquaint(t, alice, bob)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "across", Attachments: []account.Attachment{attachment("f", randomBytes(t, 300_000))}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := alice.Wait(ctx, id, account.Held, account.SyncOptions{}); err != nil {
		t.Fatal(err)
	}
	if o := state(t, alice, id); o.Held < 1 || o.Held > 2 {
		t.Errorf("held by %d of 2 others", o.Held)
	}
	following, stop := context.WithCancel(ctx)
	got := make(chan account.Summary, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		bob.Sync(following, account.SyncOptions{Follow: true, OnMail: func(s account.Summary) { got <- s }})
	}()
	select {
	case s := <-got:
		if s.Subject != "across" {
			t.Errorf("bob got %+v", s)
		}
	case <-ctx.Done():
		t.Fatal("bob got nothing")
	}
	if _, err := alice.Wait(ctx, id, account.Delivered, account.SyncOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, h := range state(t, alice, id).History {
		if h.State == account.Held && h.Held == 0 {
			t.Errorf("the history says that nobody held it: %+v", h)
		}
	}
	stop()
	<-ended
}

// A closed account leaves nothing running.
func TestNoGoroutineLeft(t *testing.T) {
	n, alice, _ := pair(t, nil)
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	following, stop := context.WithCancel(ctx)
	_, err := alice.Sync(following, account.SyncOptions{Follow: true, OnProgress: func(p account.Progress) {
		if p.Step == "caught up" {
			stop()
		}
	}})
	wantError(t, err, context.Canceled)
	n.Stop()
	goleak.VerifyNone(t, before)
}

// Accepted mail without a receipt is offered again by the plan, and costs nothing else.
func TestRetryPlan(t *testing.T) {
	c := new(clock)
	_, alice, _ := pair(t, c)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "x"})
	sync1(t, alice)
	for _, least := range []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 6 * time.Hour, 6 * time.Hour} {
		next := state(t, alice, id).Next.Sub(c.Now())
		if next < least-time.Minute || next > least+least/4+time.Second {
			t.Errorf("next try in %v, want in about %v", next, least)
		}
		c.Add(2 * least)
		sync1(t, alice)
	}
	wantState(t, alice, id, account.Accepted)
}

// Mails are found by words and by the beginning of their id.
func TestFindAndSearch(t *testing.T) {
	alice, bob := offline(t, nil)
	var ids []account.MailID
	for _, d := range []account.Draft{{Subject: "Sommerfest", Text: "Wir grillen"}, {Subject: "Rechnung", Text: "über 20 Euro"}} {
		d.To = []string{"bob"}
		id := send(t, alice, d)
		take(t, bob, envelopes(t, alice, id)...)
		ids = append(ids, id)
	}
	for words, want := range map[string]int{"sommer": 1, "grillen": 1, "uber euro": 1, "alice": 2, "grillen euro": 0, `"`: 0, "AND": 0, "sommerfest OR rechnung": 0, "*": 0, "subject:x": 0, "x' --": 0} {
		got, err := bob.Inbox(t.Context(), account.InboxOptions{Search: words})
		if err != nil || len(got) != want {
			t.Errorf("search for %q found %d (%v), want %d", words, len(got), err, want)
		}
	}
	for _, id := range ids {
		for _, n := range []int{8, 31, 32} {
			if got, err := bob.Find(t.Context(), id.String()[:n]); err != nil || got != id {
				t.Errorf("Find(%s) = %v, %v", id.String()[:n], got, err)
			}
		}
	}
	for _, prefix := range []string{"", "abc", "zzzz", id32('f'), "%", "0123456789abcdef0123456789abcdef0"} {
		_, err := bob.Find(t.Context(), prefix)
		wantError(t, err, account.ErrNotFound)
	}
	if err := bob.Exec(t.Context(), "UPDATE mails SET id = unhex(printf('abcd%028x', n))"); err != nil {
		t.Fatal(err)
	}
	_, err := bob.Find(t.Context(), "ABCD")
	if e, ok := errors.AsType[*account.AmbiguousError](err); !ok || len(e.IDs) != 2 {
		t.Errorf("error is %v, want an AmbiguousError", err)
	}
}

func id32(digit byte) string {
	b := make([]byte, 32)
	for i := range b {
		b[i] = digit
	}
	return string(b)
}
