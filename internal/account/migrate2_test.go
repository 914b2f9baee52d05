package account_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
)

// version2Time is when testdata/version2 was made: by the program of version 2, with
// received mail that was read, not read and deleted, and sent mail that was delivered,
// deleted on its way, and not sent yet.
const version2Time = 1795661160

// An account of version 2 opens with its mail in folders: what was read is \Seen, what was
// deleted is nowhere, and a deleted mail that is on its way goes on.
func TestMigrateFromVersion2(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/version2")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "account.db"), 0o600); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(dir, "account.db"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := account.Open(t.Context(), dir, options(&clock{ahead: time.Until(time.Unix(version2Time, 0))}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if b, err := os.ReadFile(filepath.Join(dir, "account.db.version2")); err != nil || !bytes.Equal(b, old) {
		t.Errorf("the copy has other bytes than the old database (%v)", err)
	}
	for folder, want := range map[string][]struct {
		subject string
		seen    bool
	}{
		"INBOX": {{"read one", true}, {"unread one", false}},
		"Sent":  {{"delivered one", true}, {"queued one", true}},
		"Trash": nil,
	} {
		f, err := a.FolderNamed(t.Context(), folder)
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.FolderChanges(t.Context(), f.ID, 0)
		if err != nil || len(c.Places) != len(want) {
			t.Fatalf("%s holds %+v, want %+v (%v)", folder, c.Places, want, err)
		}
		for i, p := range c.Places {
			m, err := a.Mail(t.Context(), p.Mail)
			if err != nil || m.Subject != want[i].subject || p.Flags&account.FlagSeen != 0 != want[i].seen {
				t.Errorf("%s UID %d is %+v with flags %b, want %+v (%v)", folder, p.UID, m, p.Flags, want[i], err)
			}
			if p.UID >= f.UIDNext || i > 0 && p.UID <= c.Places[i-1].UID {
				t.Errorf("%s has UIDs out of order: %d, next %d", folder, p.UID, f.UIDNext)
			}
		}
	}
	list, err := a.Inbox(t.Context(), account.InboxOptions{Search: "text unread"})
	if err != nil || len(list) != 1 || list[0].Subject != "unread one" {
		t.Errorf("a search finds %+v, %v", list, err)
	}
	out, err := a.Queue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range out {
		if o.Subject == "deleted on its way" && o.State == account.Accepted {
			return
		}
	}
	t.Errorf("a mail that was deleted on its way is not on it any more: %+v", out)
}
