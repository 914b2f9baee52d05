package port

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// pending holds the connections that are not authenticated. Above a limit a random one
// of those that share it is reset, so that a flood cannot keep others out for sure.
type pending struct {
	max, maxPerSource int

	mu       sync.Mutex
	closed   bool
	conns    map[*held]struct{}
	bySource map[netip.Prefix]int
}

// held is one connection. done is closed when it was thrown out.
type held struct {
	conn   net.Conn
	source netip.Prefix
	done   chan struct{}
	once   sync.Once
}

func (h *held) throwOut() {
	h.once.Do(func() {
		close(h.done)
		reset(h.conn)
	})
}

func newPending(most, mostPerSource int) *pending {
	return &pending{max: most, maxPerSource: mostPerSource, conns: map[*held]struct{}{}, bySource: map[netip.Prefix]int{}}
}

// add takes c in and throws out another, or c itself, if that is one too many.
func (p *pending) add(c net.Conn) *held {
	h := &held{conn: c, source: source(c.RemoteAddr()), done: make(chan struct{})}
	p.mu.Lock()
	p.conns[h] = struct{}{}
	p.bySource[h.source]++
	var victim *held
	switch {
	case p.closed:
		victim = h
	case p.bySource[h.source] > p.maxPerSource:
		victim = p.pickLocked(func(x *held) bool { return x.source == h.source })
	case len(p.conns) > p.max:
		victim = p.pickLocked(func(*held) bool { return true })
	}
	if victim != nil {
		p.removeLocked(victim)
	}
	p.mu.Unlock()
	if victim != nil {
		victim.throwOut()
	}
	return h
}

// remove takes out what add took in.
func (p *pending) remove(h *held) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removeLocked(h)
}

// pickLocked returns a random connection of those that fit.
func (p *pending) pickLocked(fits func(*held) bool) (pick *held) {
	n := 0
	for h := range p.conns {
		if fits(h) {
			if n++; rand.N(n) == 0 {
				pick = h
			}
		}
	}
	return pick
}

func (p *pending) removeLocked(h *held) {
	if _, ok := p.conns[h]; !ok {
		return
	}
	delete(p.conns, h)
	if p.bySource[h.source]--; p.bySource[h.source] == 0 {
		delete(p.bySource, h.source)
	}
}

// closeAll throws out all connections, also those that come later.
func (p *pending) closeAll() {
	p.mu.Lock()
	p.closed = true
	var all []*held
	for h := range p.conns {
		all = append(all, h)
	}
	p.mu.Unlock()
	for _, h := range all {
		h.throwOut()
	}
}

// source is what counts as one source of connections: an IPv4 address, an IPv6 /56 as
// providers give it to one customer.
func source(a net.Addr) netip.Prefix {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{}
	}
	addr := ap.Addr().Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 56
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// onceAMinute says whether something happens for the first time in a minute.
type onceAMinute struct {
	now func() time.Time
	mu  sync.Mutex
	at  map[netip.Prefix]time.Time
}

// maxSources bounds what onceAMinute remembers; when it is full it begins anew.
const maxSources = 1024

func newOnceAMinute(now func() time.Time) *onceAMinute {
	return &onceAMinute{now: now, at: map[netip.Prefix]time.Time{}}
}

func (o *onceAMinute) first(s netip.Prefix) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	if last, ok := o.at[s]; ok && now.Sub(last) < time.Minute {
		return false
	}
	if len(o.at) >= maxSources {
		clear(o.at)
	}
	o.at[s] = now
	return true
}

// listener is the net.Listener of one version.
type listener struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) put(ctx context.Context, c net.Conn) error {
	select {
	case l.conns <- c:
		return nil
	case <-l.closed:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Accept returns the next authenticated connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	}
}

// Close makes Accept fail. The port goes on.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is the address of the port.
func (l *listener) Addr() net.Addr { return l.addr }

// drain closes what was never accepted.
func (l *listener) drain() {
	for {
		select {
		case c := <-l.conns:
			c.Close()
		default:
			return
		}
	}
}
