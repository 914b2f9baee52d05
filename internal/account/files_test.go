package account_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/asmtp/asmtp/internal/account"
)

const passphrase = "correct horse battery staple"

func withPassphrase(p string) account.Options {
	o := options(nil)
	o.NoPassphrase, o.Passphrase = false, p
	return o
}

// An account with a passphrase opens with that one only, and its key file is one that
// age opens.
func TestPassphrase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "account")
	if _, err := account.Create(t.Context(), dir, "alice", account.Options{}); !errors.Is(err, account.ErrNeedPassphrase) {
		t.Fatalf("without a passphrase: %v", err)
	}
	a, err := account.Create(t.Context(), dir, "alice", withPassphrase(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	id, key := a.ID(), a.Key()
	a.Close()
	if need, err := account.NeedsPassphrase(dir); err != nil || !need || !account.Exists(dir) {
		t.Errorf("needs a passphrase: %v, %v", need, err)
	}
	_, err = account.Open(t.Context(), dir, withPassphrase(""))
	wantError(t, err, account.ErrNeedPassphrase)
	_, err = account.Open(t.Context(), dir, withPassphrase("wrong"))
	wantError(t, err, account.ErrPassphrase)
	_, err = account.Create(t.Context(), dir, "alice", withPassphrase(passphrase))
	wantError(t, err, account.ErrExists)
	a, err = account.Open(t.Context(), dir, withPassphrase(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if a.ID() != id || a.Key() != key || a.Name() != "alice" {
		t.Error("another account after opening")
	}

	b, err := os.ReadFile(filepath.Join(dir, "key.age"))
	if err != nil {
		t.Fatal(err)
	}
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	identity.SetMaxWorkFactor(15) // what is promised
	r, err := age.Decrypt(bytes.NewReader(b), identity)
	if err != nil {
		t.Fatal(err)
	}
	if content, err := io.ReadAll(r); err != nil || !bytes.Contains(content, []byte(hex.EncodeToString(a.Secrets()[0]))) {
		t.Errorf("age opens the key file to something else: %v", err)
	}
}

// A name that cannot be one's own is called a name, not a contact.
func TestOwnNameRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "account")
	_, err := account.Create(t.Context(), dir, "a b", options(nil))
	if e, ok := errors.AsType[*account.NameError](err); !ok || e.Name != "a b" || strings.Contains(err.Error(), "contact") {
		t.Errorf("error is %v, want one about the name", err)
	}
	if account.Exists(dir) {
		t.Error("something was made")
	}
}

// A key file that demands more work than our backups do is refused, not worked on.
func TestWorkFactor(t *testing.T) {
	dir := t.TempDir()
	sealed, err := account.SealKey([]byte("x"), passphrase, 10)
	if err != nil {
		t.Fatal(err)
	}
	sealed = bytes.Replace(sealed, []byte(" 10\n"), []byte(" 19\n"), 1)
	if err := os.WriteFile(filepath.Join(dir, "key.age"), sealed, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = account.Open(t.Context(), dir, withPassphrase(passphrase))
	if err == nil || !strings.Contains(err.Error(), "work factor") {
		t.Errorf("error is %v, want one about the work factor", err)
	}
}

// Broken key files are errors.
func TestBrokenKeyFile(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "other": "hello\n", "newer": "asmtp account key 2\n", "half": "asmtp account key 1\nmaster 00\n",
		"no hex": "asmtp account key 1\nmaster zz\n", "huge": strings.Repeat("x", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "key"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := account.Open(t.Context(), dir, options(nil))
			if err == nil {
				t.Error("opened")
			}
			if name == "newer" {
				wantError(t, err, account.ErrNewerAccount)
			}
		})
	}
	_, err := account.Open(t.Context(), t.TempDir(), options(nil))
	wantError(t, err, account.ErrNoAccount)
}

// No file of an account holds a word of its mail, a name, or a key, while it is open
// and after.
func TestNoPlaintextOnDisk(t *testing.T) {
	n := startNode(t, nil)
	words := []string{"xylophone-subject", "quixotic-text", "zeppelin-file", "yodelling-petname", passphrase, "SQLite format"}
	var accounts []*account.Account
	var dirs []string
	for _, name := range []string{"alice", "bob"} {
		dir := t.TempDir()
		a, err := account.Create(t.Context(), dir, name, withPassphrase(passphrase))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
		join(t, n, a)
		accounts, dirs = append(accounts, a), append(dirs, dir)
	}
	alice, bob := accounts[0], accounts[1]
	if _, err := alice.AddContact(t.Context(), words[3], bob.ID()); err != nil {
		t.Fatal(err)
	}
	add(t, bob, alice)
	send(t, alice, account.Draft{To: []string{words[3]}, Subject: words[0], Text: words[1], Attachments: []account.Attachment{attachment(words[2], bytes.Repeat([]byte(words[2]), 1000))}})
	sync1(t, alice)
	if got := sync1(t, bob); len(got) != 1 {
		t.Fatalf("bob got %+v", got)
	}
	if got, err := bob.Inbox(t.Context(), account.InboxOptions{Search: "quixotic"}); err != nil || len(got) != 1 {
		t.Fatalf("search found %+v, %v", got, err)
	}
	var needles [][]byte
	for _, w := range words {
		needles = append(needles, []byte(w))
	}
	for _, a := range accounts {
		id := a.ID()
		needles = append(needles, id[:], []byte(id.String()))
		for _, s := range a.Secrets() {
			needles = append(needles, s, []byte(hex.EncodeToString(s)))
		}
	}
	search := func(when string) {
		files := 0
		for _, dir := range dirs {
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				files++
				b, err := os.ReadFile(path)
				for i, needle := range needles {
					if bytes.Contains(b, needle) {
						t.Errorf("%s: %s holds needle %d", when, filepath.Base(path), i)
					}
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if files < 4 {
			t.Fatalf("%s: only %d files were searched", when, files)
		}
	}
	search("open")
	for _, a := range accounts {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	search("closed")
}

// Directories and files are for their owner only.
func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such modes")
	}
	dir := filepath.Join(t.TempDir(), "account")
	a, err := account.Create(t.Context(), dir, "alice", options(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", filepath.Base(path), info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A database of a newer program is refused by name.
func TestNewerDatabase(t *testing.T) {
	dir := t.TempDir()
	a, err := account.Create(t.Context(), dir, "alice", options(nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Exec(t.Context(), "PRAGMA user_version=99"); err != nil {
		t.Fatal(err)
	}
	a.Close()
	_, err = account.Open(t.Context(), dir, options(nil))
	wantError(t, err, account.ErrNewerAccount)
}

// A contact whose row or passport was changed from outside is found out.
func TestTamperedContact(t *testing.T) {
	for _, change := range []string{
		"UPDATE contacts SET verified = 1", "UPDATE contacts SET name = 'eve'", "UPDATE contacts SET mac = zeroblob(32)",
		"UPDATE contacts SET tip = zeroblob(16)", "UPDATE passports SET export = zeroblob(300)", "DELETE FROM passports",
	} {
		t.Run(change, func(t *testing.T) {
			dir := t.TempDir()
			a, err := account.Create(t.Context(), dir, "carl", options(nil))
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, a, create(t, nil, "bob"))
			if err := a.Exec(t.Context(), change); err != nil {
				t.Fatal(err)
			}
			a = reopen(t, a, dir, options(nil))
			_, err = a.Contacts(t.Context())
			wantError(t, err, account.ErrTampered)
		})
	}
}

// Opening and asking what the account knows takes little time: commands are short.
func TestOpenIsFast(t *testing.T) {
	dir := t.TempDir()
	a, err := account.Create(t.Context(), dir, "alice", withPassphrase(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	best := time.Hour
	for range 5 {
		began := time.Now()
		a, err := account.Open(context.Background(), dir, withPassphrase(passphrase))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Overview(t.Context()); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(began))
		a.Close()
	}
	t.Logf("open and overview: %v", best)
	if !raceEnabled && best > 300*time.Millisecond {
		t.Errorf("the fastest of five takes %v", best)
	}
}

// An account is opened where it was made, also by a relative path.
func TestRelativeDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	a, err := account.Create(t.Context(), "acc", "alice", account.Options{NoPassphrase: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if a, err = account.Open(t.Context(), "acc", account.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}
