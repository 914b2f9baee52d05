package account_test

import (
	"context"
	"slices"
	"testing"

	"github.com/asmtp/asmtp/internal/account"
)

// A small mail that was sent after a large one is sent and taken in before it.
func TestSmallMailOvertakesLargeMail(t *testing.T) {
	_, alice, bob := pair(t, nil)
	send(t, alice, account.Draft{To: []string{"bob"}, Subject: "large", Attachments: []account.Attachment{attachment("a.bin", randomBytes(t, 5<<20))}})
	sync1(t, alice)
	send(t, alice, account.Draft{To: []string{"bob"}, Subject: "small"})
	sync1(t, alice)
	var subjects []string
	for _, s := range sync1(t, bob) {
		subjects = append(subjects, s.Subject)
	}
	if !slices.Equal(subjects, []string{"small", "large"}) {
		t.Errorf("taken in: %v", subjects)
	}
}

// A program that ends when all parts of a large mail are there, but before the mail was
// checked, shows it the next time it connects, although nothing comes from the node any more.
func TestLargeMailIsCompletedLater(t *testing.T) {
	_, alice, bob := pair(t, nil)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "large", Attachments: []account.Attachment{attachment("a.bin", randomBytes(t, 3<<20))}})
	sync1(t, alice)
	release := bob.HoldCompletion()
	ctx, cancel := context.WithCancel(deadline(t))
	_, err := bob.Sync(ctx, account.SyncOptions{OnProgress: func(p account.Progress) {
		if p.Step == "receiving" && p.Done == p.All {
			cancel()
		}
	}})
	if err == nil || ctx.Err() == nil {
		t.Fatalf("the sync ended with %v", err)
	}
	if list := inboxOf(t, bob); len(list) != 0 {
		t.Fatalf("shown before it was checked: %v", list)
	}
	release()
	bob = reopen(t, bob, bob.Dir(), options(nil))
	if got := sync1(t, bob); len(got) != 1 || got[0].Subject != "large" {
		t.Fatalf("bob got %+v", got)
	}
	sync1(t, bob)
	sync1(t, alice)
	wantState(t, alice, id, account.Delivered)
	if got := sync1(t, bob); len(got) != 0 {
		t.Errorf("again: %+v", got)
	}
}
