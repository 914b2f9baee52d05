package account_test

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/node"
	"github.com/asmtp/asmtp/internal/node/nodetest"
)

// createIn is create in a known directory.
func createIn(t *testing.T, c *clock, dir, name string) *account.Account {
	t.Helper()
	a, err := account.Create(t.Context(), dir, name, options(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// restored puts the directory of an account back to a copy, and opens it.
func restored(t *testing.T, c *clock, a *account.Account, dir, backup string) *account.Account {
	t.Helper()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	copyDir(t, backup, dir)
	a, err := account.Open(t.Context(), dir, options(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// backup copies an account's directory, as docs/client.md says: while nothing runs.
func backup(t *testing.T, c *clock, a *account.Account, dir string) (again *account.Account, copied string) {
	t.Helper()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	copied = t.TempDir()
	copyDir(t, dir, copied)
	a, err := account.Open(t.Context(), dir, options(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a, copied
}

func subjects(list []account.Summary) map[string]int {
	m := make(map[string]int)
	for _, s := range list {
		m[s.Subject]++
	}
	return m
}

// The sender's device goes back to an old backup, in whose outbox is mail that was
// delivered since, and which lacks mail that came since: nothing is delivered twice, the
// states find the truth, and what came is there once.
func TestSenderRestored(t *testing.T) {
	c := new(clock)
	n := startNode(t, c)
	dir := filepath.Join(t.TempDir(), "alice")
	alice, bob := createIn(t, c, dir, "alice"), create(t, c, "bob")
	join(t, n, alice)
	join(t, n, bob)
	acquaint(t, alice, bob)
	sync1(t, bob)
	send(t, bob, account.Draft{To: []string{"alice"}, Subject: "before"})
	sync1(t, bob)
	sync1(t, alice)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "x"})
	alice, old := backup(t, c, alice, dir)

	sync1(t, alice)
	if got := sync1(t, bob); len(got) != 1 {
		t.Fatalf("bob got %+v", got)
	}
	send(t, bob, account.Draft{To: []string{"alice"}, Subject: "after"})
	sync1(t, bob)
	sync1(t, alice)
	wantState(t, alice, id, account.Delivered)

	alice = restored(t, c, alice, dir, old)
	wantState(t, alice, id, account.Queued)
	got := sync1(t, alice)
	if m := subjects(got); len(got) != 1 || m["after"] != 1 {
		t.Errorf("the restored device shows %v, want what it lacks, once", m)
	}
	wantState(t, alice, id, account.Delivered)
	c.Add(time.Hour)
	if got := append(sync1(t, bob), sync1(t, bob)...); len(got) != 0 {
		t.Errorf("bob was shown %v again", subjects(got))
	}
	if m := subjects(inboxOf(t, alice)); m["before"] != 1 || m["after"] != 1 {
		t.Errorf("the inbox has %v", m)
	}
}

// The recipient's device goes back to an old backup: what it lacks comes again, once, and
// the sender's state stays.
func TestRecipientRestored(t *testing.T) {
	c := new(clock)
	n := startNode(t, c)
	dir := filepath.Join(t.TempDir(), "bob")
	alice, bob := create(t, c, "alice"), createIn(t, c, dir, "bob")
	join(t, n, alice)
	join(t, n, bob)
	acquaint(t, alice, bob)
	sync1(t, bob)
	send(t, alice, account.Draft{To: []string{"bob"}, Subject: "one"})
	sync1(t, alice)
	sync1(t, bob)
	bob, old := backup(t, c, bob, dir)
	id := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "two"})
	sync1(t, alice)
	sync1(t, bob)
	sync1(t, alice)
	bob = restored(t, c, bob, dir, old)
	if m := subjects(sync1(t, bob)); len(m) != 1 || m["two"] != 1 {
		t.Errorf("the restored device shows %v", m)
	}
	if m := subjects(inboxOf(t, bob)); m["one"] != 1 || m["two"] != 1 {
		t.Errorf("the inbox has %v", m)
	}
	sync1(t, alice)
	wantState(t, alice, id, account.Delivered)
}

// restoreNode puts the store of a node back to a backup: a new generation.
func restoreNode(t *testing.T, n *nodetest.Node, stored []byte) {
	t.Helper()
	addr := n.Addr()
	n.Stop()
	dir := filepath.Join(n.Data, "store")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := node.RestoreStore(t.Context(), dir, bytes.NewReader(stored), slog.New(slog.DiscardHandler), n.Options.Now); err != nil {
		t.Fatal(err)
	}
	n.Options.Listen = addr
	n.Restart()
}

// The node of both goes back to an old backup; its numbers start over. No mail is shown
// twice, what it lost is handed to it again: mail by the sender, receipts by the recipient.
func TestNodeRestored(t *testing.T) {
	c := new(clock)
	n := startNode(t, c)
	alice, bob := create(t, c, "alice"), create(t, c, "bob")
	join(t, n, alice)
	join(t, n, bob)
	acquaint(t, alice, bob)
	sync1(t, bob)
	send(t, alice, account.Draft{To: []string{"bob"}, Subject: "before"})
	sync1(t, alice)
	sync1(t, bob)
	var stored bytes.Buffer
	if err := n.Control.StoreBackup(t.Context(), io.Writer(&stored)); err != nil {
		t.Fatal(err)
	}
	answered := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "answered"})
	sync1(t, alice)
	sync1(t, bob) // the receipt is on the node, and lost with it
	lost := send(t, alice, account.Draft{To: []string{"bob"}, Subject: "lost"})
	if _, err := alice.Sync(deadline(t), account.SyncOptions{}); err != nil {
		t.Fatal(err)
	}
	wantState(t, alice, answered, account.Delivered)
	wantState(t, alice, lost, account.Accepted)
	third := send(t, bob, account.Draft{To: []string{"alice"}, Subject: "to alice"})
	sync1(t, bob)
	sync1(t, alice) // her receipt is lost, too

	restoreNode(t, n, stored.Bytes())
	c.Add(2 * time.Minute)
	sync1(t, alice)
	got := append(sync1(t, bob), sync1(t, bob)...)
	if m := subjects(got); m["lost"] > 1 || m["before"]+m["answered"] > 0 {
		t.Errorf("bob was shown %v", m)
	}
	sync1(t, alice)
	wantState(t, alice, lost, account.Delivered)
	sync1(t, bob)
	wantState(t, bob, third, account.Delivered)
	for who, want := range map[*account.Account]int{alice: 1, bob: 3} {
		if list := inboxOf(t, who); len(list) != want {
			t.Errorf("the inbox of %s has %v, want %d mails", who.Name(), subjects(list), want)
		}
	}
}

// A device whose clock was ahead, and which went back to a backup of before, is let in.
func TestOlderStampIsTakenAgain(t *testing.T) {
	c := new(clock)
	n := startNode(t, nil)
	dir := filepath.Join(t.TempDir(), "alice")
	alice := createIn(t, c, dir, "alice")
	join(t, n, alice)
	alice, old := backup(t, c, alice, dir)
	c.Add(time.Hour)
	for range 3 {
		sync1(t, alice)
	}
	c.Add(-time.Hour)
	alice = restored(t, c, alice, dir, old)
	for range 3 {
		sync1(t, alice)
	}
}
