package account_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/asmtp/asmtp/internal/account"
)

func offer(t *testing.T, a *account.Account, f account.Fresh) []account.MailID {
	t.Helper()
	left, err := a.Offer(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// Mail that enters the outbox is handed over without being looked for, exactly as the one that
// is found, and once: by whoever comes first. A second node may be offered it again.
func TestFreshMailIsHandedOverOnce(t *testing.T) {
	alice, _ := offline(t, nil)
	alice.PretendLink()
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"})
	found, err := alice.FindDue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fresh, _ := alice.TakeFresh()
	fresh.Mark(false)
	if !reflect.DeepEqual(found, fresh) {
		t.Errorf("fresh is %+v, found is %+v", fresh, found)
	}
	fresh.Mark(true)
	if left := offer(t, alice, fresh); !slices.Equal(left, []account.MailID{id}) {
		t.Errorf("handed over %v", left)
	}
	if left := offer(t, alice, fresh); !slices.Equal(left, []account.MailID{id}) {
		t.Errorf("to another node %v", left)
	}

	send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"})
	if found, err = alice.FindDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := offer(t, alice, found); len(left) != 2 {
		t.Errorf("found and handed over %v", left)
	}
	fresh, _ = alice.TakeFresh()
	if left := offer(t, alice, fresh); len(left) != 0 {
		t.Errorf("handed over a second time %v", left)
	}
}

// What did not enter the outbox is not handed over, and no more is remembered than a bound.
func TestFreshMailIsOnDisk(t *testing.T) {
	alice, _ := offline(t, nil)
	alice.PretendLink()
	const trigger = "CREATE TRIGGER full BEFORE INSERT ON history BEGIN SELECT RAISE(ABORT, 'full'); END"
	if err := alice.Exec(t.Context(), trigger); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Send(t.Context(), account.Draft{To: []string{"bob"}, Text: "hi"}); err == nil {
		t.Fatal("sent with a full disk")
	}
	if fresh, _ := alice.TakeFresh(); len(offer(t, alice, fresh)) != 0 {
		t.Error("mail that was not accepted is handed over")
	}
	if err := alice.Exec(t.Context(), "DROP TRIGGER full"); err != nil {
		t.Fatal(err)
	}
	const sent = 1100
	for range sent {
		send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"})
	}
	fresh, more := alice.TakeFresh()
	if n := len(offer(t, alice, fresh)); !more || n == 0 || n >= sent {
		t.Errorf("%d of %d remembered, more: %t", n, sent, more)
	}
	send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"})
	if fresh, more = alice.TakeFresh(); more || len(offer(t, alice, fresh)) != 1 {
		t.Errorf("after that there is more: %t", more)
	}
}
