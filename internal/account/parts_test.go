package account_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/passport"
)

// offline makes two accounts that know each other and no node.
func offline(t *testing.T, c *clock) (alice, bob *account.Account) {
	t.Helper()
	alice, bob = create(t, c, "alice"), create(t, c, "bob")
	exchange(t, alice, bob)
	exchange(t, bob, alice)
	return alice, bob
}

func exchange(t *testing.T, a, b *account.Account) {
	t.Helper()
	p, err := b.Passport(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.AddContactExport(t.Context(), b.Name(), p.Export()); err != nil {
		t.Fatal(err)
	}
}

func envelopes(t *testing.T, a *account.Account, id account.MailID) [][]byte {
	t.Helper()
	list, err := a.Envelopes(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func take(t *testing.T, a *account.Account, list ...[]byte) []account.Summary {
	t.Helper()
	got, err := a.Take(t.Context(), list...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// reopen closes an account and opens it again.
func reopen(t *testing.T, a *account.Account, dir string, o account.Options) *account.Account {
	t.Helper()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := account.Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	return again
}

// Parts may come in any order, mixed with those of other mails, any number of times:
// each mail is shown once, whole, and not before its last part.
func TestPartsInAnyOrder(t *testing.T) {
	alice, bob := offline(t, nil)
	var all [][]byte
	want := make(map[account.MailID][]byte)
	for range 3 {
		id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "t", Attachments: []account.Attachment{attachment("f", randomBytes(t, 150_000))}})
		list := envelopes(t, alice, id)
		if len(list) < 3 {
			t.Fatalf("%d parts, want several", len(list))
		}
		want[id] = raw(t, alice, id)
		all = append(all, list...)
		all = append(all, list...)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	got := make(map[account.MailID]int)
	for batch := range slices.Chunk(all, 5) {
		for _, s := range take(t, bob, batch...) {
			got[s.ID]++
		}
	}
	for id, message := range want {
		if got[id] != 1 {
			t.Errorf("mail %v was shown %d times", id, got[id])
		}
		if !bytes.Equal(raw(t, bob, id), message) {
			t.Errorf("mail %v has other bytes", id)
		}
	}
	if n := len(inboxOf(t, bob)); n != len(want) {
		t.Errorf("inbox has %d mails, want %d", n, len(want))
	}
}

// A missing part: nothing is shown, nothing is receipted, until it comes.
func TestMissingPart(t *testing.T) {
	alice, bob := offline(t, nil)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Attachments: []account.Attachment{attachment("f", randomBytes(t, 200_000))}})
	list := envelopes(t, alice, id)
	if got := take(t, bob, list[1:]...); len(got) != 0 || len(inboxOf(t, bob)) != 0 {
		t.Fatalf("shown without its first part: %+v", got)
	}
	if r, err := bob.Receipts(t.Context()); err != nil || len(r) != 0 {
		t.Fatalf("%d receipts, %v", len(r), err)
	}
	if got := take(t, bob, list[0]); len(got) != 1 {
		t.Fatalf("not shown with its first part")
	}
	if r, err := bob.Receipts(t.Context()); err != nil || len(r) != 1 {
		t.Fatalf("%d receipts, %v", len(r), err)
	}
}

// A mail that comes again after it was read, deleted and the account opened anew is not
// shown again.
func TestOnceForEver(t *testing.T) {
	alice, _ := offline(t, nil)
	dir := t.TempDir()
	bob, err := account.Create(t.Context(), dir, "robert", options(nil))
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, alice, bob)
	exchange(t, bob, alice)
	id := send(t, alice, account.Draft{To: []string{"robert"}, Text: "hi"})
	list := envelopes(t, alice, id)
	if got := take(t, bob, list...); len(got) != 1 {
		t.Fatal("not shown")
	}
	bob = reopen(t, bob, dir, options(nil))
	if got := take(t, bob, list...); len(got) != 0 {
		t.Error("shown again after opening anew")
	}
	if err := bob.Delete(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := take(t, bob, list...); len(got) != 0 || len(inboxOf(t, bob)) != 0 {
		t.Error("shown again after it was deleted")
	}
}

// Receipts move a mail once, in whatever order they come with other news.
func TestReceiptTwice(t *testing.T) {
	alice, bob := offline(t, nil)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"})
	take(t, bob, envelopes(t, alice, id)...)
	r, err := bob.Receipts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	take(t, alice, append(r, r...)...)
	wantState(t, alice, id, account.Delivered)
	for _, s := range []account.State{account.Queued, account.Accepted, account.Held, account.Unconfirmed, account.Refused} {
		if err := alice.Advance(t.Context(), id, s); err != nil {
			t.Fatal(err)
		}
		wantState(t, alice, id, account.Delivered)
	}
	if h := state(t, alice, id).History; len(h) != 2 {
		t.Errorf("history has %d entries, want 2: %+v", len(h), h)
	}
	if list := envelopes(t, alice, id); len(list) != 0 {
		t.Errorf("%d envelopes are kept of a delivered mail", len(list))
	}
}

// A receipt from somebody who is not the recipient moves nothing.
func TestReceiptOfAnother(t *testing.T) {
	alice, bob := offline(t, nil)
	carol := create(t, nil, "carol")
	exchange(t, alice, carol)
	exchange(t, carol, alice)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"})
	take(t, bob, envelopes(t, alice, id)...)
	// Carol knows mail id and hash, say, by reading over Bob's shoulder.
	hash, err := alice.BodyHash(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	body := envelope.EncodeReceipts([]envelope.Receipt{{MailID: id, BodyHash: hash, Code: envelope.ReceiptStored}})
	parts, err := envelope.Split(envelope.KindReceipt, 0, account.MailID{1}, body, passport.Hash{}, passport.Hash{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := carol.SealPart(t.Context(), alice.ID(), parts[0])
	if err != nil {
		t.Fatal(err)
	}
	take(t, alice, e)
	wantState(t, alice, id, account.Queued)
}

// A mail beyond the limit is dropped, its sender told by a receipt, a state and a
// notice in the inbox; a mail that only becomes too large by decompression as well.
func TestTooLarge(t *testing.T) {
	for name, content := range map[string][]byte{"as carried": randomBytes(t, 400_000), "decompressed": make([]byte, 400_000)} {
		t.Run(name, func(t *testing.T) {
			alice, bob := offline(t, nil)
			bob.SetMailFloor(10_000)
			if err := bob.SetLimits(t.Context(), 100_000); err != nil {
				t.Fatal(err)
			}
			id := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "huge", Attachments: []account.Attachment{attachment("f", content)}})
			if got := take(t, bob, envelopes(t, alice, id)...); len(got) != 0 {
				t.Fatal("shown")
			}
			r, err := bob.Receipts(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			take(t, alice, r...)
			if o := wantState(t, alice, id, account.Refused); o.Reason == "" {
				t.Error("no reason")
			}
			list := inboxOf(t, alice)
			if len(list) != 1 || !strings.Contains(list[0].Subject, "huge") || list[0].From != "Mail delivery" {
				t.Fatalf("inbox is %+v, want a notice", list)
			}
			if b := raw(t, alice, list[0].ID); !bytes.Contains(b, []byte("Action: failed")) || !bytes.Contains(b, []byte("Final-Recipient: rfc822; "+bob.ID().String())) {
				t.Errorf("notice is\n%s", b)
			}
		})
	}
	alice, _ := offline(t, nil)
	if err := alice.SetLimits(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	_, err := alice.Send(t.Context(), account.Draft{To: []string{"bob"}, Text: strings.Repeat("x", 2000)})
	if e, ok := err.(*account.SizeError); !ok || e.Limit != 1000 {
		t.Errorf("error is %v, want a SizeError", err)
	}
}

// A node that names a limit of one byte does not make this device refuse mail, which is
// for good.
func TestNodeCannotMakeMailRefused(t *testing.T) {
	alice, bob := offline(t, nil)
	if err := bob.SetLimits(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "x"})
	if got := take(t, bob, envelopes(t, alice, id)...); len(got) != 1 {
		t.Error("the mail was not taken")
	}
	take(t, alice, receipts(t, bob)...)
	wantState(t, alice, id, account.Delivered)
}

// What a hostile contact can seal is dropped and stops nothing.
func TestHostileParts(t *testing.T) {
	alice, bob := offline(t, nil)
	good := send(t, alice, account.Draft{To: []string{"bob"}, Text: "good"})
	seal := func(kind envelope.Kind, flags uint8, body []byte, change func(*envelope.Part)) [][]byte {
		parts, err := envelope.Split(kind, flags, account.MailID(randomBytes(t, 16)), body, passport.Hash{}, passport.Hash{})
		if err != nil {
			t.Fatal(err)
		}
		var list [][]byte
		for _, p := range parts {
			if change != nil {
				change(p)
			}
			e, err := alice.SealPart(t.Context(), bob.ID(), p)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, e)
		}
		return list
	}
	var hostile [][]byte
	hostile = append(hostile, seal(envelope.KindMail, 0, []byte("x"), func(p *envelope.Part) { p.BodyHash[0]++ })...)
	hostile = append(hostile, seal(envelope.KindMail, envelope.FlagCompressed, []byte("not zstd"), nil)...)
	hostile = append(hostile, seal(envelope.KindReceipt, 0, []byte("odd"), nil)...)
	hostile = append(hostile, seal(envelope.KindReceipt, envelope.FlagCompressed, []byte("odd"), nil)...)
	hostile = append(hostile, seal(envelope.KindCover, 0, []byte("cover"), nil)...)
	hostile = append(hostile, seal(envelope.KindOwnState, 0, []byte("obey"), nil)...)
	hostile = append(hostile, []byte("no envelope"), nil)
	hostile = append(hostile, envelopes(t, alice, good)...)
	got := take(t, bob, hostile...)
	if len(got) != 1 || got[0].ID != good {
		t.Fatalf("bob got %+v, want the good one", got)
	}
}

// Mails that stay incomplete are bounded in number. Those that got no part for a day give
// way; a mail of one part always finds room.
func TestIncompleteBounded(t *testing.T) {
	c := new(clock)
	alice, bob := offline(t, c)
	for range 20 {
		id := send(t, alice, account.Draft{To: []string{"bob"}, Attachments: []account.Attachment{attachment("f", randomBytes(t, 100_000))}})
		take(t, bob, envelopes(t, alice, id)[0])
	}
	n, err := bob.Count(t.Context(), "SELECT count(*) FROM mails WHERE id IS NULL")
	if err != nil || n != 16 {
		t.Errorf("%d incomplete mails are kept (%v), want 16", n, err)
	}
	if got := take(t, bob, envelopes(t, alice, send(t, alice, account.Draft{To: []string{"bob"}, Text: "x"}))...); len(got) != 1 {
		t.Error("a mail of one part was not taken")
	}
	id := send(t, alice, account.Draft{To: []string{"bob"}, Attachments: []account.Attachment{attachment("f", randomBytes(t, 100_000))}})
	if got := take(t, bob, envelopes(t, alice, id)...); len(got) != 0 {
		t.Error("a mail was taken for which there is no room")
	}
	c.Add(25 * time.Hour)
	if got := take(t, bob, envelopes(t, alice, id)...); len(got) != 1 {
		t.Error("old incomplete mails did not give way")
	}
	if n, err := bob.Count(t.Context(), "SELECT count(*) FROM mails WHERE id IS NULL"); err != nil || n != 15 {
		t.Errorf("%d incomplete mails are kept (%v), want 15", n, err)
	}
}

// Mail that was sealed for a key which was replaced meanwhile arrives, and new mail goes
// under the new key.
func TestRotatedKey(t *testing.T) {
	alice, bob := offline(t, nil)
	old := send(t, alice, account.Draft{To: []string{"bob"}, Text: "old"})
	sealed := envelopes(t, alice, old) // as the node has them
	for _, who := range []*account.Account{alice, bob} {
		if err := who.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range [][2]*account.Account{{alice, bob}, {bob, alice}} {
		pass, err := p[1].Passport(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p[0].Import(t.Context(), pass.Export()); err != nil {
			t.Fatal(err)
		}
	}
	fresh := send(t, alice, account.Draft{To: []string{"bob"}, Text: "new"})
	if got := take(t, bob, append(sealed, envelopes(t, alice, fresh)...)...); len(got) != 2 {
		t.Fatalf("bob got %d mails, want both", len(got))
	}
}

// At the end of its lifetime a mail is unconfirmed; a late receipt still moves it on.
func TestLifetimeEnds(t *testing.T) {
	c := new(clock)
	alice, bob := offline(t, c)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"})
	if err := alice.Advance(t.Context(), id, account.Accepted); err != nil {
		t.Fatal(err)
	}
	take(t, bob, envelopes(t, alice, id)...)
	c.Add(14*24*time.Hour + time.Minute)
	for range 2 {
		wantState(t, alice, id, account.Unconfirmed)
	}
	r, err := bob.Receipts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	take(t, alice, r...)
	wantState(t, alice, id, account.Delivered)
}

// Mail that an earlier build sealed goes as it was sealed then, and its envelopes are removed
// when it has arrived.
func TestEnvelopesOfAnEarlierBuild(t *testing.T) {
	alice, bob := offline(t, nil)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Text: "hi"})
	was := envelopes(t, alice, id)
	if again := envelopes(t, alice, id); len(was) != 1 || !bytes.Equal(again[0], was[0]) {
		t.Fatalf("%d envelopes, or another one each time", len(was))
	}
	kept := bytes.Clone(was[0])
	kept[len(kept)-1] ^= 1 // not what this build would make
	for _, change := range []string{"UPDATE outparts SET envelope = ?", "UPDATE outgoing SET sealing = x'' WHERE ? <> x''"} {
		if err := alice.Exec(t.Context(), change, kept); err != nil {
			t.Fatal(err)
		}
	}
	if got := envelopes(t, alice, id); len(got) != 1 || !bytes.Equal(got[0], kept) {
		t.Error("the mail does not go as it was sealed")
	}
	if err := alice.Advance(t.Context(), id, account.Accepted); err != nil {
		t.Fatal(err)
	}
	take(t, bob, was...)
	r, err := bob.Receipts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	take(t, alice, r...)
	wantState(t, alice, id, account.Delivered)
	if n, err := alice.Count(t.Context(), "SELECT coalesce(sum(length(envelope)), 0) FROM outparts"); err != nil || n != 0 {
		t.Errorf("%d bytes of envelopes are left (%v)", n, err)
	}
}
