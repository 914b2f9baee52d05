package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/asmtp/asmtp/internal/account"
)

// Options are what [New] takes. The bridge owns the listeners, and closes them; the
// accounts stay the caller's.
type Options struct {
	// Accounts are those that are served, at least one.
	Accounts []*account.Account
	// Homes are their folders, for texts that name commands; may be empty.
	Homes []string
	// IMAP and SMTP are where mail programs connect. Either may be nil.
	IMAP, SMTP net.Listener
	// TLS is for STARTTLS; nil means that there is none. A connection that does not come
	// from this machine may log in by TLS only.
	TLS *tls.Config
	// Implicit makes every connection begin with TLS.
	Implicit bool
	// OnNode is told when an account's node is reached and when it is not, from any
	// goroutine: with a nil error for the first. Only changes are told.
	OnNode func(*account.Account, error)
	Log    *slog.Logger     // nil: nothing is logged
	Now    func() time.Time // nil: time.Now
}

// Bridge serves accounts to mail programs.
type Bridge struct {
	o        Options
	log      *slog.Logger
	accounts []*served
	throttle *throttle
}

// ErrInsecure is wrapped by the error of New for listening beyond this machine without TLS.
var ErrInsecure = errors.New("beyond this machine mail programs have to use TLS")

// New returns a bridge that [Bridge.Run] starts.
func New(o Options) (*Bridge, error) {
	if len(o.Accounts) == 0 {
		return nil, errors.New("a bridge needs an account")
	}
	if o.Implicit && o.TLS == nil {
		return nil, errors.New("implicit TLS needs a certificate")
	}
	for _, ln := range []net.Listener{o.IMAP, o.SMTP} {
		if ln != nil && o.TLS == nil && !isLoopback(ln.Addr()) {
			return nil, fmt.Errorf("listen on %s: %w", ln.Addr(), ErrInsecure)
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &Bridge{o: o, log: o.Log, throttle: newThrottle(o.Now)}
	for i, a := range o.Accounts {
		s := &served{acc: a}
		if i < len(o.Homes) {
			s.home = o.Homes[i]
		}
		b.accounts = append(b.accounts, s)
	}
	return b, nil
}

// isLoopback reports whether only programs of this machine get to addr.
func isLoopback(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}

// Run serves until ctx ends, which is no error, or until a listener fails. Everything it
// started has ended when it returns. It is called once.
func (b *Bridge) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range b.accounts {
		g.Go(func() error { b.follow(ctx, s); return nil })
		g.Go(func() error { b.watchPasswords(ctx, s); return nil })
	}
	if b.o.SMTP != nil {
		srv := newSMTP(b)
		g.Go(func() error { return srv.serve(b.o.SMTP) })
		g.Go(func() error { <-ctx.Done(); srv.close(); return nil })
	}
	if b.o.IMAP != nil {
		srv := newIMAP(b.imapOptions(ctx))
		g.Go(func() error { return srv.Serve(b.o.IMAP, b.o.Implicit) })
		g.Go(func() error { <-ctx.Done(); return srv.Close() })
	}
	return g.Wait()
}

// imapOptions ties the IMAP side to the bridge.
func (b *Bridge) imapOptions(ctx context.Context) imapOptions {
	limit := int64(0)
	for _, s := range b.accounts {
		limit = max(limit, s.limit(ctx))
	}
	return imapOptions{
		Login: func(ctx context.Context, remote net.Addr, user, password string, end func()) (*account.Account, error) {
			s, err := b.login(ctx, remote, user, password, end)
			if err != nil {
				return nil, err
			}
			return s.acc, nil
		},
		TLS: b.o.TLS, Limit: limit, Log: b.log,
	}
}
