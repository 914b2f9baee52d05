package bridge

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/asmtp/asmtp/internal/account"
)

// smtpEnv is a bridge over an account on disk, alice, who knows bob. There is no node.
type smtpEnv struct {
	t        testing.TB
	acc      *account.Account
	bob      *account.Account
	addr     string
	password string
	stop     func() // ends the bridge and waits for it
}

func createAccount(t testing.TB, name string) *account.Account {
	t.Helper()
	a, err := account.Create(t.Context(), t.TempDir(), name, account.Options{NoPassphrase: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func newPassword(t testing.TB, a *account.Account) string {
	t.Helper()
	p, err := a.MakePassword(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// newSMTPEnv starts a bridge on loopback. t.Cleanup ends it and looks for goroutines that
// are left.
func newSMTPEnv(t testing.TB, change func(*Options)) *smtpEnv {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	e := &smtpEnv{t: t, acc: createAccount(t, "alice"), bob: createAccount(t, "bob")}
	if _, err := e.acc.AddContact(t.Context(), "bob", e.bob.ID()); err != nil {
		t.Fatal(err)
	}
	e.password = newPassword(t, e.acc)
	o := Options{Accounts: []*account.Account{e.acc}}
	if os.Getenv("ASMTP_TEST_LOG") != "" {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	var err error
	if o.SMTP, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&o)
	}
	e.addr = o.SMTP.Addr().String()
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	e.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(imapPatience):
			t.Error("the bridge does not end")
		}
	})
	t.Cleanup(e.stop)
	return e
}

// smtpClient speaks SMTP line by line. Its methods end the test on errors.
type smtpClient struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

func (e *smtpEnv) dial() *smtpClient {
	e.t.Helper()
	conn, err := net.Dial("tcp", e.addr)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * imapPatience))
	c := &smtpClient{t: e.t, conn: conn, in: bufio.NewReader(conn)}
	c.want("220")
	return c
}

func plain(user, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))
}

// login connects and logs in.
func (e *smtpEnv) login() *smtpClient {
	e.t.Helper()
	c := e.dial()
	c.do("EHLO test", "250")
	c.do(plain("alice", e.password), "235")
	return c
}

func (c *smtpClient) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads one answer, all lines of it.
func (c *smtpClient) answer() string {
	c.t.Helper()
	var all strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("read an answer: %v (have %q %q)", err, all.String(), line)
		}
		all.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			return all.String()
		}
	}
}

// want reads one answer, which must begin with a text.
func (c *smtpClient) want(begin string) string {
	c.t.Helper()
	got := c.answer()
	if !strings.HasPrefix(got, begin) {
		c.t.Fatalf("answer %q, want %q", got, begin)
	}
	return got
}

// do sends a command and reads its answer.
func (c *smtpClient) do(command, begin string) string {
	c.t.Helper()
	c.send(command + "\r\n")
	got := c.answer()
	if !strings.HasPrefix(got, begin) {
		c.t.Fatalf("%.200s: %q, want %q", command, got, begin)
	}
	return got
}

// ended reads to the end of the connection, before which nothing may come.
func (c *smtpClient) ended() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		c.t.Fatalf("at the end of the connection: %q, %v", rest, err)
	}
}

// mail sends a mail to bob, up to the answer of DATA.
func (c *smtpClient) mail(text string) string {
	c.t.Helper()
	c.do("MAIL FROM:<alice@asmtp>", "250")
	c.do("RCPT TO:<bob@asmtp>", "250")
	c.do("DATA", "354")
	c.send(stuff([]byte(text)))
	return c.answer()
}

// queued returns the id in the answer to a mail that was taken.
func (e *smtpEnv) queued(answer string) account.MailID {
	e.t.Helper()
	text, ok := strings.CutPrefix(answer, "250 2.0.0 queued as ")
	if !ok {
		e.t.Fatalf("answer %q", answer)
	}
	id, err := e.acc.Find(e.t.Context(), strings.TrimSpace(text))
	if err != nil {
		e.t.Fatalf("%q: %v", answer, err)
	}
	return id
}

// raw is a mail of alice's as it is sent.
func (e *smtpEnv) raw(id account.MailID) string {
	e.t.Helper()
	var b strings.Builder
	if err := e.acc.Raw(e.t.Context(), id, &b); err != nil {
		e.t.Fatal(err)
	}
	return b.String()
}

func ownTLS(t testing.TB) *tls.Config {
	t.Helper()
	c, err := OwnCertificate(t.TempDir(), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ServerTLS(c)
}
