package bridge

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/asmtp/asmtp/internal/account"
)

// imapPatience bounds every wait of a test.
const imapPatience = 30 * time.Second

const imapTestLimit = 50 << 20

// imapEnv is a server with an account on disk, bob.
type imapEnv struct {
	t    testing.TB
	acc  *account.Account
	srv  *imapServer
	addr string
}

// newIMAPEnv starts a server on loopback. t.Cleanup ends it and looks for goroutines that
// are left.
func newIMAPEnv(t testing.TB, tlsConfig *tls.Config) *imapEnv {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	acc, err := account.Create(t.Context(), t.TempDir(), "bob", account.Options{NoPassphrase: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { acc.Close() })
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("ASMTP_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	srv := newIMAP(imapOptions{TLS: tlsConfig, Limit: imapTestLimit, Log: log,
		Login: func(_ context.Context, _ net.Addr, user, password string, _ func()) (*account.Account, error) {
			if user != "bob" || password != "secret" {
				return nil, errors.New("wrong password")
			}
			return acc, nil
		}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln, false) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &imapEnv{t: t, acc: acc, srv: srv, addr: ln.Addr().String()}
}

// imapClient speaks IMAP line by line. Its methods end the test on errors.
type imapClient struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
	n    int
}

// dial connects and reads the greeting.
func (e *imapEnv) dial() *imapClient {
	e.t.Helper()
	conn, err := net.Dial("tcp", e.addr)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(4 * imapPatience))
	c := &imapClient{t: e.t, conn: conn, in: newReader(conn)}
	if got := c.line(); !strings.HasPrefix(got, "* OK ") {
		e.t.Fatalf("greeting %q", got)
	}
	return c
}

// login connects and logs in.
func (e *imapEnv) login() *imapClient {
	e.t.Helper()
	c := e.dial()
	c.ok("LOGIN bob secret")
	return c
}

func (c *imapClient) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// line reads a response line with its literals, as they stand there.
func (c *imapClient) line() string {
	c.t.Helper()
	var all strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("read a response: %v (have %q %q)", err, all.String(), line)
		}
		line = strings.TrimSuffix(line, "\r\n")
		all.WriteString(line)
		open := strings.LastIndexByte(line, '{')
		if open < 0 || !strings.HasSuffix(line, "}") {
			return all.String()
		}
		n, err := strconv.Atoi(line[open+1 : len(line)-1])
		if err != nil {
			return all.String()
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(c.in, b); err != nil {
			c.t.Fatal(err)
		}
		all.WriteString("\r\n")
		all.Write(b)
	}
}

// do sends a command and returns its untagged responses and the tagged one without tag.
func (c *imapClient) do(command string) (untagged []string, tagged string) {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("t%d", c.n)
	c.send(tag + " " + command + "\r\n")
	return c.until(tag)
}

func (c *imapClient) until(tag string) (untagged []string, tagged string) {
	c.t.Helper()
	for {
		line := c.line()
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			return untagged, rest
		}
		untagged = append(untagged, line)
	}
}

// ok sends a command that must succeed.
func (c *imapClient) ok(command string) []string {
	c.t.Helper()
	untagged, tagged := c.do(command)
	if !strings.HasPrefix(tagged, "OK") {
		c.t.Fatalf("%.200s: %s", command, tagged)
	}
	return untagged
}

// append files a message by a literal that need not be asked for.
func (c *imapClient) append(folder, flags, msg string) string {
	c.t.Helper()
	_, tagged := c.do(fmt.Sprintf("APPEND %s (%s) {%d+}\r\n%s", folder, flags, len(msg), msg))
	if !strings.HasPrefix(tagged, "OK") {
		c.t.Fatalf("APPEND: %s", tagged)
	}
	return tagged
}

// literalOf returns the first literal of a response.
func literalOf(t testing.TB, response string) string {
	t.Helper()
	_, rest, ok := strings.Cut(response, "{")
	digits, rest, ok2 := strings.Cut(rest, "}\r\n")
	n, err := strconv.Atoi(digits)
	if !ok || !ok2 || err != nil || n > len(rest) {
		t.Fatalf("no literal in %.300q", response)
	}
	return rest[:n]
}

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 64<<10) }
