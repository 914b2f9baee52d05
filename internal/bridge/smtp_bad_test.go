package bridge

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"github.com/asmtp/asmtp/internal/account"
	msg "github.com/asmtp/asmtp/internal/message"
)

const head = "From: alice@asmtp\r\nTo: bob@asmtp\r\nSubject: x\r\n\r\n"

// A body arrives byte for byte, whatever it is.
func TestSMTPKeepsBodies(t *testing.T) {
	e := newSMTPEnv(t, nil)
	c := e.login()
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for name, text := range map[string]string{
		"long line":     strings.Repeat("x", 100<<10) + "\r\n",
		"long lines":    strings.Repeat(strings.Repeat(".", 50<<10)+"\r\n", 5),
		"NUL":           "a\x00b\r\n",
		"bare CR, LF":   "a\rb\nc\r\r\n\n\r\nd\r\n",
		"8 bit":         "\xff\xfe\x80\r\n",
		"every byte":    string(every) + "\r\n",
		"dots":          ".\r\n..\r\n.a\r\n...\r\n",
		"commands":      "QUIT\r\nMAIL FROM:<bob@asmtp>\r\nSTARTTLS\r\nBDAT 5\r\n",
		"no body":       "",
		"large":         strings.Repeat("0123456789abcdef\r\n", 100_000),
		"dot, bare":     "x\n.y\r.z\r\n",
		"ends in CR CR": "x\r\r\r\n",
	} {
		if got := bodyOf(e.raw(e.queued(c.mail(head + text)))); got != text {
			t.Errorf("%s: %d bytes %.80q became %d bytes %.80q", name, len(text), text, len(got), got)
		}
	}
}

// What others would take for the end of a mail is refused in one answer, and nothing that
// comes after it is done.
func TestSMTPRefusesSmuggling(t *testing.T) {
	e := newSMTPEnv(t, nil)
	for _, end := range []string{"\n.\n", "\r.\r", "\n.\r\n", "\r\n.\r", "\r\n.\n"} {
		c := e.login()
		c.do("MAIL FROM:<alice@asmtp>", "250")
		c.do("RCPT TO:<bob@asmtp>", "250")
		c.do("DATA", "354")
		c.send(head + "first" + end + "MAIL FROM:<alice@asmtp>\r\nRCPT TO:<bob@asmtp>\r\nDATA\r\n" + head + "second\r\n.\r\nNOOP\r\n")
		c.want("554 5.6.0")
		c.ended()
	}
	if list, err := e.acc.Queue(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("in the outbox: %v, %v", list, err)
	}
}

// A mail beyond the limit is refused: at MAIL if it says so, else at its end; a claimed
// size that is wrong changes nothing.
func TestSMTPSize(t *testing.T) {
	e := newSMTPEnv(t, nil)
	c := e.login()
	c.do("MAIL FROM:<alice@asmtp> SIZE=52428801", "552 5.3.4")
	c.do("MAIL FROM:<alice@asmtp> SIZE=99999999999999999999", "552 5.3.4")
	c.do("MAIL FROM:<alice@asmtp> SIZE=x", "501")
	c.do("MAIL FROM:<alice@asmtp> SIZE=1", "250")
	c.do("RCPT TO:<bob@asmtp>", "250")
	c.do("DATA", "354")
	c.send(stuff([]byte(letter)))
	e.queued(c.answer())
	c.do("MAIL FROM:<alice@asmtp> SIZE=1000", "250")
	c.do("RCPT TO:<bob@asmtp>", "250")
	c.do("DATA", "354")
	c.send(head)
	line := strings.Repeat("x", 998) + "\r\n"
	for range 53_000 {
		c.send(line)
	}
	c.send(".\r\n")
	if got := c.answer(); !strings.HasPrefix(got, "552 5.3.4") || !strings.Contains(got, "52428800") {
		t.Errorf("too large: %q", got)
	}
	e.queued(c.mail(letter)) // the connection goes on
}

// BDAT takes a mail in chunks, with anything in it. Half a mail is no mail, and what
// follows a chunk is a command.
func TestSMTPChunks(t *testing.T) {
	e := newSMTPEnv(t, nil)
	c := e.login()
	begin := func() {
		c.do("MAIL FROM:<alice@asmtp>", "250")
		c.do("RCPT TO:<bob@asmtp>", "250")
	}
	begin()
	text := "a\n.\n.\r\n.\r\nQUIT\r\n" + strings.Repeat("y", 20000)
	whole := head + text
	c.send(fmt.Sprintf("BDAT 30\r\n%sBDAT 0\r\nBDAT %d LAST\r\n%sNOOP\r\n", whole[:30], len(whole)-30, whole[30:]))
	c.want("250")
	c.want("250")
	if got := bodyOf(e.raw(e.queued(c.answer()))); got != text {
		t.Errorf("%d bytes became %d: %.60q", len(text), len(got), got)
	}
	c.want("250")

	begin()
	c.send("BDAT 10\r\n" + head[:10] + "RSET\r\n")
	c.want("250")
	c.want("250")
	c.do("BDAT 6 LAST\r\nQUIT", "502") // the chunk goes with the command
	c.do("DATA", "502")
	begin()
	c.send("BDAT 10\r\n" + head[:10])
	c.want("250")
	c.do("DATA", "503")
	c.do("MAIL FROM:<alice@asmtp>", "503")
	c.do("NOOP", "250")
	c.do("RSET", "250")
	begin()
	c.do("BDAT 99999999 LAST", "552")
	c.ended()

	before := outboxOf(t, e)
	c = e.login()
	begin()
	c.send("BDAT 1000 LAST\r\n" + head)
	c.conn.(*net.TCPConn).CloseWrite()
	if rest, _ := io.ReadAll(c.in); bytes.Contains(rest, []byte("250")) {
		t.Errorf("half a mail: %q", rest)
	}
	if after := outboxOf(t, e); after != before {
		t.Errorf("half a mail was taken: %d, %d", before, after)
	}
	for _, bad := range []string{"BDAT", "BDAT x", "BDAT -1", "BDAT 1 FIRST", "BDAT 1 LAST 2"} {
		c = e.login()
		begin()
		c.send(bad + "\r\nQUIT\r\n")
		c.want("501")
		c.ended()
		c = e.login()
		begin()
		c.send("BDAT 3\r\nabc" + bad + "\r\nQUIT\r\n")
		c.want("250")
		c.want("501")
		c.ended()
	}
}

func outboxOf(t *testing.T, e *smtpEnv) int {
	t.Helper()
	list, err := e.acc.Queue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// Lines that are no commands get an answer, and too many the end.
func TestSMTPBadCommands(t *testing.T) {
	e := newSMTPEnv(t, nil)
	c := e.login()
	c.do(strings.Repeat("x", 20000), "500 5.5.6")
	c.do("NOOP", "250")
	c.do("NOOP \x00", "500")
	c.do("RCPT TO:<"+strings.Repeat("a", 10000)+"@asmtp>", "502")
	c.do("MAIL FROM:<alice@asmtp> BODY=9BIT", "501")
	c.do("MAIL FROM:alice", "501")
	c.do("MAIL FROM:<alice@asmtp> NOSUCH=1", "500")
	c.do("VRFY bob", "252")
	c.do("NOOP", "250")
	go io.WriteString(c.conn, strings.Repeat("x", 3<<20)) // it is cut
	c.want("500")
	c = e.dial()
	for range maxSMTPCommands {
		c.do("NOOP", "250")
	}
	c.do("NOOP", "421")
	c.ended()
}

// Ten thousand recipients: a thousand are taken, the others refused, each once, and the
// mail goes to those that were taken.
func TestSMTPManyRecipients(t *testing.T) {
	e := newSMTPEnv(t, nil)
	c := e.login()
	c.do("MAIL FROM:<alice@asmtp>", "250")
	const all = 10_000
	go io.WriteString(c.conn, strings.Repeat("RCPT TO:<bob@asmtp>\r\n", all))
	taken := 0
	for range all {
		switch got := c.answer(); {
		case strings.HasPrefix(got, "250"):
			taken++
		case !strings.HasPrefix(got, "452 4.5.3"):
			t.Fatalf("answer %q", got)
		}
	}
	if taken != maxRecipients {
		t.Errorf("%d were taken", taken)
	}
	c.do("DATA", "354")
	c.send(letter + ".\r\n")
	e.queued(c.answer())
}

// A program that sends many commands at once gets their answers in order, and together.
func TestSMTPPipelining(t *testing.T) {
	e := newSMTPEnv(t, nil)
	c := e.dial()
	c.do("EHLO test", "250")
	c.send(plain("alice", e.password) + "\r\nMAIL FROM:<alice@asmtp>\r\nRCPT TO:<bob@asmtp>\r\nRCPT TO:<carol@asmtp>\r\nDATA\r\n")
	for _, want := range []string{"235", "250", "250", "550", "354"} {
		c.want(want)
	}
	c.send(letter + ".\r\nMAIL FROM:<alice@asmtp>\r\nRSET\r\nQUIT\r\n")
	e.queued(c.answer())
	for _, want := range []string{"250", "250", "221"} {
		c.want(want)
	}
	c.ended()
}

// STARTTLS and implicit TLS work; what follows STARTTLS in clear ends the connection.
func TestSMTPTLS(t *testing.T) {
	config := ownTLS(t)
	e := newSMTPEnv(t, func(o *Options) { o.TLS = config })
	client := &tls.Config{InsecureSkipVerify: true}
	c := e.dial()
	if got := c.do("EHLO test", "250"); !strings.Contains(got, "250-STARTTLS\r\n") {
		t.Errorf("EHLO: %q", got)
	}
	c.do("STARTTLS", "220")
	secure := tls.Client(c.conn, client)
	c.conn = secure
	c.in.Reset(secure)
	if got := c.do("EHLO test", "250"); strings.Contains(got, "STARTTLS") {
		t.Errorf("EHLO under TLS: %q", got)
	}
	c.do(plain("alice", e.password), "235")
	e.queued(c.mail(letter))
	c.do("STARTTLS", "503")
	c.do("QUIT", "221")

	c = e.dial()
	c.do("EHLO test", "250")
	c.send("STARTTLS\r\nNOOP\r\n")
	c.want("501")
	c.ended()

	e = newSMTPEnv(t, func(o *Options) { o.TLS, o.Implicit = config, true })
	conn, err := tls.Dial("tcp", e.addr, client)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c = &smtpClient{t: t, conn: conn, in: newReader(conn)}
	c.want("220")
	c.do("EHLO test", "250")
	c.do(plain("alice", e.password), "235")
	e.queued(c.mail(letter))
}

// Those that say nothing do not keep out those that log in.
func TestSMTPSilentConnections(t *testing.T) {
	e := newSMTPEnv(t, nil)
	var silent []*smtpClient
	for range maxSMTPConns {
		silent = append(silent, e.dial())
	}
	for range 5 {
		e.queued(e.login().mail(letter))
	}
	silent[0].want("421")
	silent[0].ended()
	silent[len(silent)-1].do("NOOP", "250")
}

// Beyond this machine there is no bridge without TLS.
func TestNewRefusesClear(t *testing.T) {
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	o := Options{Accounts: []*account.Account{createAccount(t, "alice")}, SMTP: ln}
	if _, err := New(o); err == nil {
		t.Error("a listener on all addresses without TLS")
	}
	o.TLS = ownTLS(t)
	if _, err := New(o); err != nil {
		t.Error(err)
	}
}

// A bridge that ends says so to those who are connected, also in the middle of a mail,
// which is then not sent.
func TestSMTPSaysGoodbye(t *testing.T) {
	e := newSMTPEnv(t, nil)
	idle, busy := e.login(), e.login()
	idle.do("NOOP", "250")
	busy.do("MAIL FROM:<alice@asmtp>", "250")
	busy.do("RCPT TO:<bob@asmtp>", "250")
	busy.do("DATA", "354")
	busy.send(letter)
	e.stop()
	for _, c := range []*smtpClient{idle, busy} {
		c.want("421 4.3.2")
		c.ended()
	}
	if n := outboxOf(t, e); n != 0 {
		t.Errorf("%d mails in the outbox", n)
	}
}

// What DSN says arrives at the account; what is longer than RFC 3461 allows is refused.
func TestSMTPDSN(t *testing.T) {
	e := newSMTPEnv(t, nil)
	c := e.login()
	c.do("MAIL FROM:<alice@asmtp> RET=HDRS ENVID="+strings.Repeat("x", 101), "501")
	c.do("MAIL FROM:<alice@asmtp> RET=HDRS ENVID=QQ+2B1", "250")
	c.do("RCPT TO:<bob@asmtp> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;"+strings.Repeat("x", 501), "501")
	c.do("RCPT TO:<bob@asmtp> NOTIFY=NEVER,SUCCESS", "501")
	c.do("RCPT TO:<bob@asmtp> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;bob+40old", "250")
	c.do("DATA", "354")
	c.send(letter + ".\r\n")
	e.queued(c.answer())
	m := smtpEnvelope{id: "QQ+1", recipients: []smtpRecipient{{"bob@asmtp", []smtp.DSNNotify{smtp.DSNNotifySuccess, smtp.DSNNotifyDelayed}, "rfc822;bob@old"}}}
	d := m.draft(nil)
	if r := d.Recipients[0]; d.EnvID != "QQ+1" || d.Notify != 0 || r.Notify != msg.NotifySuccess|msg.NotifyDelay || r.ORCPT != "rfc822;bob@old" {
		t.Errorf("draft %+v", d)
	}
	m.never = true
	if d := m.draft(nil); d.Notify != msg.NotifyNever || d.Recipients[0].Notify != 0 {
		t.Errorf("draft of a mail that nobody may answer: %+v", d)
	}
}

// A header that cannot be sent is refused for good, with the reason.
func TestSMTPBadHeader(t *testing.T) {
	e := newSMTPEnv(t, nil)
	c := e.login()
	big := "Subject: " + strings.Repeat("x ", 10) + "\r\n"
	if got := c.mail(strings.Repeat(big, 300<<10/len(big)) + "\r\ntext\r\n"); !strings.HasPrefix(got, "554 5.6.0") || !strings.Contains(got, "header") {
		t.Errorf("a header of 300 KiB: %q", got)
	}
	e.queued(c.mail(letter))
}
