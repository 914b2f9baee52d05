package bridge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	// maxSMTPLine is how long a command may be: RFC 5321 has 512 bytes and what extensions
	// add, RFC 4954 12,288 for AUTH.
	maxSMTPLine = 12288
	// maxSMTPSkip is how much of a line that is too long is read to find its end.
	maxSMTPSkip = 1 << 20
	// maxSMTPCommands is how many commands may come before the login.
	maxSMTPCommands = 100

	// smtpTimeout is how long a program may be silent (RFC 5321, 4.5.3.2.7: 5 minutes at
	// least), smtpLoginTimeout how long until it has logged in.
	smtpTimeout      = 10 * time.Minute
	smtpLoginTimeout = 2 * time.Minute
	smtpWriteTimeout = time.Minute
	// smtpLinger is how long a program that is hung up on has to read why.
	smtpLinger = time.Second
)

// smtpConn is the connection that go-smtp serves: between it and the network it gives
// out command by command and gathers the answers. It exists for what go-smtp v0.25.1 does
// not do or does wrong:
//
//   - Its limit of a line is one for commands and for the text of mails. Here commands have
//     one, mails have none.
//   - Its reader of DATA loses a CR after a dot that begins a line, takes CR CR LF for
//     no end of a line, and tells nobody of what others take for the end of a mail (SMTP
//     smuggling). smtpData reads instead; go-smtp sees an empty mail.
//   - It takes the end of a connection in the middle of the last BDAT for the end of the
//     mail, and would send the half; and after a mail that was broken off, the next by BDAT
//     may get its answer. Here smtpChunks reads, and go-smtp sees DATA.
//   - It reads a mail under the timeout of the command. Here each read has its own.
//   - Each of its answers is a write of its own. Here they go out together when
//     it waits for the next command, which is what makes PIPELINING worth anything.
//   - STARTTLS is done here, so that all this is above TLS, and once for both ways to it.
type smtpConn struct {
	net.Conn // what was accepted; read and write go through wire
	srv      *smtpServer
	session  *smtpSession
	ctx      context.Context
	cancel   context.CancelCauseFunc

	wire     net.Conn // Conn, or TLS over it
	secure   bool
	in       *bufio.Reader
	out      []byte
	pending  []byte      // what Read has not given out
	line     []byte      // the buffer of lines
	chunks   *smtpChunks // the mail that BDAT began; nil if none
	commands int
	ended    bool // the next Read ends the connection

	// What the last answer says about what comes next.
	data     bool // the text of a mail, that smtpData reads
	response bool // a response of AUTH

	mu     sync.Mutex // guards what follows
	authed bool
	closed bool
}

// errSMTPEnd is the error of Read at the end of a connection. It is not io.EOF, which
// go-smtp would take for the end of a mail.
var errSMTPEnd = fmt.Errorf("the mail program hung up: %w", net.ErrClosed)

func newSMTPConn(s *smtpServer, raw net.Conn, implicit bool) *smtpConn {
	c := &smtpConn{Conn: raw, srv: s, wire: raw}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	// Who waits for the network is woken.
	context.AfterFunc(c.ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	if implicit {
		c.wire, c.secure = tls.Server(raw, s.b.o.TLS), true
	}
	c.in = bufio.NewReaderSize(smtpWire{c}, 16<<10)
	return c
}

// smtpWire reads from the network: before it waits, it sends the answers.
type smtpWire struct{ c *smtpConn }

func (w smtpWire) Read(p []byte) (int, error) {
	c := w.c
	wait := smtpTimeout
	if !c.isAuthed() {
		wait = smtpLoginTimeout
	}
	c.Conn.SetReadDeadline(time.Now().Add(wait))
	if c.ctx.Err() != nil {
		return 0, errSMTPEnd
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	if c.data {
		acknowledge(c.Conn) // the dot at the end may be written on its own
	}
	n, err := c.wire.Read(p)
	if n > 0 {
		return n, nil
	}
	if errors.Is(err, io.EOF) || c.ctx.Err() != nil {
		err = errSMTPEnd
	}
	return 0, err
}

func (c *smtpConn) isAuthed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.authed
}

func (c *smtpConn) setAuthed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.authed = true
}

// SetReadDeadline, SetWriteDeadline and SetDeadline do nothing: go-smtp's are those of
// whole commands.
func (c *smtpConn) SetReadDeadline(time.Time) error  { return nil }
func (c *smtpConn) SetWriteDeadline(time.Time) error { return nil }
func (c *smtpConn) SetDeadline(time.Time) error      { return nil }

// Read implements net.Conn for go-smtp.
func (c *smtpConn) Read(p []byte) (int, error) {
	for len(c.pending) == 0 {
		if c.ended {
			return 0, errSMTPEnd
		}
		if c.data {
			// smtpData has read the mail; this is the end that go-smtp looks for.
			c.data = false
			c.pending = []byte(".\r\n")
			break
		}
		if err := c.nextLine(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

// nextLine makes the next line that is for go-smtp ready.
func (c *smtpConn) nextLine() error {
	if c.chunks != nil { // of a mail that was refused
		if err := c.chunks.skip(); err != nil {
			return err
		}
		c.chunks = nil
	}
	line, err := c.readLine()
	switch {
	case errors.Is(err, errTooLong):
		return c.answer("500 5.5.6 the line is too long")
	case err != nil:
		return err
	case c.response:
		c.response = false
		c.pending = line
		return nil
	}
	if c.commands++; c.commands > maxSMTPCommands && !c.isAuthed() {
		return c.hangUp("421 4.7.0 too many commands without a login")
	}
	if c.forGoSMTP(line) { // else it was answered
		c.pending = line
		if c.chunks != nil {
			c.pending = line[:len("DATA\r\n")]
		}
		if line[0]|0x20 == 'm' {
			c.pending = hugeSize.ReplaceAll(line, []byte("${1}4294967295"))
		}
	}
	return nil
}

// hugeSize is a SIZE beyond the 32 bits that go-smtp reads. It becomes the largest, which
// is refused as too large instead of as no number.
var hugeSize = regexp.MustCompile(`(?i)^(MAIL .* SIZE=)[0-9]{10,20}\b`)

// forGoSMTP looks at a command before go-smtp does. It reports whether go-smtp is to
// have it, in pending.
func (c *smtpConn) forGoSMTP(line []byte) bool {
	verb, rest, _ := strings.Cut(string(bytes.TrimRight(line, "\r\n")), " ")
	switch {
	case strings.EqualFold(verb, "STARTTLS"):
		c.startTLS(rest)
		return false
	case strings.EqualFold(verb, "BDAT"):
		if c.chunks = c.newChunks(rest); c.chunks == nil {
			return false
		}
		copy(line, "DATA\r\n") // no longer than "BDAT 0\r\n"
	case bytes.IndexByte(line, 0) >= 0:
		c.answer("500 5.5.2 a command with a NUL")
		return false
	}
	return true
}

// readLine reads a line with its end.
func (c *smtpConn) readLine() ([]byte, error) {
	c.line = c.line[:0]
	for skipped := 0; ; {
		b, err := c.in.ReadSlice('\n')
		if len(c.line)+len(b) <= maxSMTPLine && skipped == 0 {
			c.line = append(c.line, b...)
		} else {
			skipped += len(b)
		}
		switch {
		case err == nil && skipped > 0:
			return nil, errTooLong
		case err == nil:
			return c.line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case skipped > maxSMTPSkip:
			return nil, c.hangUp("500 5.5.6 the line is too long")
		}
	}
}
