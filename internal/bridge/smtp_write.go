package bridge

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"time"

	"github.com/emersion/go-smtp"
)

// smtpFlush is how much of answers is gathered.
const smtpFlush = 8 << 10

// Write implements net.Conn for go-smtp, which writes line by line. What is written goes
// out when the next command is waited for.
func (c *smtpConn) Write(p []byte) (int, error) {
	switch {
	case bytes.HasPrefix(p, []byte("354 ")):
		c.data = true
		if c.chunks != nil {
			return len(p), nil
		}
	case bytes.HasPrefix(p, []byte("334 ")):
		c.response = true
	case bytes.Equal(p, []byte("250-PIPELINING\r\n")) && c.srv.b.o.TLS != nil && !c.secure:
		c.out = append(c.out, "250-STARTTLS\r\n"...)
	case bytes.HasPrefix(p, []byte("250-SIZE")):
		c.out = fmt.Appendf(c.out, "250-SIZE %d\r\n", c.srv.limitOf(c.session))
		return len(p), nil
	}
	c.out = append(c.out, p...)
	if len(c.out) >= smtpFlush {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (c *smtpConn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	wait := smtpWriteTimeout
	if c.ctx.Err() != nil {
		wait = smtpLinger
	}
	c.Conn.SetWriteDeadline(time.Now().Add(wait))
	_, err := c.wire.Write(c.out)
	c.out = c.out[:0]
	return err
}

// answer answers a command that go-smtp does not see.
func (c *smtpConn) answer(line string) error {
	c.out = append(append(c.out, line...), "\r\n"...)
	return nil
}

// hangUp answers and ends the connection.
func (c *smtpConn) hangUp(line string) error {
	c.answer(line)
	c.ended = true
	return errSMTPEnd
}

// startTLS begins TLS (RFC 3207). What was sent together with the command was sent in
// clear, by anybody: it ends the connection. There is nothing to be forgotten: nothing but
// the name in EHLO was said before, since mail needs a login.
func (c *smtpConn) startTLS(rest string) {
	switch {
	case rest != "":
		c.answer("501 5.5.4 STARTTLS has no arguments")
		return
	case c.srv.b.o.TLS == nil:
		c.answer("502 5.5.1 there is no TLS here")
		return
	case c.secure || c.isAuthed():
		c.answer("503 5.5.1 STARTTLS is for the beginning of a connection")
		return
	case c.in.Buffered() > 0:
		c.hangUp("501 5.5.1 nothing may follow STARTTLS before the answer")
		return
	}
	c.answer("220 2.0.0 begin TLS now")
	t := tls.Server(c.Conn, c.srv.b.o.TLS)
	err := c.flush()
	if err == nil {
		ctx, cancel := context.WithTimeout(c.ctx, handshakeTimeout)
		defer cancel()
		err = t.HandshakeContext(ctx)
	}
	if err != nil {
		c.srv.b.log.Debug("smtp: starttls failed", "error", err)
		c.ended = true
		return
	}
	c.wire, c.secure = t, true
}

// Close implements net.Conn. What was answered is sent; a program that is still writing
// is given a moment to read it, since closing with unread bytes would take it back.
func (c *smtpConn) Close() error {
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	if closed {
		return nil
	}
	defer c.srv.remove(c)
	defer c.cancel(nil)
	if c.ctx.Err() != nil && !c.ended {
		c.hangUp(c.farewell().line())
	}
	if c.flush() == nil && c.ended {
		c.linger()
	}
	return c.Conn.Close()
}

// farewell says why the connection ends from this side.
func (c *smtpConn) farewell() *smtpReply {
	switch why := context.Cause(c.ctx); why {
	case errRevoked:
		return reply(421, smtp.EnhancedCode{4, 7, 0}, "%v", why)
	case errBusy:
		return reply(421, smtp.EnhancedCode{4, 3, 2}, "%v", why)
	}
	return reply(421, smtp.EnhancedCode{4, 3, 2}, "%v", errClosing)
}

func (c *smtpConn) linger() {
	if w, ok := c.wire.(interface{ CloseWrite() error }); !ok || w.CloseWrite() != nil {
		return
	}
	c.Conn.SetReadDeadline(time.Now().Add(smtpLinger))
	io.CopyN(io.Discard, c.Conn, maxSMTPSkip)
}
