package account_test

import (
	"math/rand/v2"
	"testing"

	"github.com/asmtp/asmtp/internal/account"
)

var allStates = []account.State{account.Queued, account.Cancelled, account.Accepted, account.Held, account.Unconfirmed, account.Refused, account.Delivered, account.Read}

// Whatever is reported in whatever order, a state never moves back, and cancelled is
// neither left nor reached from anything but queued.
func TestStateOnlyForward(t *testing.T) {
	for range 20_000 {
		s := account.Queued
		for range 12 {
			to := allStates[rand.IntN(len(allStates))]
			next := s.Next(to)
			if next < s || next != s && next != to || s == account.Cancelled && next != s || next == account.Cancelled && s > account.Cancelled {
				t.Fatalf("%v and then %v gives %v", s, to, next)
			}
			s = next
		}
	}
}

// The database refuses to move a state back even if the program is wrong.
func TestDatabaseRefusesBackwards(t *testing.T) {
	alice, _ := offline(t, nil)
	for _, from := range allStates {
		id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "x"})
		if err := alice.Exec(t.Context(), "UPDATE outgoing SET state = ? WHERE mail_id = ?", from, id[:]); err != nil {
			t.Fatalf("queued to %v: %v", from, err)
		}
		for _, to := range allStates {
			err := alice.Exec(t.Context(), "UPDATE outgoing SET state = ? WHERE mail_id = ?", to, id[:])
			if forward := from.Next(to) == to; (err == nil) != forward {
				t.Errorf("%v to %v: error is %v", from, to, err)
			}
			if err == nil {
				break
			}
		}
	}
}

func TestStateNames(t *testing.T) {
	for _, s := range allStates {
		if got, err := account.ParseState(s.String()); err != nil || got != s {
			t.Errorf("ParseState(%q) = %v, %v", s, got, err)
		}
	}
	if _, err := account.ParseState("sent"); err == nil {
		t.Error("no error for an unknown state")
	}
}

// Cancelling works until the node may have the mail.
func TestCancel(t *testing.T) {
	_, alice, bob := pair(t, nil)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "x"})
	if err := alice.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	sync1(t, alice)
	wantState(t, alice, id, account.Cancelled)
	if got := sync1(t, bob); len(got) != 0 {
		t.Errorf("bob got %+v", got)
	}
	id = send(t, alice, account.Draft{To: []string{"bob"}, Text: "x"})
	sync1(t, alice)
	wantError(t, alice.Cancel(t.Context(), id), account.ErrTooLate)
	wantError(t, alice.Cancel(t.Context(), account.MailID{1}), account.ErrNotFound)
}
