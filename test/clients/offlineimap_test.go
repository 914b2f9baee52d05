package clients

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func testOfflineIMAP(t *testing.T, w *world, offlineimap *tool) {
	w.bob.create(t, "offlineimap")
	text := "For OfflineIMAP.\r\n"
	for n := range 4 {
		w.bob.append(t, "offlineimap", letter(fmt.Sprintf("offlineimap %d", n), text))
	}
	user, password := w.bob.Login(t, "offlineimap")
	host, port, _ := strings.Cut(w.bob.IMAP, ":")
	config := write(t, offlineimap.in("offlineimaprc"), `[general]
accounts = asmtp
metadata = %s
ui = basic

[Account asmtp]
localrepository = local
remoterepository = remote

[Repository local]
type = Maildir
localfolders = %s

[Repository remote]
type = IMAP
remotehost = %s
remoteport = %s
remoteuser = %s
remotepass = %s
ssl = no
starttls = yes
folderfilter = lambda folder: folder in ["offlineimap", "INBOX"]
`, offlineimap.in("metadata"), offlineimap.in("Mail"), host, port, user, password)
	sync := func() { t.Helper(); offlineimap.do(t, "", "-o", "-c", config) }
	box := maildir(offlineimap.in("Mail", "offlineimap"))

	sync()
	for n := range 4 {
		got := box.find(t, fmt.Sprintf("offlineimap %d", n)).content(t)
		if sum(body(t, got)) != sum([]byte(text)) {
			t.Errorf("OfflineIMAP fetched %q", got)
		}
	}
	if here, there := len(maildir(offlineimap.in("Mail", "INBOX")).list(t)), len(w.bob.messages(t, "INBOX", "")); here != there {
		t.Errorf("the inbox has %d mails here and %d at the bridge", here, there)
	}

	// Changes on both sides at once.
	box.find(t, "offlineimap 0").mark(t, "FS")
	if err := os.Remove(box.find(t, "offlineimap 1").path); err != nil {
		t.Fatal(err)
	}
	w.bob.store(t, "offlineimap", w.bob.await(t, "offlineimap", "offlineimap 2"), `+FLAGS (\Answered \Flagged)`)
	box.add(t, "1.local", "S", letter("offlineimap local", text))
	sync()
	checkSubjects(t, w.bob, "offlineimap", "offlineimap 0", "offlineimap 2", "offlineimap 3", "offlineimap local")
	checkFlags(t, w.bob.await(t, "offlineimap", "offlineimap 0"), `\Flagged`, `\Seen`)
	local := w.bob.await(t, "offlineimap", "offlineimap local")
	checkFlags(t, local, `\Seen`)
	w.bob.checkBody(t, "offlineimap", local, []byte(text))
	if got := box.find(t, "offlineimap 2").flags; got != "FR" {
		t.Errorf("the flags here are %q, want FR", got)
	}

	// A mail that comes over the mesh, and nothing twice.
	w.send(t, "offlineimap over the mesh", text)
	sync()
	maildir(offlineimap.in("Mail", "INBOX")).find(t, "offlineimap over the mesh")
	if n := len(box.list(t)); n != 4 {
		t.Errorf("%d mails are here, want 4", n)
	}
}
