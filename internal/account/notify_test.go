package account_test

import (
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/message"
)

// A notice of delivery comes once, to who asked for it, with what they called the mail and
// the recipient; also if only the receipt of reading arrives, or both in either order.
func TestDeliveryNoticeOnRequest(t *testing.T) {
	c := new(clock)
	_, alice, bob := pair(t, c)
	sync1(t, bob)
	asked := send(t, alice, account.Draft{Subject: "Asked", EnvID: "QQ+314159", Text: "x",
		Recipients: []account.Recipient{{Address: "bob", Notify: message.NotifySuccess, ORCPT: "rfc822;bob@old.example"}}})
	send(t, alice, account.Draft{To: []string{"bob"}, Subject: "Not asked", Text: "x"})
	sync1(t, alice)
	if got := sync1(t, bob); len(got) != 2 {
		t.Fatalf("bob got %+v", got)
	}
	if n := len(notices(t, alice, "")); n != 0 {
		t.Fatalf("%d notices before the receipt", n)
	}
	sync1(t, alice)
	wantState(t, alice, asked, account.Delivered)
	sync1(t, bob)
	sync1(t, alice)
	if n := len(inboxOf(t, alice)); n != 1 {
		t.Fatalf("%d notices, want 1", n)
	}
	list := notices(t, alice, "Delivered: Asked")
	if len(list) != 1 {
		t.Fatalf("%d notices of the delivery, want 1", len(list))
	}
	wantIn(t, list[0], "Action: delivered", "Status: 2.0.0", "Original-Envelope-Id: QQ+314159",
		"Original-Recipient: rfc822;bob@old.example", "Final-Recipient: rfc822; "+bob.ID().String()+"@asmtp", "was delivered to bob")
}

// Who wants no notices gets none.
func TestNoNoticesForWhoWantsNone(t *testing.T) {
	c := new(clock)
	_, alice, _ := pair(t, c)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "Quiet", Notify: message.NotifyNever, Lifetime: 36 * time.Hour})
	for range 2 {
		sync1(t, alice)
		c.Add(20 * time.Hour)
	}
	sync1(t, alice)
	wantState(t, alice, id, account.Unconfirmed)
	if n := len(inboxOf(t, alice)); n != 0 {
		t.Errorf("%d notices", n)
	}
}
