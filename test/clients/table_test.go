package clients

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"text/tabwriter"
)

// page is what is written for users.
const page = "../../docs/programs.md"

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

const pageHead = `# Mail programs that were tried

This page is written by a run of ` + "`make test-clients`" + ` (with ASMTP_UPDATE_PROGRAMS=1), here on %s.
It drives each program against real nodes: what alice sends goes through her bridge, her node and
bob's node to bob's bridge. What a program did is looked at from outside, the bodies by their SHA-256.

| program | version | Debian's package | what it does |
|---|---|---|---|
`

const pageScenarios = `
And what several programs do at once, or what is done to them:

`

const pageTail = `
Thunderbird, Apple Mail and K-9 have no place here: they cannot be driven without a screen.
[bridge.md](bridge.md) says how to set them up.

## What to know of some

- mbsync before version 1.5 calls TLSType SSLType; ` + "`bridge setup mbsync`" + ` prints what both take.
- getmail delivers to a Maildir for no root user; as another user it does.
- OfflineIMAP does not check the certificate with STARTTLS, only with TLS from the beginning.
- swaks ends each mail with a line end of its own.
`

// writePage writes the page, if all was tried and all went well.
func writePage(t *testing.T, list []*program) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, pageHead, system())
	for _, p := range list {
		if p.found == "" || t.Failed() {
			t.Errorf("%s is not written: not everything was tried, or went well", page)
			return
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", p.name, p.found, p.debian, p.did)
	}
	b.WriteString(pageScenarios)
	for _, s := range scenarios {
		fmt.Fprintf(&b, "- **%s**: %s\n", s.name, s.did)
	}
	b.WriteString(pageTail)
	if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil { // as the other pages
		t.Fatal(err)
	}
}

var prettyName = regexp.MustCompile(`(?m)^PRETTY_NAME="?([^"\n]*)`)

// system is the name of the operating system.
func system() string {
	release, _ := os.ReadFile("/etc/os-release") // it has no name then
	if m := prettyName.FindSubmatch(release); m != nil {
		return string(m[1])
	}
	return "an unknown system"
}
