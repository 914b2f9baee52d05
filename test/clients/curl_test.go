package clients

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
)

// letter is a small mail as programs take it.
func letter(subject, body string) string {
	return "From: alice@asmtp\r\nTo: bob@asmtp\r\nSubject: " + subject + "\r\n\r\n" + body
}

func testCurl(t *testing.T, w *world, curl *tool) {
	text := "Line one.\r\n.\r\n..two dots\r\nUmlauts: äöü\r\n"
	for _, c := range []struct {
		subject string
		args    []string
	}{
		{"curl plain", nil},
		{"curl starttls", []string{"--ssl-reqd", "--cacert", w.alice.Certificate()}},
		{"curl login", []string{"--login-options", "AUTH=LOGIN"}},
	} {
		user, password := w.alice.Login(t, "curl")
		file := write(t, curl.in("letter"), "%s", letter(c.subject, text))
		curl.do(t, "", append([]string{"-sS", "smtp://" + w.alice.SMTP, "-u", user + ":" + password,
			"--mail-from", w.alice.address, "--mail-rcpt", w.bob.address, "-T", file}, c.args...)...)
		m := w.bob.await(t, "INBOX", c.subject)
		w.bob.checkBody(t, "INBOX", m, []byte(text))
	}

	user, password := w.bob.Login(t, "curl")
	w.bob.create(t, "curl")
	imap := func(path string, args ...string) string {
		return curl.do(t, "", append([]string{"-sS", "imap://" + w.bob.IMAP + path, "-u", user + ":" + password}, args...)...)
	}
	m := w.bob.await(t, "INBOX", "curl plain")

	imap("/INBOX;UID="+m.uid, "-o", curl.in("fetched"), "--ssl-reqd", "--cacert", w.bob.Certificate())
	fetched, err := os.ReadFile(curl.in("fetched"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := sum(fetched), sum(w.bob.raw(t, "INBOX", m.uid)); got != want {
		t.Errorf("curl fetched a mail with SHA-256 %s, want %s", got, want)
	}
	if got := imap("/INBOX;UID=" + m.uid + ";SECTION=TEXT"); sum([]byte(got)) != sum([]byte(text)) {
		t.Errorf("curl fetched the text %q", got)
	}
	numbers := regexp.MustCompile(`\d+`).FindAllString(imap("/INBOX?"+url.PathEscape(`SUBJECT "curl" TEXT "two dots"`)), -1)
	if len(numbers) != 3 {
		t.Errorf("curl found the mails %v, want three", numbers)
	}
	if got := imap("", "-X", "LIST \"\" *"); !strings.Contains(got, "INBOX") || !strings.Contains(got, "curl") {
		t.Errorf("curl listed %q", got)
	}
	imap("/INBOX", "-X", fmt.Sprintf(`UID STORE %s +FLAGS (\Answered curled)`, m.uid))
	if got := w.bob.await(t, "INBOX", "curl plain"); !got.has(`\Answered`) || !got.has("curled") {
		t.Errorf("the flags are %q", got.flags)
	}
	imap("/curl", "-T", write(t, curl.in("letter"), "%s", letter("curl appended", text)))
	w.bob.checkBody(t, "curl", w.bob.await(t, "curl", "curl appended"), []byte(text))
}
