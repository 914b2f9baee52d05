package bridge

import (
	"bytes"
	"net"
	"strings"
	"time"
)

// Write implements net.Conn for go-imap and for the session. It is never called while
// another Write runs: go-imap answers one command at a time, and an IDLE ends before the
// next command is answered.
func (c *imapConn) Write(p []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	n := len(p)
	if !c.verbatim {
		p = c.look(p)
	}
	if c.werr != nil {
		return 0, c.werr
	}
	if len(p) >= flushSize/2 { // not worth a copy
		c.flushLocked()
		return n, c.sendLocked(p)
	}
	if c.out == nil {
		c.out = outPool.Get().(*[]byte)
	}
	*c.out = append(*c.out, p...)
	if c.waiting || len(*c.out) >= flushSize {
		c.flushLocked()
	}
	return n, c.werr
}

// look sees what go-imap says of the command: it writes a response in one piece. It puts
// right what it says of errors and of capabilities.
func (c *imapConn) look(p []byte) []byte {
	if bytes.HasPrefix(p, []byte("+ ")) {
		c.asked = true
		if string(p) == "+ =\r\n" {
			return []byte("+ \r\n") // go-imap's empty challenge; "=" is that only for an initial response (RFC 4959)
		}
		return p
	}
	if c.caps && (bytes.HasPrefix(p, []byte("* CAPABILITY ")) || bytes.Contains(p, []byte(" OK [CAPABILITY "))) {
		p = c.fixCapabilities(p)
	}
	rest, ok := bytes.CutPrefix(p, []byte(c.tag+" "))
	if !ok || c.answered || !isFinal(rest) {
		return p
	}
	c.answered = true
	// The session's own errors have other texts: this is go-imap's for what it could not
	// parse and does not call a syntax error (sets, dates, names, base64).
	if string(rest) == "NO [SERVERBUG] Internal server error\r\n" {
		return []byte(c.tag + " BAD Syntax error\r\n")
	}
	return p
}

func isFinal(b []byte) bool {
	return bytes.HasPrefix(b, []byte("OK ")) || bytes.HasPrefix(b, []byte("NO ")) || bytes.HasPrefix(b, []byte("BAD "))
}

// laterCapabilities are what go-imap tells only after the login. Python's imaplib, and what
// is made with it, asks before the login and never again.
const laterCapabilities = "LITERAL+ UNSELECT ENABLE IDLE UTF8=ACCEPT NAMESPACE UIDPLUS ESEARCH SEARCHRES LIST-EXTENDED LIST-STATUS MOVE STATUS=SIZE BINARY CHILDREN SPECIAL-USE"

// fixCapabilities adds what this connection does itself, and STARTTLS or LOGINDISABLED
// where they belong. LITERAL+ stands in the place of LITERAL-, which it includes
// (RFC 7888, section 5, wants one of them).
func (c *imapConn) fixCapabilities(p []byte) []byte {
	s := strings.Replace(string(p), " LITERAL-", "", 1)
	if !c.loggedIn {
		s = strings.Replace(s, " SASL-IR", " SASL-IR "+laterCapabilities, 1)
	}
	auth := " AUTH=PLAIN"
	if !c.mayLogIn() {
		auth = " LOGINDISABLED"
	}
	if c.srv.o.TLS != nil && !c.secure {
		auth += " STARTTLS"
	}
	s = strings.Replace(s, " AUTH=PLAIN", auth, 1)
	return []byte(strings.Replace(s, " SASL-IR", " ID SASL-IR", 1))
}

// flush sends what was written.
func (c *imapConn) flush() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.flushLocked()
	return c.werr
}

func (c *imapConn) flushLocked() {
	if c.out == nil {
		return
	}
	if c.werr == nil {
		c.sendLocked(*c.out)
	}
	*c.out = (*c.out)[:0]
	outPool.Put(c.out)
	c.out = nil
}

// sendLocked writes to the network. A program that does not read holds up nobody but
// its own session: nothing that others need is locked or open meanwhile.
func (c *imapConn) sendLocked(p []byte) error {
	c.wire.SetWriteDeadline(time.Now().Add(flushTimeout))
	if _, err := c.wire.Write(p); err != nil && c.werr == nil {
		c.werr = err
	}
	return c.werr
}

// setVerbatim says that what is written now is not to be looked at, or ends that.
func (c *imapConn) setVerbatim(on bool) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.verbatim = on
}

// SetWriteDeadline does nothing: every flush has its deadline.
func (c *imapConn) SetWriteDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (c *imapConn) SetReadDeadline(t time.Time) error { return c.Conn.SetReadDeadline(t) }

// Close implements net.Conn. What was written is sent if nobody is just sending.
func (c *imapConn) Close() error {
	wire := c.Conn
	if c.wmu.TryLock() { // otherwise a program does not read
		c.endLocked("")
		wire = c.wire
		c.wmu.Unlock()
	}
	c.cancel()
	return wire.Close()
}

// bye says goodbye and closes: at once if the connection waits for a command, otherwise
// when the command that runs is done, or after a second.
func (c *imapConn) bye(why string) {
	defer c.Conn.Close()
	defer c.cancel()
	again := time.NewTicker(10 * time.Millisecond) // somebody may hold the lock just now
	defer again.Stop()
	limit := time.After(time.Second)
	for !c.trySend("* BYE " + why + "\r\n") {
		select {
		case <-c.ctx.Done(): // wait has said it
			return
		case <-limit:
			return
		case <-again.C:
		}
	}
}

// wait says that Read waits for the network, or that it does not any more.
func (c *imapConn) wait(on bool) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.waiting = on; on && c.farewell != "" && c.werr == nil {
		c.endLocked(c.farewell)
		c.Conn.Close()
	}
}

// trySend ends the writing with what was written and text, if the connection waits for a
// command; otherwise wait will do it.
func (c *imapConn) trySend(text string) bool {
	if !c.wmu.TryLock() { // something is being sent, maybe to a program that does not read
		return false
	}
	defer c.wmu.Unlock()
	if !c.waiting {
		c.farewell = text
		return false
	}
	c.endLocked(text)
	return true
}

// endLocked sends what was written, and text, within a second. Nothing is written after it.
func (c *imapConn) endLocked(text string) {
	var b []byte
	if c.out != nil {
		b = *c.out
		c.out = nil
	}
	if b = append(b, text...); len(b) > 0 && c.werr == nil {
		c.wire.SetDeadline(time.Now().Add(time.Second))
		c.wire.Write(b)
	}
	c.werr = net.ErrClosed
	c.cancel()
}
