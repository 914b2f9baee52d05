package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// maildir is the local side of a program that keeps copies.
type maildir string

// file is a mail in a Maildir.
type file struct {
	path    string
	flags   string // of Maildir: S seen, F flagged, T trashed
	subject string
}

// list returns the mails, also those that are not yet in cur.
func (d maildir) list(t testing.TB) (list []file) {
	t.Helper()
	for _, sub := range []string{"cur", "new"} {
		names, err := filepath.Glob(filepath.Join(string(d), sub, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			f := file{path: name}
			_, f.flags, _ = strings.Cut(filepath.Base(name), ":2,")
			for line := range strings.Lines(string(f.content(t))) {
				if subject, ok := strings.CutPrefix(line, "Subject: "); ok {
					f.subject = decode(strings.TrimSpace(subject))
					break
				}
			}
			list = append(list, f)
		}
	}
	return list
}

// content is the mail with the line ends it has on the wire.
func (f file) content(t testing.TB) []byte {
	t.Helper()
	content, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(content), "\r\n", "\n")
	return []byte(strings.ReplaceAll(text, "\n", "\r\n"))
}

// find returns the mail with a subject, which is there once.
func (d maildir) find(t testing.TB, subject string) (found file) {
	t.Helper()
	n := 0
	for _, f := range d.list(t) {
		if f.subject == subject {
			found = f
			n++
		}
	}
	if n != 1 {
		t.Fatalf("%s has %q %d times", d, subject, n)
	}
	return found
}

// mark gives a mail the flags, as a program does that reads a Maildir.
func (f file) mark(t testing.TB, flags string) {
	t.Helper()
	name, _, _ := strings.Cut(filepath.Base(f.path), ":2,")
	if err := os.Rename(f.path, filepath.Join(filepath.Dir(filepath.Dir(f.path)), "cur", name+":2,"+flags)); err != nil {
		t.Fatal(err)
	}
}

// add puts a mail into a Maildir.
func (d maildir) add(t testing.TB, name, flags, content string) {
	t.Helper()
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(string(d), sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(string(d), "cur", name+":2,"+flags), "%s", strings.ReplaceAll(content, "\r\n", "\n"))
}

// mbsyncConfig is what "bridge setup mbsync" prints, but with STARTTLS. The local side is
// Mail in the program's home.
func mbsyncConfig(t testing.TB, p *person, mbsync *tool, imap, patterns string) string {
	t.Helper()
	user, password := p.Login(t, "mbsync")
	if err := os.MkdirAll(mbsync.in("Mail"), 0o700); err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(imap, ":")
	return write(t, mbsync.in("mbsyncrc"), `IMAPAccount asmtp
Host %s
Port %s
User %s
Pass %s
AuthMechs LOGIN
SSLType STARTTLS
CertificateFile %s

IMAPStore asmtp-remote
Account asmtp

MaildirStore asmtp-local
SubFolders Verbatim
Path %s/
Inbox %s

Channel asmtp
Far :asmtp-remote:
Near :asmtp-local:
Patterns %s
Create Both
Expunge Both
SyncState *
`, host, port, user, password, p.Certificate(), mbsync.in("Mail"), mbsync.in("Mail", "INBOX"), patterns)
}

func testMbsync(t *testing.T, w *world, mbsync *tool) {
	w.bob.create(t, "mbsync")
	w.bob.create(t, "mbsync/inner")
	text := "From the bridge.\r\n"
	for n := range 5 {
		w.bob.append(t, "mbsync", letter(fmt.Sprintf("mbsync %d", n), text))
	}
	config := mbsyncConfig(t, w.bob, mbsync, w.bob.IMAP, "mbsync mbsync/inner INBOX")
	sync := func() { t.Helper(); mbsync.do(t, "", "-c", config, "asmtp") }
	box := maildir(mbsync.in("Mail", "mbsync"))

	sync()
	for n := range 5 {
		if got := box.find(t, fmt.Sprintf("mbsync %d", n)).content(t); sum(body(t, got)) != sum([]byte(text)) {
			t.Errorf("mbsync fetched %q", got)
		}
	}
	if here, there := len(maildir(mbsync.in("Mail", "INBOX")).list(t)), len(w.bob.messages(t, "INBOX", "")); here != there {
		t.Errorf("the inbox has %d mails here and %d at the bridge", here, there)
	}

	// Changes on both sides at once.
	box.find(t, "mbsync 0").mark(t, "FS")
	box.find(t, "mbsync 1").mark(t, "T")
	w.bob.store(t, "mbsync", w.bob.await(t, "mbsync", "mbsync 2"), `+FLAGS (\Answered \Flagged)`)
	w.bob.store(t, "mbsync", w.bob.await(t, "mbsync", "mbsync 3"), `+FLAGS (\Deleted)`)
	box.add(t, "1.local", "S", letter("mbsync local", text))
	maildir(mbsync.in("Mail", "mbsync", "inner")).add(t, "2.local", "DS", letter("mbsync local draft", text))
	sync()
	checkSubjects(t, w.bob, "mbsync", "mbsync 0", "mbsync 2", "mbsync 4", "mbsync local")
	checkSubjects(t, w.bob, "mbsync/inner", "mbsync local draft")
	checkFlags(t, w.bob.await(t, "mbsync", "mbsync 0"), `\Flagged`, `\Seen`)
	local := w.bob.await(t, "mbsync", "mbsync local")
	checkFlags(t, local, `\Seen`)
	w.bob.checkBody(t, "mbsync", local, []byte(text))
	checkFlags(t, w.bob.await(t, "mbsync/inner", "mbsync local draft"), `\Seen`, `\Draft`)
	if n := len(box.list(t)); n != 4 {
		t.Errorf("%d mails are here, want 4", n)
	}
	if got := box.find(t, "mbsync 2").flags; got != "FR" {
		t.Errorf("the flags here are %q, want FR", got)
	}

	// What is printed for pasting, without TLS.
	printed, _, _ := strings.Cut(w.bob.setup(t, "mbsync", mbsync), "# "+mbsync.home+"/.msmtprc")
	_, printed, _ = strings.Cut(printed, "-\n") // under the title
	if err := os.MkdirAll(mbsync.in("Mail", "asmtp"), 0o700); err != nil {
		t.Fatal(err)
	}
	mbsync.do(t, "", "-c", write(t, mbsync.in("printed"), "%s", printed), "asmtp")
	maildir(mbsync.in("Mail", "asmtp", "mbsync", "inner")).find(t, "mbsync local draft")

	// A mail that comes over the mesh, and nothing else.
	before := len(maildir(mbsync.in("Mail", "INBOX")).list(t))
	w.send(t, "mbsync over the mesh", text)
	sync()
	if n := len(maildir(mbsync.in("Mail", "INBOX")).list(t)); n != before+1 {
		t.Errorf("%d mails came, want one", n-before)
	}
	maildir(mbsync.in("Mail", "INBOX")).find(t, "mbsync over the mesh")
}
