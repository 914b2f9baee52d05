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
	"strings"
	"sync"
	"time"
)

const (
	// maxLine is how long a command may be without its literals, maxLibLine if go-imap
	// parses it, which stops at 50 KiB in the middle of a line and would read the rest as a
	// command.
	maxLine    = 256 << 10
	maxLibLine = 48 << 10
	// maxStrangerLine is the same before the login.
	maxStrangerLine = 8 << 10
	// maxLiteral is the longest literal that is no message. go-imap has the same limit, but
	// then takes the literal for a part of the line.
	maxLiteral = 4096
	// maxSkip is how much of a refused command is read to find its end; beyond it the
	// connection is closed. maxStrangerSkip holds before the login.
	maxSkip         = 128 << 20
	maxStrangerSkip = 64 << 10
	// maxBad is how many lines that are no commands are answered before the login.
	maxBad = 3

	// idleTimeout is how long a connection may be silent (RFC 9051, 5.4: 30 minutes).
	idleTimeout      = 35 * time.Minute
	handshakeTimeout = 30 * time.Second
	flushTimeout     = 5 * time.Minute // for 64 KiB to a slow reader
	flushSize        = 64 << 10
)

// imapConn is the connection that go-imap serves: between it and the network it reads
// command by command, and gathers what is written. It exists for what go-imap v2.0.0-beta.8
// does not do or does wrong:
//
//   - It never gives go-imap more than one command, and knows itself where the command
//     ends. go-imap loses its place after an error (a line that is too long, a literal
//     that it did not want, a quoted string over line ends) and takes what follows,
//     which may be the text of a mail, for commands.
//   - It does ID, STARTTLS, IDLE, and FETCH and SEARCH (go-imap's parser forgets SMALLER).
//   - What go-imap writes is flushed when it waits for the next command, or when there
//     is much of it, instead of after every response.
//   - A command that go-imap could not parse is answered BAD, not NO [SERVERBUG].
type imapConn struct {
	net.Conn // what was accepted; read and write go through wire
	srv      *imapServer
	session  *imapSession // set before the first read
	ctx      context.Context
	cancel   context.CancelFunc
	loggedIn bool // of the serving goroutine, as all that follows up to out

	in      *bufio.Reader
	pending []byte // of the line: what Read has not given out
	line    []byte // the buffer of lines
	spent   int    // bytes of the lines of this command
	tag     string // of the command
	name    string
	open    bool    // a literal and another line of the command follow
	lit     literal // what is left of the literal
	bad     int
	ended   bool

	wmu      sync.Mutex // guards what follows
	wire     net.Conn   // Conn, or TLS over it
	secure   bool
	out      *[]byte // from outPool; nil if empty
	waiting  bool    // Read waits for the network: what is written goes out at once
	verbatim bool    // what is written holds contents of mails: look at nothing in it
	answered bool    // the command's tagged response was written
	asked    bool    // go-imap asked for the literal
	caps     bool    // the command's response has capabilities in it
	farewell string  // what wait is to end the connection with
	werr     error
}

var outPool = sync.Pool{New: func() any { b := make([]byte, 0, flushSize+8<<10); return &b }}

func newIMAPConn(s *imapServer, raw net.Conn, implicit bool) *imapConn {
	c := &imapConn{Conn: raw, srv: s, wire: raw, answered: true, caps: true}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if implicit {
		c.wire, c.secure = tls.Server(raw, s.o.TLS), true
	}
	c.in = bufio.NewReaderSize(c.wire, 4096)
	return c
}

// Read implements net.Conn for go-imap: it gives out the lines and literals of one
// command after the other. io.EOF ends the connection.
func (c *imapConn) Read(p []byte) (int, error) {
	for len(c.pending) == 0 {
		if c.ended {
			return 0, io.EOF
		}
		if err := c.flush(); err != nil {
			return 0, err
		}
		if c.isAnswered() {
			if err := c.skipRest(); err != nil {
				return 0, err
			}
		}
		if c.open && c.lit.size > 0 {
			n, err := c.readIn(p[:min(int64(len(p)), c.lit.size)])
			c.lit.size -= int64(n)
			return n, err
		}
		var err error
		switch {
		case c.open:
			if c.in.Buffered() == 0 {
				acknowledge(c.Conn)
			}
			err = c.nextLine()
		case !c.isAnswered() && c.name == "AUTHENTICATE":
			err = c.rawLine()
		default:
			err = c.nextCommand()
		}
		if err != nil {
			return 0, err
		}
	}
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

// readIn reads from the network. Meanwhile what an IDLE writes goes out at once.
func (c *imapConn) readIn(p []byte) (int, error) {
	c.wait(true)
	defer c.wait(false)
	return c.in.Read(p)
}

func (c *imapConn) isAnswered() bool {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.answered
}

// skipRest reads what is left of a command that was answered before it was read.
func (c *imapConn) skipRest() error {
	for budget := int64(c.skipBudget()); c.open; {
		c.wmu.Lock()
		asked := c.asked
		c.wmu.Unlock()
		if c.open = c.lit.plus || asked; !c.open {
			return nil // the program sees the answer and does not send the literal
		}
		if budget -= c.lit.size; budget < 0 {
			return c.hangUp("this is too much")
		}
		if _, err := c.discard(c.lit.size); err != nil {
			return err
		}
		b, err := c.in.ReadSlice('\n')
		end, err := c.lineEnd(b, err)
		if err != nil {
			return err
		}
		c.follow(end)
	}
	return nil
}

func (c *imapConn) discard(n int64) (int64, error) {
	c.wait(true)
	defer c.wait(false)
	return io.CopyN(io.Discard, c.in, n)
}

// follow takes note of the literal that a line announced.
func (c *imapConn) follow(l literal) {
	c.open, c.lit = l.there, l
	c.wmu.Lock()
	c.asked = false
	c.wmu.Unlock()
}

// errTooLong is that a line was longer than allowed. It was read to its end.
var errTooLong = errors.New("the line is too long")

// readLine reads a line and removes its end. Of a line that is too long it returns the
// beginning, and what literal it announces.
func (c *imapConn) readLine() (line []byte, end literal, err error) {
	limit := maxLine
	if !c.loggedIn {
		limit = maxStrangerLine
	}
	c.wait(true)
	defer c.wait(false)
	c.line = c.line[:0]
	for {
		b, err := c.in.ReadSlice('\n')
		if c.spent += len(b); c.spent > limit {
			c.line = append(c.line, b[:min(len(b), 256)]...)
			end, err := c.lineEnd(b, err)
			if err == nil {
				err = errTooLong
			}
			return c.line, end, err
		}
		c.line = append(c.line, b...)
		if err == nil {
			return bytes.TrimSuffix(c.line[:len(c.line)-1], []byte{'\r'}), literal{}, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if len(c.line) > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, literal{}, err
		}
	}
}

// lineEnd reads on to the end of a line of which b was the last piece that was read, with
// err, and returns what literal it announces.
func (c *imapConn) lineEnd(b []byte, err error) (literal, error) {
	var tail []byte
	for n := 0; ; n += len(b) {
		tail = append(tail, b...)
		tail = tail[max(0, len(tail)-32):]
		switch {
		case err == nil:
			l, err := endLiteral(bytes.TrimRight(tail, "\r\n"))
			if err != nil {
				err = c.hangUp(err.Error())
			}
			return l, err
		case !errors.Is(err, bufio.ErrBufferFull):
			return literal{}, err
		case n > c.skipBudget():
			return literal{}, c.hangUp("the line is too long")
		}
		b, err = c.in.ReadSlice('\n')
	}
}

func (c *imapConn) skipBudget() int {
	if c.loggedIn {
		return maxSkip
	}
	return maxStrangerSkip
}

// give makes a line ready for Read.
func (c *imapConn) give(line []byte) {
	c.line = append(c.line[:len(line)], '\r', '\n')
	c.pending = c.line
}

// nextLine reads the line that follows a literal.
func (c *imapConn) nextLine() error {
	line, l, err := c.readLine()
	if err == nil {
		l, err = scanLine(line)
	} else if !errors.Is(err, errTooLong) {
		return err
	}
	if err == nil && c.spent > maxLibLine {
		err = errTooLong
	}
	if l.there && l.size > maxLiteral && c.name != "APPEND" {
		err = errLiteral
	}
	if err != nil {
		// In the middle of a command go-imap cannot be told that it ends here.
		return c.hangUp(err.Error())
	}
	c.follow(l)
	c.give(line)
	return nil
}

// rawLine reads what follows a continuation of AUTHENTICATE.
func (c *imapConn) rawLine() error {
	c.spent = 0
	line, _, err := c.readLine()
	switch {
	case errors.Is(err, errTooLong):
		return c.hangUp(err.Error())
	case err != nil:
		return err
	}
	c.give(line)
	return nil
}

// nextCommand reads the first line of a command, and does those that go-imap does not.
func (c *imapConn) nextCommand() error {
	c.spent, c.open = 0, false
	trim(&c.line)
	if c.loggedIn {
		c.SetReadDeadline(time.Now().Add(idleTimeout)) // go-imap's began when it last got a command
	}
	line, l, err := c.readLine()
	if err != nil && !errors.Is(err, errTooLong) {
		return err
	}
	tag, name, rest, ok := splitCommand(line)
	if errors.Is(err, errTooLong) {
		if !c.loggedIn {
			return c.hangUp(err.Error())
		}
		c.begin(tag, name)
		c.follow(l)
		return c.refuse(fmt.Sprintf("BAD [LIMIT] a command has at most %d bytes", maxLine))
	}
	if !ok {
		if c.bad++; !c.loggedIn && c.bad > maxBad {
			return c.hangUp("this is IMAP")
		}
		c.begin(tag, "")
		l, _ = endLiteral(line)
		c.follow(l)
		return c.refuse("BAD this is not a command: a tag and its name come first")
	}
	c.begin(tag, name)
	if l, err = scanLine(line); err != nil {
		if l, err := endLiteral(line); err == nil {
			c.follow(l)
		}
		return c.refuse("BAD " + err.Error())
	}
	c.follow(l)
	if c.spent > maxLibLine && !ownArgs(name) {
		return c.refuse(fmt.Sprintf("BAD [LIMIT] this command has at most %d bytes", maxLibLine))
	}
	if l.there && l.size > maxLiteral && !ownArgs(name) && (name != "APPEND" || bytes.IndexByte(rest, ' ') < 0) {
		return c.refuse(fmt.Sprintf("NO [TOOBIG] a literal has at most %d bytes here", maxLiteral))
	}
	return c.dispatch(line, rest)
}

// ownArgs reports whether the bridge itself reads the arguments of a command.
func ownArgs(name string) bool {
	switch name {
	case "SEARCH", "UID SEARCH", "FETCH", "UID FETCH":
		return true
	}
	return false
}

// trim lets go of the buffer of a very long line.
func trim(b *[]byte) {
	if cap(*b) > 8<<10 {
		*b = nil
	}
}

// begin takes note of a new command.
func (c *imapConn) begin(tag, name string) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.tag, c.name = tag, name
	c.answered, c.asked = false, false
	c.caps = name == "CAPABILITY" || name == "LOGIN" || name == "AUTHENTICATE"
}

// dispatch does a command itself, or gives its line to go-imap.
func (c *imapConn) dispatch(line, rest []byte) error {
	switch c.name {
	case "STARTTLS":
		return c.startTLS(rest)
	case "ID":
		return c.id(rest)
	case "LOGIN", "AUTHENTICATE":
		if !c.mayLogIn() {
			return c.refuse("NO [PRIVACYREQUIRED] first STARTTLS: passwords do not travel in clear beyond this machine")
		}
	case "IDLE":
		if c.loggedIn {
			return c.idle(rest)
		}
	}
	if c.session.isSelected() {
		switch c.name {
		case "SEARCH", "UID SEARCH":
			return c.search(rest, c.name != "SEARCH")
		case "FETCH", "UID FETCH":
			return c.fetch(rest, c.name != "FETCH")
		}
	}
	c.give(line)
	return nil
}

// reply writes a response of our own.
func (c *imapConn) reply(format string, args ...any) error {
	_, err := c.Write(fmt.Appendf(nil, format, args...))
	return err
}

// refuse writes the tagged response of a command that ends here. Read skips the rest.
func (c *imapConn) refuse(text string) error {
	tag := c.tag
	if tag == "" {
		tag = "*"
	}
	err := c.reply("%s %s\r\n", tag, text)
	c.wmu.Lock()
	c.answered = true
	c.wmu.Unlock()
	return err
}

// hangUp says why and ends the connection.
func (c *imapConn) hangUp(why string) error {
	c.reply("* BYE %s\r\n", why)
	c.flush()
	c.ended = true
	return io.EOF
}

// mayLogIn reports whether a password may be sent now: under TLS, or within this machine.
func (c *imapConn) mayLogIn() bool {
	if c.secure {
		return true
	}
	addr, ok := c.Conn.RemoteAddr().(*net.TCPAddr)
	return !ok || addr.IP.IsLoopback()
}

// startTLS begins TLS (RFC 9051, 6.2.1). What was sent together with the command was
// sent in clear, by anybody: it ends the connection.
func (c *imapConn) startTLS(rest []byte) error {
	switch {
	case len(rest) > 0:
		return c.refuse("BAD STARTTLS has no arguments")
	case c.srv.o.TLS == nil:
		return c.refuse("NO there is no TLS here")
	case c.secure || c.loggedIn:
		return c.refuse("BAD STARTTLS is for the beginning of a connection")
	case c.in.Buffered() > 0:
		return c.hangUp("nothing may follow STARTTLS before the answer")
	}
	if err := c.refuse("OK begin TLS now"); err != nil {
		return err
	}
	c.flush()
	t := tls.Server(c.Conn, c.srv.o.TLS)
	ctx, cancel := context.WithTimeout(c.ctx, handshakeTimeout)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("starttls: %w", err)
	}
	c.wmu.Lock()
	c.wire, c.secure = t, true
	c.wmu.Unlock()
	c.in.Reset(t)
	return nil
}

// idle does IDLE. go-imap's goes on after a wrong line, or when the connection breaks,
// without waiting for the end of what writes the news.
func (c *imapConn) idle(rest []byte) error {
	if len(rest) > 0 {
		return c.refuse("BAD IDLE has no arguments")
	}
	if err := c.reply("+ idling\r\n"); err != nil {
		return err
	}
	c.flush()
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				done <- fmt.Errorf("idle: panic: %v", v)
			}
		}()
		done <- c.session.watch(stop)
	}()
	c.spent = 0
	line, _, err := c.readLine()
	asked := bytes.EqualFold(line, []byte("DONE"))
	close(stop)
	if werr := <-done; err == nil {
		err = werr
	}
	switch {
	case err != nil:
		return err
	case !asked:
		return c.refuse("BAD only DONE ends IDLE")
	}
	return c.refuse("OK IDLE completed")
}

// id answers ID (RFC 2971). What the program says of itself is of no use here.
func (c *imapConn) id(rest []byte) error {
	if c.open || !(strings.EqualFold(string(rest), "NIL") || len(rest) > 1 && rest[0] == '(' && rest[len(rest)-1] == ')') {
		return c.refuse("BAD ID wants a list or NIL")
	}
	if err := c.reply("* ID (\"name\" \"asmtp-cli bridge\" \"vendor\" \"ASMTP\")\r\n"); err != nil {
		return err
	}
	return c.refuse("OK ID completed")
}
