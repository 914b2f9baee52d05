package clients

import (
	"os"
	"testing"
)

// all are the programs, in the order of the table. Those that send come first.
func all() []*program {
	return []*program{
		{name: "Python", debian: "python3", command: "python3", version: []string{"--version"}, run: testPython,
			did: "smtplib, imaplib: send, 20 MiB attachment, search (full text, UTF-8), flags, keywords, copy, move, append, delete, expunge, IDLE"},
		{name: "curl", debian: "curl", command: "curl", version: []string{"--version"}, run: testCurl,
			did: "send, fetch, search, append, flags; with and without STARTTLS"},
		{name: "swaks", debian: "swaks", command: "swaks", version: []string{"--version"}, run: testSwaks,
			did: "send by AUTH PLAIN and LOGIN, STARTTLS with the certificate checked, PIPELINING; refusals"},
		{name: "msmtp", debian: "msmtp", command: "msmtp", version: []string{"--version"}, run: testMsmtp,
			did: "send with STARTTLS, the certificate known by fingerprint or file; AUTH PLAIN and LOGIN"},
		{name: "mbsync", debian: "isync", command: "mbsync", version: []string{"--version"}, run: testMbsync,
			did: "two-way sync with STARTTLS: new mail, flags, deletes and folders, both ways"},
		{name: "getmail", debian: "getmail6", command: "getmail", version: []string{"--version"}, run: testGetmail,
			did: "fetch what is new into a Maildir, delete what was fetched"},
		{name: "OfflineIMAP", debian: "offlineimap3", command: "offlineimap", version: []string{"--version"}, run: testOfflineIMAP,
			did: "two-way sync with STARTTLS: new mail, flags, deletes, both ways"},
		{name: "neomutt", debian: "neomutt", command: "neomutt", version: []string{"-v"}, run: testNeomutt,
			did: "send with an attachment, plain and by STARTTLS; on the IMAP folder flag, delete to Trash, move"},
	}
}

// scenarios are what several programs do, or what is done to them.
var scenarios = []struct {
	name string
	did  string
	run  func(*testing.T, *world)
}{
	{"two at once", "Python and mbsync work on one folder at the same time: at the end both have the same mails and flags, each mail once.", testTogether},
	{"killed in a download", "The bridge is killed (SIGKILL) while mbsync, and then curl, fetch 20 MiB: after a restart UIDVALIDITY, UIDs and flags are what they were, and mbsync completes its copy with no mail twice.", testKilledDownload},
	{"killed in a submission", "The bridge is killed while Python sends, in the middle of a mail and in the moment of an answer: after a restart all that was answered with 250 arrives, once; so does the rest when it is sent again.", testKilledSubmission},
}

// Every mail program does with the bridge what it does with any mail server.
func TestMailPrograms(t *testing.T) {
	if os.Getenv("ASMTP_TEST_CLIENTS") == "" {
		t.Skip(`drives mail programs: run "make test-clients"`)
	}
	w := newWorld(t)
	list := all()
	for _, p := range list {
		p.passed = t.Run(p.name, func(t *testing.T) { p.run(t, w, p.locate(t)) })
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) { s.run(t, w) })
	}
	t.Log("\n" + table(list))
	if os.Getenv("ASMTP_UPDATE_PROGRAMS") != "" {
		writePage(t, list)
	}
}
