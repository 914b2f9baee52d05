package port

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/asmtp/asmtp/noise"
)

// Gate decides about the connections of one version.
type Gate struct {
	// Params returns the parameters of a handshake, false if the node serves none such.
	// hint is what follows the version byte: HintSize bytes for Join, else nothing.
	Params func(hint []byte) (noise.Params, bool)
	// Admit decides about the owner of a key before one byte is answered. payload is
	// what followed the stamp. It returns the payload of the answer, Params.PayloadB bytes.
	Admit func(peer noise.PublicKey, payload []byte) (reply []byte, err error)
}

// Refusal tells of a connection that failed.
type Refusal struct {
	Addr    net.Addr
	Version Version          // 0 before the first byte came
	Key     *noise.PublicKey // nil before the peer's key was known
	Err     error
}

// Options of a port. The zero value of each limit means the one of design.md section 5.
type Options struct {
	Key    *noise.PrivateKey
	Gates  map[Version]Gate
	Stamps StampStore
	Now    func() time.Time
	Log    *slog.Logger

	// OnRefuse, if set, is called for every connection that failed, from its goroutine.
	OnRefuse func(Refusal)

	HoldMin, HoldMax time.Duration // when a failed connection is reset, counted from its begin: 5 to 10 s
	MaxPending       int           // connections that are not authenticated: 512
	MaxPerSource     int           // of these from one IPv4 address or IPv6 /56: 16
}

// Limits that need no setting.
const (
	maxDiscard   = 64 << 10 // bytes read of a connection that failed
	acceptQueue  = 64       // authenticated connections that nobody has accepted yet
	confirmLimit = 10 * time.Second
)

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.HoldMin == 0 && o.HoldMax == 0 {
		o.HoldMin, o.HoldMax = 5*time.Second, 10*time.Second
	}
	if o.MaxPending == 0 {
		o.MaxPending = 512
	}
	if o.MaxPerSource == 0 {
		o.MaxPerSource = 16
	}
	return o
}

// Port is one listening TCP port.
type Port struct {
	o         Options
	ln        net.Listener
	pending   *pending
	seen      *onceAMinute
	listeners map[Version]*listener
	wg        sync.WaitGroup
}

// New returns the port of ln. Nothing is accepted before [Port.Run].
func New(ln net.Listener, o Options) *Port {
	o = o.withDefaults()
	p := &Port{
		o: o, ln: ln, pending: newPending(o.MaxPending, o.MaxPerSource),
		seen: newOnceAMinute(o.Now), listeners: map[Version]*listener{},
	}
	for v := range o.Gates {
		p.listeners[v] = &listener{addr: ln.Addr(), conns: make(chan net.Conn, acceptQueue), closed: make(chan struct{})}
	}
	return p
}

// Addr is the address the port listens on.
func (p *Port) Addr() net.Addr { return p.ln.Addr() }

// JoinConn is a connection of version [Join]: its peer has the token of the hint.
type JoinConn struct {
	*noise.Conn
	Hint [HintSize]byte
}

// Listener returns the listener of the authenticated connections of one version, which
// must have a gate. What its Accept returns is a [*noise.Conn], for [Join] a [*JoinConn],
// whose peer is present: its first frame has come.
func (p *Port) Listener(v Version) net.Listener { return p.listeners[v] }

// Run serves the port until ctx is done or listening fails. It owns the listener and
// every connection that no one has accepted: once Run has returned they are closed and
// no goroutine of it is left. A stop through ctx is not an error.
func (p *Port) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() {
		p.ln.Close()
		p.pending.closeAll()
	})
	defer func() {
		cancel()
		stop()
		p.ln.Close()
		p.pending.closeAll()
		p.wg.Wait()
		for _, l := range p.listeners {
			l.Close()
			l.drain()
		}
	}()
	for {
		c, err := p.ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case err != nil && temporary(err):
			p.o.Log.Warn("accept", "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(100 * time.Millisecond): // out of file descriptors: some are being freed
			}
		case err != nil:
			return fmt.Errorf("accept: %w", err)
		default:
			p.wg.Go(func() { p.serve(ctx, c) })
		}
	}
}

// temporary reports whether Accept may work again later.
func temporary(err error) bool {
	return !errors.Is(err, net.ErrClosed)
}

// serve takes one connection through its handshake, or holds it until its deadline.
func (p *Port) serve(ctx context.Context, c net.Conn) {
	hold := p.o.HoldMin
	if d := p.o.HoldMax - p.o.HoldMin; d > 0 {
		hold += rand.N(d)
	}
	deadline := time.Now().Add(hold) // of the connection, so the machine's clock
	h := p.pending.add(c)
	defer p.pending.remove(h)
	if ctx.Err() != nil {
		reset(c)
		return
	}
	// One deadline for all that a stranger can do: when it ends must not tell what was wrong.
	if err := c.SetDeadline(deadline); err != nil {
		c.Close()
		return
	}
	in := &counted{Conn: c}
	r := Refusal{Addr: c.RemoteAddr()}
	conn, hint, err := p.handshake(ctx, in, &r)
	if err != nil {
		if ctx.Err() == nil {
			r.Err = err
			p.refuse(r)
			discard(in, h, deadline)
		}
		reset(c)
		return
	}
	if err := p.confirm(ctx, c, conn, r.Version, hint); err != nil {
		p.o.Log.Debug("connection not confirmed", "addr", r.Addr, "version", r.Version, "key", r.Key.Short(), "err", err)
		conn.Close()
	}
}

// handshake reads the version byte and the first message, and answers if the gate
// admits the peer and the stamp is new. The gate comes first, so that strangers cannot
// fill the store of stamps.
func (p *Port) handshake(ctx context.Context, c net.Conn, r *Refusal) (conn *noise.Conn, hint []byte, err error) {
	var first [1]byte
	if _, err := io.ReadFull(c, first[:]); err != nil {
		return nil, nil, fmt.Errorf("no first byte: %w", err)
	}
	r.Version = Version(first[0])
	gate, ok := p.o.Gates[r.Version]
	if !ok {
		return nil, nil, errors.New("no such version is served")
	}
	if r.Version == Join {
		hint = make([]byte, HintSize)
		if _, err := io.ReadFull(c, hint); err != nil {
			return nil, nil, fmt.Errorf("read the hint: %w", err)
		}
	}
	params, ok := gate.Params(hint)
	if !ok {
		return nil, nil, errors.New("no such invitation, or no mesh")
	}
	conn, err = noise.Server(ctx, c, params, p.o.Key, func(peer noise.PublicKey, payload []byte) ([]byte, error) {
		r.Key = &peer
		stamp, err := unpackStamp(payload)
		if err != nil {
			return nil, err
		}
		reply, err := gate.Admit(peer, payload[StampSize:])
		if err != nil {
			return nil, err
		}
		fresh, err := p.o.Stamps.FreshStamp(ctx, byte(r.Version), peer, stamp)
		if err != nil {
			return nil, fmt.Errorf("remember the stamp: %w", err)
		}
		if !fresh {
			return nil, errStamp
		}
		return reply, nil
	})
	return conn, hint, err
}

// confirm waits for the first frame of conn and hands conn on.
func (p *Port) confirm(ctx context.Context, c net.Conn, conn *noise.Conn, v Version, hint []byte) error {
	if err := c.SetDeadline(time.Now().Add(confirmLimit)); err != nil {
		return err
	}
	if first, err := conn.ReadMessage(); err != nil {
		return fmt.Errorf("read the first frame: %w", err)
	} else if len(first) != 0 {
		return errors.New("the first frame is not empty")
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return err
	}
	if v == Join {
		return p.listeners[v].put(ctx, &JoinConn{conn, [HintSize]byte(hint)})
	}
	return p.listeners[v].put(ctx, conn)
}

func (p *Port) refuse(r Refusal) {
	attrs := []any{"addr", r.Addr, "version", r.Version, "err", r.Err}
	if r.Key != nil {
		attrs = append(attrs, "key", r.Key)
	}
	level := slog.LevelDebug
	if p.seen.first(source(r.Addr)) {
		level = slog.LevelInfo
	}
	p.o.Log.Log(context.Background(), level, "connection refused", attrs...)
	if p.o.OnRefuse != nil {
		p.o.OnRefuse(r)
	}
}

// counted counts what was read of a connection, so that what is discarded later
// counts together with the first message.
type counted struct {
	net.Conn
	n int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n += int64(n)
	return n, err
}

// discard reads c to nowhere, at most maxDiscard bytes, and then waits for the deadline
// or until the connection is thrown out. A peer that has closed its side is waited for
// all the same.
func discard(c *counted, h *held, deadline time.Time) {
	var buf [512]byte
	for c.n < maxDiscard {
		if _, err := c.Read(buf[:]); err != nil {
			break
		}
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-h.done:
	case <-timer.C:
	}
}

// reset ends a connection by RST, the same for all, whatever lies unread.
func reset(c net.Conn) {
	if tc, ok := c.(*net.TCPConn); ok {
		_ = tc.SetLinger(0) // fails only on a connection that has ended
	}
	c.Close()
}
