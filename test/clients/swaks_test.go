package clients

import (
	"strings"
	"testing"
)

func testSwaks(t *testing.T, w *world, swaks *tool) {
	text := "Sent by swaks.\r\n.\r\nThe end.\r\n"
	user, password := w.alice.Login(t, "swaks")
	send := func(subject string, args ...string) (string, error) {
		// It adds a line end of its own.
		file := write(t, swaks.in("letter"), "%s", strings.TrimSuffix(letter(subject, text), "\r\n"))
		return swaks.try(t, nil, append([]string{"--server", w.alice.SMTP, "--from", w.alice.address, "--to", w.bob.address,
			"--auth-user", user, "--auth-password", password, "--data", "@" + file}, args...)...)
	}
	for _, c := range []struct {
		subject string
		args    []string
	}{
		{"swaks plain", []string{"--auth", "PLAIN"}},
		{"swaks login", []string{"--auth", "LOGIN"}},
		{"swaks starttls plain", []string{"--auth", "PLAIN", "--tls", "--tls-verify", "--tls-ca-path", w.alice.Certificate()}},
		{"swaks starttls login", []string{"--auth", "LOGIN", "--tls"}},
		{"swaks pipelining", []string{"--auth", "PLAIN", "--pipeline"}},
	} {
		out, err := send(c.subject, c.args...)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, "250 2.0.0 queued as") {
			t.Errorf("%s: no mail id in\n%s", c.subject, out)
		}
		w.bob.checkBody(t, "INBOX", w.bob.await(t, "INBOX", c.subject), []byte(text))
	}
	for _, c := range []struct {
		subject, answer string
		args            []string
	}{
		{"swaks wrong password", "535 ", []string{"--auth", "PLAIN", "--auth-password", "wrong"}},
		{"swaks other sender", "553 ", []string{"--auth", "PLAIN", "--from", "mallory@asmtp"}},
		{"swaks stranger", "550 ", []string{"--auth", "PLAIN", "--to", "stranger@asmtp"}},
	} {
		if out, err := send(c.subject, c.args...); err == nil || !strings.Contains(out, c.answer) {
			t.Errorf("%s: want an answer %s, got %v\n%s", c.subject, c.answer, err, out)
		}
	}
	if n := len(w.bob.messages(t, "INBOX", "swaks")); n != 5 {
		t.Errorf("%d mails of swaks arrived, want 5", n)
	}
}
