package clients

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// neomutt runs by the settings that "bridge setup neomutt" prints, and once with STARTTLS.
func testNeomutt(t *testing.T, w *world, neomutt *tool) {
	config := func(p *person, more string) string {
		_, printed, _ := strings.Cut(p.setup(t, "neomutt", neomutt), "-\n") // under the title
		return write(t, neomutt.in(p.name+"rc"), "%s", printed+more)
	}
	starttls := func(p *person) string {
		return fmt.Sprintf("set ssl_starttls = yes\nset ssl_force_tls = yes\nset certificate_file = %q\n", p.Certificate())
	}
	testNeomuttSends(t, w, neomutt, config(w.alice, ""), "neomutt plain")
	testNeomuttSends(t, w, neomutt, config(w.alice, starttls(w.alice)), "neomutt starttls")

	w.bob.create(t, "neomutt")
	for _, subject := range []string{"neomutt flag", "neomutt delete", "neomutt move", "neomutt keep"} {
		w.bob.append(t, "neomutt", letter(subject, "For neomutt.\r\n"))
	}
	rc := config(w.bob, "set confirmappend = no\nset delete = yes\nset quit = yes\nset mark_old = no\nset wait_key = no\nset sleep_time = 0\n"+starttls(w.bob))
	neomutt.screen(t, "-n", "-F", rc, "-f", "=neomutt", "-e", "push '"+
		"<search>~s flag<enter><flag-message>"+
		"<search>~s delete<enter><delete-message>"+
		"<search>~s move<enter><save-message>=Archive<enter>"+
		"<sync-mailbox><quit>'")
	checkSubjects(t, w.bob, "neomutt", "neomutt flag", "neomutt keep")
	if m := w.bob.await(t, "neomutt", "neomutt flag"); !m.has(`\Flagged`) {
		t.Errorf("the flags are %q", m.flags)
	}
	if m := w.bob.await(t, "neomutt", "neomutt keep"); m.has(`\Flagged`) || m.has(`\Deleted`) {
		t.Errorf("the flags are %q", m.flags)
	}
	for folder, subject := range map[string]string{"Archive": "neomutt move", "Trash": "neomutt delete"} {
		w.bob.checkBody(t, folder, w.bob.await(t, folder, subject), []byte("For neomutt.\r\n"))
	}
}

// testNeomuttSends sends a mail with an attachment, without a terminal.
func testNeomuttSends(t *testing.T, w *world, neomutt *tool, rc, subject string) {
	t.Helper()
	content := random(100_000)
	attachment := neomutt.in("attachment.bin")
	if err := os.WriteFile(attachment, content, 0o600); err != nil {
		t.Fatal(err)
	}
	neomutt.do(t, "Sent by neomutt: äöü.\n", "-n", "-F", rc, "-s", subject, "-a", attachment, "--", w.bob.address)
	raw := w.bob.raw(t, "INBOX", w.bob.await(t, "INBOX", subject).uid)
	if got := lastPart(t, raw); sum(got) != sum(content) {
		t.Errorf("%s: the attachment arrived with SHA-256 %s, want %s", subject, sum(got), sum(content))
	}
	copies := w.alice.messages(t, "Sent", subject)
	if len(copies) != 1 {
		t.Errorf("%s is in Sent %d times", subject, len(copies))
	}
}

// lastPart returns the content of the last part of a mail with attachments, in base64.
func lastPart(t testing.TB, raw []byte) (content []byte) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	for parts := multipart.NewReader(m.Body, params["boundary"]); ; {
		part, err := parts.NextPart()
		if err == io.EOF {
			return content
		}
		if err != nil {
			t.Fatal(err)
		}
		if part.Header.Get("Content-Transfer-Encoding") == "base64" {
			if content, err = io.ReadAll(base64.NewDecoder(base64.StdEncoding, part)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// screen runs the program with a terminal, by script of util-linux.
func (p *tool) screen(t testing.TB, args ...string) {
	t.Helper()
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip("script of util-linux, which makes a terminal, is not installed")
	}
	var words []string
	for _, a := range append([]string{p.path}, args...) {
		words = append(words, "'"+strings.ReplaceAll(a, "'", `'\''`)+"'")
	}
	terminal := &tool{script, p.home}
	terminal.do(t, "", "-qefc", "stty rows 40 columns 120; "+strings.Join(words, " "), "/dev/null")
}
