package bridge

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/asmtp/asmtp/internal/account"
)

const letter = "From: Alice <alice@asmtp>\r\nTo: bob@asmtp\r\nSubject: Hello\r\n\r\nThe beans are up.\r\n"

// bodyOf is a mail after its header.
func bodyOf(raw string) string {
	_, b, _ := strings.Cut(raw, "\r\n\r\n")
	return b
}

// 250 has the id of a mail that is in the outbox, with the body as it was sent.
func TestSMTPMailIsInTheOutbox(t *testing.T) {
	e := newSMTPEnv(t, nil)
	c := e.login()
	for range 3 {
		id := e.queued(c.mail(letter))
		out, err := e.acc.Status(t.Context(), id)
		if err != nil || len(out) != 1 || out[0].To != "bob" || out[0].State != account.Queued {
			t.Fatalf("status %v, %v", out, err)
		}
		if got := bodyOf(e.raw(id)); got != "The beans are up.\r\n" {
			t.Errorf("body %q", got)
		}
	}
	c.do("QUIT", "221")
	c.ended()
}

// The answer to EHLO names what there is: the true limit of a mail first of all.
func TestSMTPGreeting(t *testing.T) {
	e := newSMTPEnv(t, nil)
	c := e.dial()
	got := c.do("EHLO test", "250")
	for _, want := range []string{"SIZE 52428800\r\n", "AUTH PLAIN LOGIN\r\n", "8BITMIME\r\n", "SMTPUTF8\r\n", "PIPELINING\r\n", "CHUNKING\r\n", "DSN\r\n", "ENHANCEDSTATUSCODES\r\n", "LIMITS RCPTMAX=1000\r\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if strings.Contains(got, "STARTTLS") {
		t.Error("STARTTLS without a certificate")
	}
}

// Who one is may be said in every way that an address has; AUTH LOGIN works with and
// without an initial response.
func TestSMTPLogin(t *testing.T) {
	e := newSMTPEnv(t, nil)
	id := e.acc.ID().String()
	for _, user := range []string{"alice", "ALICE", "alice@asmtp", id, strings.ToUpper(id), id + "@asmtp"} {
		c := e.dial()
		c.do("EHLO test", "250")
		c.do(plain(user, e.password), "235")
		c.conn.Close()
	}
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, first := range []string{"", " " + b64("alice")} {
		c := e.dial()
		c.do("EHLO test", "250")
		got := c.do("AUTH LOGIN"+first, "334 ")
		if first == "" {
			if got != "334 "+b64("Username:")+"\r\n" {
				t.Errorf("challenge %q", got)
			}
			got = c.do(b64("alice"), "334 ")
		}
		if got != "334 "+b64("Password:")+"\r\n" {
			t.Errorf("challenge %q", got)
		}
		c.do(b64(e.password), "235")
		c.do("AUTH LOGIN", "503")
	}
	c := e.dial()
	c.do("EHLO test", "250")
	c.do("AUTH PLAIN", "334")
	c.do("*", "501")
	c.do("AUTH CRAM-MD5", "504")
	c.do("AUTH PLAIN "+b64("bob\x00alice\x00"+e.password), "535")
}

// Nothing goes without a login.
func TestSMTPNeedsLogin(t *testing.T) {
	e := newSMTPEnv(t, nil)
	c := e.dial()
	c.do("MAIL FROM:<alice@asmtp>", "502")
	c.do("EHLO test", "250")
	c.do("MAIL FROM:<alice@asmtp>", "530")
	c.do("RCPT TO:<bob@asmtp>", "502")
	c.do("DATA", "502")
	c.do("BDAT 5 LAST", "530")
	c.ended()
}

// Mail is from the account, and to contacts; the refusal says what to do.
func TestSMTPAddresses(t *testing.T) {
	e := newSMTPEnv(t, nil)
	c := e.login()
	got := c.do("MAIL FROM:<bob@asmtp>", "553 5.7.1")
	if !strings.Contains(got, "alice@asmtp") {
		t.Errorf("%q does not say as whom to send", got)
	}
	c.do("MAIL FROM:<alice@example.org>", "553")
	c.do("MAIL FROM:<"+e.acc.ID().String()+"@asmtp>", "250")
	c.do("RSET", "250")
	c.do("MAIL FROM:<>", "250")
	c.do("RSET", "250")
	c.do("MAIL FROM:<alice@asmtp> BODY=8BITMIME SMTPUTF8 SIZE=1000", "250")
	got = c.do("RCPT TO:<carol@asmtp>", "550 5.1.1")
	if !strings.Contains(got, "asmtp-cli contact add carol ID") {
		t.Errorf("%q does not say how to add a contact", got)
	}
	stranger := createAccount(t, "dora").ID().String()
	got = c.do("RCPT TO:<"+stranger+"@asmtp>", "550 5.1.1")
	if !strings.Contains(got, "asmtp-cli contact add NAME "+stranger) {
		t.Errorf("%q does not say how to add a contact", got)
	}
	c.do("RCPT TO:<someone@example.org>", "550 5.1.2")
	c.do("DATA", "502")
	c.do("RCPT TO:<"+e.bob.ID().String()+"@asmtp>", "250")
	c.do("RCPT TO:<BOB@ASMTP>", "250")
	c.do("DATA", "354")
	c.send(letter + ".\r\n")
	id := e.queued(c.answer())
	if out, err := e.acc.Status(t.Context(), id); err != nil || len(out) != 1 {
		t.Errorf("bob twice is %d recipients, %v", len(out), err)
	}
}
