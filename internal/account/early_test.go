package account_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// mailbox is what bob takes in of a node that he stands at the beginning of.
type mailbox struct {
	t *testing.T
	*account.Mailbox
}

func openMailbox(t *testing.T, bob *account.Account) mailbox {
	t.Helper()
	n := account.Node{Address: "127.0.0.1:1", Key: noise.PublicKey{7}}
	if err := bob.Exec(t.Context(), "INSERT OR IGNORE INTO nodes (key, address, position) VALUES (?, ?, 1)", n.Key[:], n.Address); err != nil {
		t.Fatal(err)
	}
	return mailbox{t, bob.Mailbox(n)}
}

// want takes in a batch and checks how many mails it shows, what may be acknowledged after
// it, and after which number the mailbox would be read again.
func (m mailbox) want(what string, mails int, acks []uint64, from uint64, batch ...account.Delivery) {
	m.t.Helper()
	got, acked, at, err := m.Take(m.t.Context(), batch...)
	if err != nil {
		m.t.Fatalf("%s: %v", what, err)
	}
	if len(got) != mails || !slices.Equal(acked, acks) || at != from {
		m.t.Errorf("%s: %d mails, acknowledged %v, at %d; want %d, %v, %d", what, len(got), acked, at, mails, acks, from)
	}
}

func early(e []byte) account.Delivery { return account.Delivery{ID: idOf(e), Envelope: e} }

func again(n uint64, e []byte) account.Delivery { return account.Delivery{Number: n, ID: idOf(e)} }

func idOf(b []byte) envelope.ID {
	e, err := envelope.Parse(b)
	if err != nil {
		panic(err)
	}
	return e.ID()
}

// A mail that comes before the node has stored it is shown at once, and acknowledged only with
// its number; the place in the mailbox never passes what has not come.
func TestEarlyMail(t *testing.T) {
	alice, bob := offline(t, nil)
	m := openMailbox(t, bob)
	mail := func() []byte {
		return envelopes(t, alice, send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"}))[0]
	}
	a, b, c, lost := mail(), mail(), mail(), mail()
	m.want("early", 1, nil, 0, early(a))
	m.want("its number", 0, []uint64{1}, 1, again(1, a))
	m.want("with its number", 1, []uint64{1, 2}, 2, early(b), again(2, b))
	m.want("beside another", 2, []uint64{1, 2, 3}, 3, early(lost), account.Delivery{Number: 3, Envelope: c})

	if _, _, _, err := m.Take(t.Context(), again(4, a)); !errors.Is(err, clientapi.ErrAnswer) {
		t.Errorf("the number of what was settled: %v", err)
	}
	m = openMailbox(t, bob) // the node was started again without it
	m.want("what the node lost", 0, []uint64{1, 2, 3, 4}, 4, account.Delivery{Number: 4, Envelope: lost})
	if list := inboxOf(t, bob); len(list) != 4 {
		t.Errorf("%d mails in the inbox, want 4", len(list))
	}
}

// What there is no room for waits, early or not: it is not acknowledged, and read again.
func TestEarlyPartWithoutRoom(t *testing.T) {
	alice, bob := offline(t, nil)
	m := openMailbox(t, bob)
	part := func() []byte {
		parts, err := envelope.Split(envelope.KindMail, 0, account.MailID(randomBytes(t, 16)), randomBytes(t, 100_000), passport.Hash{}, passport.Hash{})
		if err != nil {
			t.Fatal(err)
		}
		e, err := alice.SealPart(t.Context(), bob.ID(), parts[0])
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for range 16 {
		m.want("part", 0, nil, 0, early(part()))
	}
	small := envelopes(t, alice, send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"}))[0]
	late := part()
	m.want("one too many, with a mail", 1, nil, 0, early(small), early(late))
	m.want("their numbers", 0, []uint64{1}, 1, again(1, small), again(2, late))
	together := part()
	m.want("one too many with its number", 0, []uint64{1}, 1, early(together), again(3, together))
}

// A node that names what it never sent, or sends ever more that it does not store, is left.
func TestEarlyFromABadNode(t *testing.T) {
	alice, bob := offline(t, nil)
	m := openMailbox(t, bob)
	e := envelopes(t, alice, send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"}))[0]
	if _, _, _, err := m.Take(t.Context(), again(1, e)); !errors.Is(err, clientapi.ErrAnswer) {
		t.Errorf("a number without an envelope: %v", err)
	}
	var err error
	for i := 0; i < 10_000 && err == nil; i++ {
		_, _, _, err = m.Take(t.Context(), account.Delivery{ID: envelope.ID{1, byte(i), byte(i >> 8)}, Envelope: []byte{1}})
	}
	if !errors.Is(err, clientapi.ErrAnswer) {
		t.Errorf("without end: %v", err)
	}
}
