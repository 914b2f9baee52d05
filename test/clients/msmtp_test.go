package clients

import (
	"strings"
	"testing"
)

// The certificate is known by its fingerprint, which the bridge prints, or by its file, as
// "bridge setup mbsync" has it.
func testMsmtp(t *testing.T, w *world, msmtp *tool) {
	text := "Sent by msmtp.\r\n.\r\nThe end.\r\n"
	user, password := w.alice.Login(t, "msmtp")
	host, port, _ := strings.Cut(w.alice.SMTP, ":")
	config := write(t, msmtp.in("msmtprc"), `defaults
host %s
port %s
from %s
user %s
password %s
tls_starttls on

account fingerprint
auth plain
tls on
tls_fingerprint %s

account file
auth login
tls on
tls_trust_file %s

account clear
auth plain
tls off

account stranger
auth plain
tls on
tls_fingerprint %s
`, host, port, w.alice.address, user, password, w.alice.Fingerprint, w.alice.Certificate(), strings.Repeat("00:", 31)+"00")
	for _, account := range []string{"fingerprint", "file", "clear"} {
		subject := "msmtp " + account
		msmtp.do(t, strings.ReplaceAll(letter(subject, text), "\r\n", "\n"), "-C", config, "-a", account, "-t")
		w.bob.checkBody(t, "INBOX", w.bob.await(t, "INBOX", subject), []byte(text))
	}
	_, printed, _ := strings.Cut(w.alice.setup(t, "mbsync", msmtp), ".msmtprc\n")
	file := write(t, msmtp.in("printed"), "%s", printed)
	msmtp.do(t, letter("msmtp printed", text), "-C", file, "-t")
	w.bob.checkBody(t, "INBOX", w.bob.await(t, "INBOX", "msmtp printed"), []byte(text))

	if out, err := msmtp.try(t, strings.NewReader(letter("msmtp stranger", text)), "-C", config, "-a", "stranger", "-t"); err == nil || !strings.Contains(out, "fingerprint") {
		t.Errorf("msmtp sent to a server with another certificate: %v %s", err, out)
	}
}
