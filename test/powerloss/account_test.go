//go:build linux

package powerloss

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/node/nodetest"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/passport"
)

// Nothing that an account was told, or told, is lost when the power goes: a mail for which
// Send returned is in the outbox, its state did not move back, a mail that was shown is in
// the inbox, and in the end every mail is in the inbox once and delivered. The node stands
// on another disk, so it has seen all that the accounts sent before the cut.
func TestAccountLosesNothing(t *testing.T) {
	need(t)
	t.Parallel()
	promises := 0
	for run, l := range accountRuns(t, sound, runs, &promises) {
		l.report(t, run)
	}
	t.Logf("%d promises in %d runs", promises, runs)
}

// Without syncs the same test finds that mail is lost.
func TestAccountWithoutSyncLosesMail(t *testing.T) {
	need(t)
	t.Parallel()
	promises := 0
	all := accountRuns(t, unsynced, unsafeRuns, &promises)
	wantLosses(t, all, promises)
}

func accountRuns(t *testing.T, k kind, n int, promises *int) (lost []losses) {
	r := random(t)
	path := program(t, "test/powerloss/writer", k)
	d := newDisk(t, 256<<20)
	node := nodetest.Start(t, nil)
	var m *mails
	for run := range n {
		if m == nil || k == sound && run%10 == 0 {
			m.finish(t, k)
			m = newMails(filepath.Join(d.root, fmt.Sprint(run)))
			m.create(t, node)
			if k != sound { // made by this process, which does sync
				d.command("sync", "-f", d.root)
			}
		}
		p := startProcess(t, path, "-dir", m.dir, "account")
		lines := waitToCut(t, r, p, k)
		began := d.cut()
		lines = printedBefore(t, began, append(lines, p.kill()...))
		d.restart()
		*promises += m.promised(t, lines)
		l := m.check(acknowledged(t, node))
		lost = append(lost, l)
		if len(l) > 0 || k != sound { // without syncs it may be broken where nothing looked
			m = nil
		}
	}
	m.finish(t, k)
	return lost
}

// acknowledged returns the envelopes that devices said to have safe, as the node's store
// has it; for that the node is started anew.
func acknowledged(t *testing.T, n *nodetest.Node) map[envelope.ID]bool {
	t.Helper()
	n.Stop()
	defer n.Restart()
	st, err := store.Open(filepath.Join(n.Data, "store"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	ids := map[envelope.ID]bool{}
	err = st.PassportTips(func(user passport.ID, _ passport.Hash) bool {
		list, err := st.Deliveries(user, 0, 1<<20)
		if err != nil {
			t.Error(err)
		}
		for _, d := range list {
			devices, err := st.AcknowledgedBy(user, d.Number)
			e, parseErr := envelope.Parse(d.Envelope)
			if err := errors.Join(err, parseErr); err != nil {
				t.Error(err)
			} else if len(devices) > 0 {
				ids[e.ID()] = true
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// mails is what the accounts of alice and bob, in one folder, promised.
type mails struct {
	dir   string
	sent  map[string]account.State // by id, the last state that alice was told
	shown map[string]bool          // to bob
}

func newMails(dir string) *mails {
	return &mails{dir: dir, sent: map[string]account.State{}, shown: map[string]bool{}}
}

func (m *mails) options() account.Options {
	return account.Options{NoPassphrase: true, ReceiptDelay: -1}
}

// create makes both accounts with their node, and each other's contacts.
func (m *mails) create(t *testing.T, n *nodetest.Node) {
	t.Helper()
	ctx, cancel := contextOf()
	defer cancel()
	var list []*account.Account
	for _, name := range []string{"alice", "bob"} {
		a, err := account.Create(ctx, filepath.Join(m.dir, name), name, m.options())
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if _, err := n.Control.UserAdd(ctx, control.UserName(a.Key().String())); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Connect(ctx, account.Node{Address: n.Addr(), Key: n.ID()}); err != nil {
			t.Fatal(err)
		}
		list = append(list, a)
	}
	for i, a := range list {
		if _, err := a.AddContact(ctx, list[1-i].Name(), list[1-i].ID()); err != nil {
			t.Fatal(err)
		}
	}
}

// promised takes in the lines of a writer; see there.
func (m *mails) promised(t *testing.T, lines []string) (promises int) {
	t.Helper()
	for _, line := range lines {
		f := strings.Fields(line)
		switch {
		case line == "open":
			continue
		case len(f) == 2 && f[0] == "sent":
			m.sent[f[1]] = max(m.sent[f[1]], account.Queued)
		case len(f) == 3 && f[0] == "state":
			s, err := account.ParseState(f[2])
			if err != nil {
				t.Fatal(err)
			}
			m.sent[f[1]] = max(m.sent[f[1]], s)
		case len(f) == 2 && f[0] == "mail":
			m.shown[f[1]] = true
		default:
			t.Fatalf("what is the line %q", line)
		}
		promises++
	}
	return promises
}

// open opens both accounts.
func (m *mails) open(ctx context.Context) (alice, bob *account.Account, err error) {
	if alice, err = account.Open(ctx, filepath.Join(m.dir, "alice"), m.options()); err != nil {
		return nil, nil, fmt.Errorf("alice: %w", err)
	}
	if bob, err = account.Open(ctx, filepath.Join(m.dir, "bob"), m.options()); err != nil {
		alice.Close()
		return nil, nil, fmt.Errorf("bob: %w", err)
	}
	return alice, bob, nil
}

// check looks, without asking the node, for what was promised, to the node as well.
func (m *mails) check(acknowledged map[envelope.ID]bool) (l losses) {
	ctx, cancel := contextOf()
	defer cancel()
	alice, bob, err := m.open(ctx)
	if err != nil {
		l.add("an account: %v", err)
		return l
	}
	defer alice.Close()
	defer bob.Close()
	in, err := inbox(ctx, bob)
	if err != nil {
		l.add("inbox: %v", err)
	}
	for id := range m.shown {
		if in[id] != 1 {
			l.add("shown mail %s: %d times in the inbox", id, in[id])
		}
	}
	for id, state := range m.sent {
		known := state == account.Delivered
		for _, part := range m.checkSent(ctx, alice, id, state, &l) {
			known = known || acknowledged[part]
		}
		if known && in[id] != 1 {
			l.add("mail %s, delivered or acknowledged: %d times in the inbox", id, in[id])
		}
	}
	return l
}

// checkSent looks for one mail in the outbox and returns its parts. What it finds is
// promised from now on.
func (m *mails) checkSent(ctx context.Context, alice *account.Account, id string, state account.State, l *losses) []envelope.ID {
	mail, err := alice.Find(ctx, id)
	if err != nil {
		l.add("sent mail %s (%s): %v", id, state, err)
		return nil
	}
	out, err := alice.Status(ctx, mail)
	if err != nil || len(out) != 1 {
		l.add("sent mail %s (%s): %d recipients (%v)", id, state, len(out), err)
		return nil
	}
	if out[0].State < state {
		l.add("state of mail %s: it was %s and is %s", id, state, out[0].State)
	}
	m.sent[id] = out[0].State
	last := account.Queued
	for _, c := range out[0].History {
		if c.State < last {
			l.add("history of mail %s: %s after %s", id, c.State, last)
		}
		last = c.State
	}
	return out[0].Envelopes
}

// inbox returns how often each mail is in the inbox.
func inbox(ctx context.Context, a *account.Account) (map[string]int, error) {
	list, err := a.Inbox(ctx, account.InboxOptions{})
	n := make(map[string]int, len(list))
	for _, s := range list {
		n[s.ID.String()]++
	}
	return n, err
}

// finish lets all mail arrive and looks whether it is there once and known to be.
func (m *mails) finish(t *testing.T, k kind) {
	t.Helper()
	if m == nil || k != sound {
		return
	}
	ctx, cancel := contextOf()
	defer cancel()
	alice, bob, err := m.open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer alice.Close()
	defer bob.Close()
	for _, a := range []*account.Account{alice, bob, alice} {
		if _, err := a.Sync(ctx, account.SyncOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	in, err := inbox(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	var l losses
	for id := range m.sent {
		if in[id] != 1 {
			l.add("mail %s: %d times in the inbox at the end", id, in[id])
		}
		if m.checkSent(ctx, alice, id, account.Delivered, &l); m.sent[id] != account.Delivered {
			l.add("mail %s is %s at the end", id, m.sent[id])
		}
	}
	l.report(t, -1)
}
