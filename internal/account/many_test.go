package account_test

import (
	"math/rand/v2"
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/node/nodetest"
	"github.com/asmtp/asmtp/noise"
)

// submitted hands envelopes to a node in the given order, as a's device.
func submitted(t *testing.T, n *nodetest.Node, a *account.Account, list [][]byte) {
	t.Helper()
	key, err := noise.NewPrivateKey(a.Secrets()[0])
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientapi.Dial(deadline(t), n.Addr(), n.ID(), key, a)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, b := range list {
		e, err := envelope.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		refused, err := c.Submit(deadline(t), []envelope.ID{e.ID()}, func(envelope.ID) ([]byte, error) { return b, nil })
		if err != nil || len(refused) > 0 {
			t.Fatal(refused, err)
		}
	}
}

// Many mails of one sender whose parts come in any order, as after a node was away for
// days: all are shown, once, though only some may be incomplete at a time.
func TestManyMailsMixed(t *testing.T) {
	n, alice, bob := pair(t, nil)
	sync1(t, alice)
	sync1(t, bob)
	var all [][]byte
	const mails = 40
	for range mails {
		id := send(t, alice, account.Draft{To: []string{"bob"}, Attachments: []account.Attachment{attachment("f", randomBytes(t, 70_000))}})
		all = append(all, envelopes(t, alice, id)...)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	submitted(t, n, alice, all)
	got := make(map[account.MailID]int)
	for _, s := range sync1(t, bob) {
		got[s.ID]++
	}
	if len(got) != mails || len(inboxOf(t, bob)) != mails {
		t.Errorf("%d mails were shown, want %d", len(got), mails)
	}
	if n, err := bob.Count(t.Context(), "SELECT count(*) FROM mails WHERE id IS NULL"); err != nil || n != 0 {
		t.Errorf("%d mails are incomplete (%v)", n, err)
	}
}
