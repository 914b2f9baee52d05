package account_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/node"
	"github.com/asmtp/asmtp/internal/node/nodetest"
)

// patience bounds every wait of a test.
const patience = 30 * time.Second

// clock is the time of accounts and nodes of a test: the system's plus what was added.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

func options(c *clock) account.Options {
	o := account.Options{NoPassphrase: true, ReceiptDelay: -1}
	if c != nil {
		o.Now = c.Now
	}
	if os.Getenv("ASMTP_TEST_LOG") != "" {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return o
}

func startNode(t *testing.T, c *clock) *nodetest.Node {
	t.Helper()
	return nodetest.Start(t, func(o *node.Options) {
		if c != nil {
			o.Now = c.Now
		}
	})
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// create makes an account of that name, without a node.
func create(t *testing.T, c *clock, name string) *account.Account {
	t.Helper()
	a, err := account.Create(t.Context(), t.TempDir(), name, options(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// join makes n the node of a.
func join(t *testing.T, n *nodetest.Node, a *account.Account) {
	t.Helper()
	if _, err := n.Control.UserAdd(t.Context(), control.UserName(a.Key().String())); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Connect(deadline(t), nodeOf(n)); err != nil {
		t.Fatal(err)
	}
}

func nodeOf(n *nodetest.Node) account.Node { return account.Node{Address: n.Addr(), Key: n.ID()} }

// acquaint makes a and b contacts of each other, under their own names.
func acquaint(t *testing.T, a, b *account.Account) {
	t.Helper()
	add(t, a, b)
	add(t, b, a)
}

// add makes b a contact of a.
func add(t *testing.T, a, b *account.Account) {
	t.Helper()
	if _, err := a.AddContact(t.Context(), b.Name(), b.ID()); err != nil {
		t.Fatal(err)
	}
}

// pair starts a node with alice and bob, who know each other.
func pair(t *testing.T, c *clock) (n *nodetest.Node, alice, bob *account.Account) {
	t.Helper()
	n = startNode(t, c)
	alice, bob = create(t, c, "alice"), create(t, c, "bob")
	join(t, n, alice)
	join(t, n, bob)
	acquaint(t, alice, bob)
	return n, alice, bob
}

func send(t *testing.T, a *account.Account, d account.Draft) account.MailID {
	t.Helper()
	out, err := a.Send(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range out {
		if o.State != account.Queued {
			t.Fatalf("mail to %s is %v right after Send, want queued", o.To, o.State)
		}
	}
	return out[0].ID
}

// sync syncs a and returns the mails that came.
func sync1(t *testing.T, a *account.Account) []account.Summary {
	t.Helper()
	var got []account.Summary
	res, err := a.Sync(deadline(t), account.SyncOptions{OnMail: func(s account.Summary) { got = append(got, s) }})
	if err != nil {
		t.Fatal(err)
	}
	if res.Received != len(got) {
		t.Fatalf("Sync says %d mails came, OnMail was called for %d", res.Received, len(got))
	}
	return got
}

// state returns how far a mail to one recipient is.
func state(t *testing.T, a *account.Account, id account.MailID) account.Outgoing {
	t.Helper()
	out, err := a.Status(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != 1 {
		t.Fatalf("mail has %d recipients, want 1", len(out))
	}
	return out[0]
}

func wantState(t *testing.T, a *account.Account, id account.MailID, want account.State) account.Outgoing {
	t.Helper()
	o := state(t, a, id)
	if o.State != want {
		t.Fatalf("mail is %v (%s), want %v", o.State, o.Reason, want)
	}
	return o
}

func inboxOf(t *testing.T, a *account.Account) []account.Summary {
	t.Helper()
	list, err := a.Inbox(t.Context(), account.InboxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func raw(t *testing.T, a *account.Account, id account.MailID) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := a.Raw(t.Context(), id, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// noise returns n bytes that do not compress.
func randomBytes(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func attachment(name string, content []byte) account.Attachment {
	return account.Attachment{Name: name, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func contains(text, part string) bool { return strings.Contains(text, part) }
