package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// getmail fetches what it has not seen, and deletes it at the server if told so.
func testGetmail(t *testing.T, w *world, getmail *tool) {
	w.bob.create(t, "getmail")
	text := "For getmail.\r\nFrom the mesh.\r\n"
	for n := range 3 {
		w.bob.append(t, "getmail", letter(fmt.Sprintf("getmail %d", n), text))
	}
	box := maildir(getmail.in("Mail"))
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(string(box), sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// It writes a Maildir of its own not as root, and runs anything as root if told so.
	user, password := w.bob.Login(t, "getmail")
	host, port, _ := strings.Cut(w.bob.IMAP, ":")
	config := write(t, getmail.in("getmailrc"), `[retriever]
type = SimpleIMAPRetriever
server = %s
port = %s
username = %s
password = %s
mailboxes = ("getmail",)

[destination]
type = MDA_external
path = /bin/sh
arguments = ("-c", "cat > $(mktemp %s/new/XXXXXX)")
allow_root_commands = true

[options]
read_all = false
delete = false
delivered_to = false
received = false
`, host, port, user, password, box)
	fetch := func(args ...string) {
		t.Helper()
		getmail.do(t, "", append([]string{"--getmaildir", getmail.home, "--rcfile", config}, args...)...)
		if n := len(box.list(t)); n != len(w.bob.messages(t, "getmail", "")) && len(args) == 0 {
			t.Errorf("%d mails are here, and not as many at the bridge", n)
		}
	}

	fetch()
	for n := range 3 {
		got := box.find(t, fmt.Sprintf("getmail %d", n)).content(t)
		if sum(body(t, got)) != sum([]byte(text)) {
			t.Errorf("getmail fetched %q", got)
		}
	}
	fetch() // nothing a second time
	w.bob.append(t, "getmail", letter("getmail late", text))
	fetch()
	box.find(t, "getmail late")

	// What it has fetched is deleted, and a mail that it has not seen is fetched first.
	w.bob.append(t, "getmail", letter("getmail last", text))
	fetch("--delete")
	box.find(t, "getmail last")
	if n := len(box.list(t)); n != 5 {
		t.Errorf("%d mails are here, want 5", n)
	}
	checkSubjects(t, w.bob, "getmail")
}
