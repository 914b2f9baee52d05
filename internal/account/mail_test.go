package account_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/passport"
)

// A mail goes from Alice to Bob, is answered, and both sides see what is true.
func TestMailAndReply(t *testing.T) {
	_, alice, bob := pair(t, nil)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "Grüße", Text: "Hallo Bob,\nwie geht's?\n"})
	if got := sync1(t, alice); len(got) != 0 {
		t.Fatalf("alice got %v", got)
	}
	wantState(t, alice, id, account.Accepted)
	got := sync1(t, bob)
	if len(got) != 1 || got[0].From != "alice" || got[0].Subject != "Grüße" || got[0].ID != id || !got[0].Certain {
		t.Fatalf("bob got %+v", got)
	}
	m, err := bob.Mail(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if m.Text != "Hallo Bob,\nwie geht's?\n" || len(m.To) != 1 || m.To[0] != "bob" {
		t.Errorf("bob reads %+v", m)
	}
	sync1(t, alice)
	o := wantState(t, alice, id, account.Delivered)
	var states []account.State
	for _, h := range o.History {
		states = append(states, h.State)
	}
	if len(states) != 3 || states[0] != account.Queued || states[1] != account.Accepted || states[2] != account.Delivered {
		t.Errorf("history is %v", states)
	}

	d, err := bob.Reply(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	d.Text = "Gut!"
	send(t, bob, d)
	sync1(t, bob)
	got = sync1(t, alice)
	if len(got) != 1 || got[0].Subject != "Re: Grüße" {
		t.Fatalf("alice got %+v", got)
	}
	head := string(raw(t, alice, got[0].ID))
	if want := "In-Reply-To: <" + id.String() + "@asmtp>"; !strings.Contains(head, want) {
		t.Errorf("reply lacks %q:\n%s", want, head)
	}
}

// No petname leaves the device: the bytes name passports only.
func TestNoPetnameOnTheWire(t *testing.T) {
	n := startNode(t, nil)
	alice, bob := create(t, nil, "alice"), create(t, nil, "bob")
	join(t, n, alice)
	join(t, n, bob)
	if _, err := alice.AddContact(t.Context(), "bigbadbob", bob.ID()); err != nil {
		t.Fatal(err)
	}
	add(t, bob, alice)
	for _, d := range []account.Draft{
		{To: []string{"bigbadbob@asmtp"}, Text: "x"},
		{To: []string{`"bigbadbob" <bigbadbob@asmtp>`}, Text: "x"},
		{Raw: strings.NewReader("To: bigbadbob <bigbadbob@asmtp>\r\nBcc: bigbadbob@asmtp\r\nFrom: forged@example.org\r\n\r\nbody\r\n")},
	} {
		id := send(t, alice, d)
		b := string(raw(t, alice, id))
		if strings.Contains(b, "bigbad") || strings.Contains(b, "Bcc") || strings.Contains(b, "forged") {
			t.Errorf("on the wire:\n%s", b)
		}
		if !strings.Contains(b, bob.ID().String()+"@asmtp") || !strings.Contains(b, alice.ID().String()+"@asmtp") {
			t.Errorf("addresses lack the passports:\n%s", b)
		}
	}
}

// A raw message arrives with its body byte for byte, an empty one too.
func TestRawBody(t *testing.T) {
	_, alice, bob := pair(t, nil)
	body := "Line\r\n.dot\r\nbare\nnewline\x00\xff and no end"
	id := send(t, alice, account.Draft{To: []string{"bob"}, Raw: strings.NewReader("Subject: s\r\nX-Odd: kept\r\n\r\n" + body)})
	empty := send(t, alice, account.Draft{To: []string{"bob"}, Raw: strings.NewReader("")})
	nothing := send(t, alice, account.Draft{To: []string{"bob"}})
	sync1(t, alice)
	if got := sync1(t, bob); len(got) != 3 {
		t.Fatalf("bob got %d mails, want 3", len(got))
	}
	b := raw(t, bob, id)
	if _, after, _ := bytes.Cut(b, []byte("\r\n\r\n")); string(after) != body {
		t.Errorf("body is %q, want %q", after, body)
	}
	if !bytes.Contains(b, []byte("X-Odd: kept\r\n")) {
		t.Errorf("header lost a field:\n%s", b)
	}
	for _, id := range []account.MailID{empty, nothing} {
		if m, err := bob.Mail(t.Context(), id); err != nil || m.Text != "" {
			t.Errorf("empty mail reads %+v, %v", m, err)
		}
	}
}

// A binary file of 5 MiB arrives with the same hash and is saved under a safe name.
func TestLargeAttachment(t *testing.T) {
	_, alice, bob := pair(t, nil)
	content := randomBytes(t, 5<<20)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "file", Text: "see file", Attachments: []account.Attachment{attachment("../../etc/pass\x1bwd.bin", content)}})
	sync1(t, alice)
	if got := sync1(t, bob); len(got) != 1 || got[0].Attachments != 1 {
		t.Fatalf("bob got %+v", got)
	}
	dir := t.TempDir()
	for range 2 { // the second time under another name
		paths, err := bob.SaveAttachments(t.Context(), id, dir)
		if err != nil || len(paths) != 1 {
			t.Fatalf("saved %v, %v", paths, err)
		}
		got, err := os.ReadFile(paths[0])
		if err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(got) != sha256.Sum256(content) {
			t.Errorf("%s has other bytes than what was sent", paths[0])
		}
	}
	sync1(t, alice)
	wantState(t, alice, id, account.Delivered)
}

// Mail to oneself arrives, and both copies can be told apart.
func TestMailToOneself(t *testing.T) {
	n := startNode(t, nil)
	alice := create(t, nil, "alice")
	join(t, n, alice)
	id := send(t, alice, account.Draft{To: []string{"alice"}, Subject: "note", Text: "milk"})
	got := sync1(t, alice)
	if len(got) != 1 || got[0].From != "alice" {
		t.Fatalf("alice got %+v", got)
	}
	sync1(t, alice)
	wantState(t, alice, id, account.Delivered)
	if got[0].ID == id {
		t.Error("the received mail has the id of the sent one")
	}
}

// One mail to several people is one mail with a state for each.
func TestSeveralRecipients(t *testing.T) {
	n, alice, bob := pair(t, nil)
	carol := create(t, nil, "carol")
	join(t, n, carol)
	acquaint(t, alice, carol)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Cc: []string{"carol"}, Bcc: []string{"bob"}, Subject: "both"})
	sync1(t, alice)
	sync1(t, bob)
	sync1(t, alice)
	out, err := alice.Status(t.Context(), id)
	if err != nil || len(out) != 2 {
		t.Fatalf("status is %+v, %v", out, err)
	}
	if out[0].State != account.Delivered || out[1].State != account.Accepted {
		t.Errorf("states are %v and %v, want delivered and accepted", out[0].State, out[1].State)
	}
	if got := sync1(t, carol); len(got) != 1 {
		t.Errorf("carol got %+v", got)
	}
}

// Whoever is no contact is named, and mail for them is not taken.
func TestUnknownRecipient(t *testing.T) {
	alice := create(t, nil, "alice")
	_, err := alice.Send(t.Context(), account.Draft{To: []string{"bob"}, Text: "x"})
	if e, ok := errors.AsType[*account.NoContactError](err); !ok || e.Name != "bob" {
		t.Errorf("error is %v, want one about bob", err)
	}
	const id = "00112233445566778899aabbccddeeff"
	_, err = alice.Send(t.Context(), account.Draft{To: []string{id + "@asmtp"}, Text: "x"})
	if e, ok := errors.AsType[*account.NoContactError](err); !ok || e.ID.String() != id {
		t.Errorf("error is %v, want one about %s", err, id)
	}
	_, err = alice.Send(t.Context(), account.Draft{Text: "x"})
	wantError(t, err, account.ErrNoRecipient)
}

// Mail for somebody whose passport is not known waits, says why, and goes out by itself
// once the passport comes.
func TestPassportArrivesLater(t *testing.T) {
	n := startNode(t, nil)
	alice, bob := create(t, nil, "alice"), create(t, nil, "bob")
	join(t, n, alice)
	if c, err := alice.AddContact(t.Context(), "bob", bob.ID()); err != nil || !c.Waiting {
		t.Fatalf("contact is %+v, %v", c, err)
	}
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"})
	sync1(t, alice)
	if o := wantState(t, alice, id, account.Queued); !strings.Contains(o.Reason, "not known yet") {
		t.Errorf("reason is %q", o.Reason)
	}
	join(t, n, bob)
	add(t, bob, alice)
	sync1(t, alice)
	wantState(t, alice, id, account.Accepted)
	if got := sync1(t, bob); len(got) != 1 {
		t.Fatalf("bob got %+v", got)
	}
}

// Mail from somebody who was not added yet is found once they are.
func TestContactAddsLater(t *testing.T) {
	n := startNode(t, nil)
	alice, bob := create(t, nil, "alice"), create(t, nil, "bob")
	join(t, n, alice)
	join(t, n, bob)
	add(t, alice, bob)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"})
	sync1(t, alice)
	if got := sync1(t, bob); len(got) != 0 {
		t.Fatalf("bob got %+v from a stranger", got)
	}
	add(t, bob, alice)
	if got := sync1(t, bob); len(got) != 1 {
		t.Fatalf("bob got %+v, want the mail", got)
	}
	sync1(t, alice)
	wantState(t, alice, id, account.Delivered)
}

// A removed contact's mail is not taken.
func TestRemovedContact(t *testing.T) {
	_, alice, bob := pair(t, nil)
	sync1(t, bob)
	if err := bob.RemoveContact(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	sync1(t, bob)
	send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"})
	sync1(t, alice)
	if got := sync1(t, bob); len(got) != 0 {
		t.Fatalf("bob got %+v", got)
	}
}

// Wait follows until the receipt is there, while the other side follows too.
func TestWaitDelivered(t *testing.T) {
	_, alice, bob := pair(t, nil)
	ctx, cancel := context.WithCancel(deadline(t))
	arrived := make(chan account.Summary, 1)
	ended := make(chan error, 1)
	go func() {
		_, err := bob.Sync(ctx, account.SyncOptions{Follow: true, OnMail: func(s account.Summary) { arrived <- s }})
		ended <- err
	}()
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"})
	out, err := alice.Wait(deadline(t), id, account.Delivered, account.SyncOptions{})
	if err != nil || len(out) != 1 || out[0].State != account.Delivered {
		t.Fatalf("waited: %+v, %v", out, err)
	}
	if s := <-arrived; s.ID != id {
		t.Errorf("bob got %v, want %v", s.ID, id)
	}
	cancel()
	wantError(t, <-ended, context.Canceled)
}

// Waiting in vain ends with the context and names why.
func TestWaitInVain(t *testing.T) {
	n, alice, _ := pair(t, nil)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"})
	n.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := alice.Wait(ctx, id, account.Delivered, account.SyncOptions{OnProgress: func(p account.Progress) {
		if p.Step == "disconnected" {
			cancel()
		}
	}})
	e, ok := errors.AsType[*account.WaitError](err)
	if !ok || e.Want != account.Delivered || len(e.Mails) != 1 || errors.Is(e.Err, context.Canceled) {
		t.Fatalf("error is %v (%T), want why the node was not reached", err, err)
	}
}

// The node away: Send works, the next Sync takes it along.
func TestNodeDown(t *testing.T) {
	n, alice, bob := pair(t, nil)
	n.Stop()
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"})
	if _, err := alice.Sync(deadline(t), account.SyncOptions{}); err == nil {
		t.Fatal("Sync without a node succeeded")
	}
	wantState(t, alice, id, account.Queued)
	n.Options.Listen = nodeOf(n).Address
	n.Restart()
	sync1(t, alice)
	if got := sync1(t, bob); len(got) != 1 {
		t.Fatalf("bob got %+v", got)
	}
}

// Contacts that cannot be are refused by name.
func TestContactRefused(t *testing.T) {
	alice, bob, carol := create(t, nil, "alice"), create(t, nil, "bob"), create(t, nil, "carol")
	add(t, alice, bob)
	for _, tt := range []struct {
		why, name string
		id        passport.ID
	}{
		{"own passport", "me", alice.ID()}, {"own name", "Alice", carol.ID()}, {"name taken", "BOB", carol.ID()},
		{"passport has a name", "robert", bob.ID()}, {"no name", "", carol.ID()}, {"blank", "a b", carol.ID()},
		{"control", "a\x1bb", carol.ID()}, {"at", "a@b", carol.ID()}, {"an id", carol.ID().String(), carol.ID()},
	} {
		t.Run(tt.why, func(t *testing.T) {
			_, err := alice.AddContact(t.Context(), tt.name, tt.id)
			if _, ok := errors.AsType[*account.ContactError](err); !ok {
				t.Errorf("error is %v, want a ContactError", err)
			}
		})
	}
	if _, err := alice.AddContact(t.Context(), "bob", bob.ID()); err != nil {
		t.Errorf("the same contact again: %v", err)
	}
}
