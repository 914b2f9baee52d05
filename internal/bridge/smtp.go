package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

const (
	maxSMTPConns  = 64
	maxRecipients = 1000 // of one mail
)

// smtpServer takes mail from mail programs (RFC 6409). go-smtp does the protocol; smtpConn
// stands between it and the network, and each connection has a smtpSession.
type smtpServer struct {
	b      *Bridge
	lib    *smtp.Server
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex // guards what follows
	closed bool
	ln     net.Listener
	conns  map[*smtpConn]time.Time // since when

	running sync.WaitGroup // connections
}

// The reasons to end a connection from this side.
var (
	errClosing = errors.New("the bridge is closing")
	errBusy    = errors.New("there are too many connections")
)

func newSMTP(b *Bridge) *smtpServer {
	s := &smtpServer{b: b, conns: make(map[*smtpConn]time.Time)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.lib = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		conn := c.Conn().(*smtpConn) // our listener makes no others
		conn.session = &smtpSession{srv: s, conn: conn}
		return conn.session, nil
	}))
	s.lib.Domain = "asmtp"
	s.lib.MaxLineLength = 0 // smtpConn has limits
	s.lib.MaxRecipients = maxRecipients
	s.lib.AllowInsecureAuth = true // smtpSession decides
	s.lib.EnableSMTPUTF8 = true
	s.lib.EnableDSN = true
	s.lib.ReadTimeout = smtpTimeout // smtpConn has timeouts; go-smtp sees by this that a connection is closed
	s.lib.ErrorLog = smtpLog{b}
	return s
}

// smtpLog takes what go-smtp has to say: broken connections, and panics of its own.
type smtpLog struct{ b *Bridge }

func (l smtpLog) Printf(format string, args ...any) {
	l.b.log.Debug("smtp: " + fmt.Sprintf(format, args...))
}

func (l smtpLog) Println(args ...any) { l.b.log.Debug("smtp: " + fmt.Sprint(args...)) }

// serve accepts connections of ln until close, or until ln fails.
func (s *smtpServer) serve(ln net.Listener) error {
	s.mu.Lock()
	s.ln = ln
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ln.Close()
	}
	err := s.lib.Serve(&smtpListener{Listener: ln, s: s})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	return fmt.Errorf("smtp: %w", err)
}

// close ends the listener and every connection, and returns when nothing runs any more. A
// mail that is being stored is stored first.
func (s *smtpServer) close() {
	s.mu.Lock()
	s.closed = true
	if s.ln != nil {
		s.ln.Close()
	}
	s.mu.Unlock()
	s.cancel()
	s.running.Wait()
}

// smtpListener makes a smtpConn of every connection.
type smtpListener struct {
	net.Listener
	s *smtpServer
}

// Accept returns the next connection.
func (l *smtpListener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := newSMTPConn(l.s, raw, l.s.b.o.Implicit)
		if l.s.add(c) {
			return c, nil
		}
		if !l.s.b.o.Implicit {
			raw.SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(raw, "421 4.3.2 "+errBusy.Error()+", try again later\r\n")
		}
		c.cancel(errBusy)
		raw.Close()
	}
}

// add counts a connection. If there are too many, the oldest that has not logged in goes:
// those that say nothing must not keep out those that have a password.
func (s *smtpServer) add(c *smtpConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if len(s.conns) >= maxSMTPConns {
		var oldest *smtpConn
		for other, since := range s.conns {
			if !other.isAuthed() && other.ctx.Err() == nil && (oldest == nil || since.Before(s.conns[oldest])) {
				oldest = other
			}
		}
		if oldest == nil {
			return false
		}
		oldest.cancel(errBusy)
	}
	s.conns[c] = time.Now()
	s.running.Add(1)
	return true
}

func (s *smtpServer) remove(c *smtpConn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.running.Done()
}

// limitOf is the largest mail of a session; before the login, of the account that takes
// the largest.
func (s *smtpServer) limitOf(session *smtpSession) int64 {
	if session != nil && session.served != nil {
		return session.limit
	}
	limit := int64(0)
	for _, a := range s.b.accounts {
		limit = max(limit, a.limit(s.ctx))
	}
	return limit
}
