package account_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
)

// Who sends while the account is followed is not told of the contacts of before: one that
// was just added can be written to, in whatever process, and one that was removed cannot, in
// another process soon.
func TestContactsOfNow(t *testing.T) {
	c := &clock{}
	n := startNode(t, c)
	alice, bob := create(t, c, "alice"), create(t, c, "bob")
	join(t, n, alice)
	following, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		alice.Sync(following, account.SyncOptions{Follow: true})
	}()
	defer func() { stop(); <-ended }()
	other, err := account.Open(t.Context(), alice.Dir(), options(c))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	until := func(what string, ok func() bool) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ctx := deadline(t); !ok(); {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatal("not so after long: ", what)
			}
		}
	}
	known := func() error { return alice.CheckRecipient(t.Context(), "bob@asmtp") }
	var unknown *account.NoContactError
	for _, by := range []*account.Account{alice, other, alice} {
		until("who are known is kept", func() bool {
			_, err := alice.Contacts(t.Context())
			return err == nil && alice.KnowsRoster()
		})
		if err := known(); !errors.As(err, &unknown) {
			t.Fatalf("before bob is a contact: %v", err)
		}
		add(t, by, bob)
		if err := known(); err != nil {
			t.Fatal(err)
		}
		if _, err := alice.Send(t.Context(), account.Draft{To: []string{"bob"}, Text: "x"}); err != nil {
			t.Fatal(err)
		}
		if err := by.RemoveContact(t.Context(), "bob"); err != nil {
			t.Fatal(err)
		}
		if by == alice {
			if err := known(); !errors.As(err, &unknown) {
				t.Fatalf("after bob was removed: %v", err)
			}
			continue
		}
		until("what another process removed is not known", func() bool { return known() != nil })
	}
}
