package account_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
)

// version1Time is when testdata/version1 was made: by the program of version 1, with a
// contact, sent mail in three states, and a received mail.
const version1Time = 1795633400

func version1(t *testing.T) (dir string, c *clock) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/version1")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "account.db"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, &clock{ahead: time.Until(time.Unix(version1Time, 0))}
}

// An account of version 1 opens with all that is in it, after a copy was kept; what was
// on its way goes on, at a node of today.
func TestMigrateFromVersion1(t *testing.T) {
	dir, c := version1(t)
	old, err := os.ReadFile(filepath.Join(dir, "account.db"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := account.Open(t.Context(), dir, options(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	kept := filepath.Join(dir, "account.db.version1")
	if b, err := os.ReadFile(kept); err != nil || !bytes.Equal(b, old) {
		t.Errorf("the copy has other bytes than the old database (%v)", err)
	}
	if st, err := os.Stat(kept); err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
		t.Errorf("the copy has mode %v (%v)", st.Mode(), err)
	}
	if list := inboxOf(t, a); len(list) != 1 || list[0].Subject != "received one" || list[0].From != "bob" {
		t.Errorf("inbox is %+v", list)
	}
	states := make(map[string]account.State)
	sent, err := a.Sent(t.Context(), account.InboxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sent {
		states[s.Subject] = state(t, a, s.ID).State
	}
	for subject, want := range map[string]account.State{"delivered one": account.Delivered, "accepted one": account.Accepted, "queued one": account.Queued} {
		if states[subject] != want {
			t.Errorf("%q is %v, want %v", subject, states[subject], want)
		}
	}
	nodes, err := a.Nodes(t.Context())
	if err != nil || len(nodes) != 1 || !nodes[0].Primary {
		t.Fatalf("nodes are %+v, %v", nodes, err)
	}
	// Its node is gone; with another one, what was on its way is handed over.
	if _, err := a.RemoveNode(t.Context(), nodes[0].Node.Key); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, c)
	join(t, n, a)
	c.Add(2 * time.Minute)
	sync1(t, a)
	for _, s := range sent {
		if st := state(t, a, s.ID).State; st < account.Accepted {
			t.Errorf("%q is %v", s.Subject, st)
		}
	}
}

// A database that was migrated has the same schema as one that was made.
func TestMigratedSchemaIsTheSame(t *testing.T) {
	dir, c := version1(t)
	old, err := account.Open(t.Context(), dir, options(c))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	columns := func(a *account.Account) map[string]bool {
		list, err := a.Columns(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	got, want := columns(old), columns(create(t, nil, "carol"))
	for c := range want {
		if !got[c] {
			t.Errorf("migrated lacks %s", c)
		}
	}
	for c := range got {
		if !want[c] {
			t.Errorf("migrated has %s too", c)
		}
	}
}

// Two programs that open an old account at once migrate it once.
func TestMigrateAtOnce(t *testing.T) {
	dir, c := version1(t)
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() {
			a, err := account.Open(t.Context(), dir, options(c))
			if err == nil {
				_, err = a.Inbox(t.Context(), account.InboxOptions{})
				a.Close()
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
