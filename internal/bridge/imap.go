package bridge

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/asmtp/asmtp/internal/account"
)

// Limits of the IMAP side. What a mail program needs is far below each of them.
const (
	maxAccountConns = 64  // connections that are logged in to one account
	maxConns        = 512 // all connections, those included that have not logged in
)

// imapOptions are what the IMAP side needs of the bridge.
type imapOptions struct {
	// Login checks a password; it may wait, and must return when ctx ends. It calls end if the
	// password is revoked later, before ctx ends.
	Login func(ctx context.Context, remote net.Addr, user, password string, end func()) (*account.Account, error)
	// TLS is for STARTTLS and for listeners that begin with TLS. Without it there is
	// neither.
	TLS *tls.Config
	// Limit is the largest mail that may be appended.
	Limit int64
	Log   *slog.Logger
}

// imapServer serves IMAP to mail programs. The parser and most of the answers are
// go-imap's; imapConn stands between it and the network and corrects what its beta
// does wrong, and each connection has an imapSession.
type imapServer struct {
	o   imapOptions
	lib *imapserver.Server

	mu       sync.Mutex
	closed   bool
	conns    map[*imapConn]struct{}
	accounts map[*account.Account]*imapAccount

	running sync.WaitGroup // one for each connection, until its session is closed
}

// newIMAP returns a server; Serve makes it listen, Close ends it.
func newIMAP(o imapOptions) *imapServer {
	s := &imapServer{o: o, conns: make(map[*imapConn]struct{}), accounts: make(map[*account.Account]*imapAccount)}
	s.lib = imapserver.New(&imapserver.Options{
		NewSession: s.newSession,
		Caps: imap.CapSet{
			imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}, imap.CapNamespace: {}, imap.CapUIDPlus: {},
			imap.CapESearch: {}, imap.CapSearchRes: {}, imap.CapListExtended: {}, imap.CapListStatus: {},
			imap.CapMove: {}, imap.CapStatusSize: {}, imap.CapBinary: {}, imap.CapChildren: {},
			imap.CapSpecialUse: {}, imap.CapLiteralPlus: {},
		},
		Logger:       libLog{o.Log},
		InsecureAuth: true, // imapConn does TLS and refuses passwords in clear where it has to
	})
	return s
}

// libLog takes what go-imap has to say. It speaks of broken connections and of its own
// bugs only, never of what a command holds.
type libLog struct{ log *slog.Logger }

func (l libLog) Printf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if strings.HasPrefix(text, "panic") {
		l.log.Error("imap: a connection was closed", "err", text)
		return
	}
	l.log.Debug("imap: " + text)
}

// Serve accepts connections of ln until Close, or until ln fails. If implicit is set a
// connection begins with TLS.
func (s *imapServer) Serve(ln net.Listener, implicit bool) error {
	if err := s.lib.Serve(&imapListener{Listener: ln, s: s, implicit: implicit}); err != nil {
		return fmt.Errorf("imap: %w", err)
	}
	return nil
}

// Close closes the listeners, says goodbye on every connection, closes it, and returns
// when nothing of the server runs any more.
func (s *imapServer) Close() error {
	s.mu.Lock()
	s.closed = true
	conns := make([]*imapConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	var bye sync.WaitGroup
	for _, c := range conns {
		bye.Go(func() { c.bye("the bridge is closing") })
	}
	bye.Wait()
	err := s.lib.Close()
	s.running.Wait()
	return err
}

// imapListener makes an imapConn of every connection.
type imapListener struct {
	net.Listener
	s        *imapServer
	implicit bool
}

// Accept returns the next connection. Beyond the limit a connection is closed with a
// word at once.
func (l *imapListener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := newIMAPConn(l.s, raw, l.implicit)
		if l.s.add(c) {
			return c, nil
		}
		if !l.implicit {
			raw.SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(raw, "* BYE too many connections\r\n")
		}
		c.cancel()
		raw.Close()
	}
}

func (s *imapServer) add(c *imapConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= maxConns {
		return false
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	return true
}

// remove is called once for every connection that was added, when its session ends.
func (s *imapServer) remove(c *imapConn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.running.Done()
}

func (s *imapServer) newSession(lib *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
	c := lib.NetConn().(*imapConn) // our listener makes no others
	c.session = &imapSession{server: s, conn: c, lib: lib}
	return c.session, nil, nil
}

// enter counts a connection of an account and returns what its connections share; nil if
// it has too many.
func (s *imapServer) enter(a *account.Account) *imapAccount {
	s.mu.Lock()
	defer s.mu.Unlock()
	acc := s.accounts[a]
	if acc == nil {
		acc = newIMAPAccount(a)
		s.accounts[a] = acc
	}
	if acc.conns >= maxAccountConns {
		return nil
	}
	acc.conns++
	return acc
}

// leave takes back what enter counted.
func (s *imapServer) leave(acc *imapAccount) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if acc.conns--; acc.conns == 0 {
		delete(s.accounts, acc.Account)
	}
}
