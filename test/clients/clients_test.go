package clients

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
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
	t.Log("\n" + table(list))
}

// table says for a person what was done.
func table(list []*program) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, p := range list {
		did := p.did
		switch {
		case !p.passed:
			did = "FAILED: " + did
		case p.found == "":
			did = "not installed"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", p.name, p.found, did)
	}
	w.Flush()
	return b.String()
}
