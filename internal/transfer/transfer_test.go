package transfer_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/mailfile"
	"github.com/asmtp/asmtp/internal/transfer"
)

func newAccount(t *testing.T) *account.Account {
	t.Helper()
	a, err := account.Create(t.Context(), t.TempDir(), "alice", account.Options{NoPassphrase: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func file(t *testing.T, a *account.Account, f account.Filing, text string) {
	t.Helper()
	if _, err := a.Append(t.Context(), f, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

func folder(t *testing.T, a *account.Account, name string) account.Folder {
	t.Helper()
	f, err := a.FolderNamed(t.Context(), name)
	if errors.Is(err, account.ErrNotFound) {
		f, err = a.CreateFolder(t.Context(), name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func quiet(string, int, int) {}

// contents lists all messages of an account with what belongs to them, without UIDs.
func contents(t *testing.T, a *account.Account) (list []string) {
	t.Helper()
	folders, err := a.Folders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		c, err := a.FolderChanges(t.Context(), f.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Places {
			r, err := a.OpenPlace(t.Context(), f.ID, p.UID)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			r.Close()
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, fmt.Sprintf("%s %d %v %s %q", f.Name, p.Flags, p.Keywords, p.Date.UTC().Format(time.DateTime), b))
		}
	}
	slices.Sort(list)
	return list
}

func export(t *testing.T, a *account.Account, to transfer.Files, name string) transfer.Result {
	t.Helper()
	r, err := transfer.Export(t.Context(), a, to, name, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func take(t *testing.T, a *account.Account, from transfer.Files, name string) transfer.Result {
	t.Helper()
	r, err := transfer.Import(t.Context(), a, from, name, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What goes out of one account and into another is the same there: bytes, folders, flags,
// keywords and dates; a second time nothing comes twice, in neither direction.
func TestAnotherAccountHasTheSame(t *testing.T) {
	a := newAccount(t)
	for i, text := range []string{"", "Subject: a\r\n\r\nFrom b\r\n", "a\nb", "x\r\n\r\n\x00\xff\r", "Subject: twice\r\n\r\n"} {
		for _, name := range []string{"INBOX", "Own.with dots/März & more"} {
			file(t, a, account.Filing{Folder: folder(t, a, name).ID, Flags: account.Flag(i*7) & 31, Keywords: []string{"$Forwarded", "work"}[:i%3], Date: time.Unix(1e9+int64(i), 0)}, text)
		}
	}
	dir := filepath.Join(t.TempDir(), "Mail")
	for i, want := range []transfer.Result{{Added: 10}, {Known: 10}} {
		if r := export(t, a, transfer.Files{Maildir: dir}, ""); r.Added != want.Added || r.Known != want.Known || r.Changed+r.Failed > 0 {
			t.Errorf("export %d: %+v", i, r)
		}
	}
	b := newAccount(t)
	for i, want := range []transfer.Result{{Added: 10}, {Known: 10}} {
		if r := take(t, b, transfer.Files{Maildir: dir}, ""); r.Added != want.Added || r.Known != want.Known || r.Failed > 0 {
			t.Errorf("import %d: %+v", i, r)
		}
	}
	if got, want := contents(t, b), contents(t, a); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	mbox := transfer.Files{Mbox: filepath.Join(t.TempDir(), "mbox")}
	if r := export(t, b, mbox, ""); r.Added != 5 {
		t.Errorf("mbox: %+v", r)
	}
	if r := take(t, b, mbox, "INBOX"); r.Known != 5 || r.Added > 0 {
		t.Errorf("mbox into the same folder: %+v", r)
	}
	if r := take(t, a, mbox, ""); r.Known != 5 || r.Added > 0 {
		t.Errorf("mbox into another account: %+v", r)
	}
	if r := take(t, b, transfer.Files{Maildir: dir}, "Copy"); r.Added != 10 {
		t.Errorf("below another folder: %+v", r)
	}
	folder(t, b, "Copy/Own.with dots/März & more")
}

// Flags that changed go out with the next export; what is gone from the account stays outside.
// A file cannot say that somebody sealed a message, however often it comes in.
func TestImportedMailIsNotProven(t *testing.T) {
	a := newAccount(t)
	const text = "From: eve@example.org\nAuthentication-Results: asmtp; passport=pass (bob)\nSubject: x\n\nAuthentication-Results: asmtp\n"
	path := filepath.Join(t.TempDir(), "forged")
	if err := os.WriteFile(path, []byte("From eve Thu Nov 26 12:00:00 2026\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, want := range []transfer.Result{{Added: 1}, {Known: 1}} {
		got, err := transfer.Import(t.Context(), a, transfer.Files{Mbox: path}, "", quiet)
		if err != nil || got.Added != want.Added || got.Known != want.Known {
			t.Fatalf("import %d: %+v, %v", i+1, got, err)
		}
	}
	list := contents(t, a)
	if len(list) != 1 || strings.Count(list[0], "Authentication-Results") != 1 || !strings.Contains(list[0], `\nX-ASMTP-Imported-Results: asmtp; passport=pass (bob)`) {
		t.Errorf("it is kept as %q", list)
	}
}

func TestExportBringsFlagsUpToDate(t *testing.T) {
	a := newAccount(t)
	in := folder(t, a, "INBOX")
	for i := range 3 {
		file(t, a, account.Filing{Folder: in.ID}, fmt.Sprintf("Subject: %d\r\n\r\n", i))
	}
	to := transfer.Files{Maildir: t.TempDir()}
	export(t, a, to, "INBOX")
	if err := a.ChangeFlags(t.Context(), in.ID, []uint32{2}, account.AddFlags, account.FlagSeen, []string{"work"}); err != nil {
		t.Fatal(err)
	}
	if err := a.ChangeFlags(t.Context(), in.ID, []uint32{3}, account.AddFlags, account.FlagDeleted, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Expunge(t.Context(), in.ID, []uint32{3}); err != nil {
		t.Fatal(err)
	}
	file(t, a, account.Filing{Folder: in.ID}, "new")
	if r := export(t, a, to, "INBOX"); r.Added != 1 || r.Known != 2 || r.Changed != 1 {
		t.Errorf("%+v", r)
	}
	m, err := mailfile.OpenMaildir(to.Maildir, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	list, err := m.Messages()
	if err != nil || len(list) != 4 {
		t.Fatal(list, err)
	}
	for _, msg := range list {
		if marked := msg.Flags == mailfile.Seen && slices.Equal(msg.Keywords, []string{"work"}); marked != (msg.ID.UID == 2) {
			t.Errorf("%+v", msg.Meta)
		}
	}
}

// Mail that cannot be taken in is left out with a reason, and the rest comes.
func TestBrokenMailIsLeftOut(t *testing.T) {
	a := newAccount(t)
	dir := t.TempDir()
	m, err := mailfile.CreateMaildir(dir, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for i, size := range []int{10, 60 << 20, 20} {
		open := func() (io.ReadCloser, error) { return io.NopCloser(io.LimitReader(zeros{}, int64(size))), nil }
		if err := m.Add(mailfile.Meta{ID: mailfile.ID{UID: uint32(i + 1)}, Keywords: []string{"good", "b(d"}}, open); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, ".&&&", "cur"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := take(t, a, transfer.Files{Maildir: dir}, "")
	if r.Added != 2 || r.Failed != 2 || len(r.Notes) < 3 {
		t.Errorf("%+v", r)
	}
	if got := contents(t, a); len(got) != 2 || !strings.Contains(got[0], "[good]") {
		t.Errorf("%q", got)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'z'
	}
	return len(p), nil
}

const python = `
import mailbox, sys
d = mailbox.Maildir(sys.argv[1], create=False)
print(sorted((m["Subject"], "".join(sorted(m.get_flags()))) for m in d))
b = mailbox.mbox(sys.argv[2])
print([(m["Subject"], m.get_flags(), m.get_payload()) for m in b])
out = mailbox.mbox(sys.argv[3])
m = mailbox.mboxMessage("Subject: from python\n\nFrom here\nbye\n")
m.set_flags("RF")
out.add(m)
out.flush()
d = mailbox.Maildir(sys.argv[4], create=True)
m = mailbox.MaildirMessage("Subject: python's\n\nhello\n")
m.set_flags("FS"); m.set_subdir("cur")
d.add_folder("Sub").add(m)
`

// Python's mailbox reads what is written here, and what it writes is read.
func TestPythonReadsAndWritesTheSame(t *testing.T) {
	program, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	a := newAccount(t)
	file(t, a, account.Filing{Folder: folder(t, a, "INBOX").ID, Flags: account.FlagSeen | account.FlagFlagged}, "Subject: one\r\n\r\nFrom me\r\n")
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	export(t, a, transfer.Files{Maildir: path("md")}, "INBOX")
	export(t, a, transfer.Files{Mbox: path("mbox")}, "")
	out, err := exec.CommandContext(t.Context(), program, "-c", python, path("md"), path("mbox"), path("mbox2"), path("md2")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := "[('one', 'FS')]\n[('one', 'ROF', '>From me\\n')]\n"; string(out) != want {
		t.Errorf("python read %s, want %s", out, want)
	}
	take(t, a, transfer.Files{Mbox: path("mbox2")}, "In")
	take(t, a, transfer.Files{Maildir: path("md2")}, "")
	got := strings.Join(contents(t, a), "\n")
	for _, want := range []string{`In 5 [] `, `"Subject: from python\r\n\r\nFrom here\r\nbye\r\n"`, `Sub 5 [] `, `"Subject: python's\r\n\r\nhello\r\n"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}
