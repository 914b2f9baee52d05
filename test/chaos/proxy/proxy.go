// Package proxy stands between processes on loopback that talk TCP, knows which of them
// dials whom, and breaks what is between them: links can be cut in one direction or
// both, delayed, slowed, and connections reset, each for an ordered pair of parties and
// also for connections that are open already. Start with [New] and [Net.Listen].
//
// TCP loses and reorders nothing, so neither does a proxy: a cut holds bytes back until it
// is healed or the connection ends. What is on the way when a connection is reset is lost.
package proxy

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// Link says what happens to bytes from one party to another; the zero value lets them through.
type Link struct {
	Cut   bool          // held back
	Delay time.Duration // each piece comes this much later
	Rate  int           // bytes per second; 0: as fast as they come
}

// Flight is the first bytes of a connection that its listener answered.
type Flight struct {
	From, To string
	Bytes    []byte
}

const (
	pieceSize    = 16 << 10
	maxFlight    = 2 << 10
	keepFlights  = 256
	dialPatience = 5 * time.Second
)

type pair struct{ from, to string }

// Net is a set of proxies. It is safe for concurrent use.
type Net struct {
	owner func(*net.TCPAddr, *net.TCPAddr) string

	mu        sync.Mutex
	links     map[pair]Link
	changed   chan struct{} // closed when links change
	conns     map[*conn]struct{}
	flights   []Flight
	listeners []net.Listener
	accepted  map[pair]int
	carried   int64 // bytes
	resetAt   int64 // of carried; 0: never
	closed    bool
	done      sync.WaitGroup
}

// New returns a Net. owner names the party that dialled, by both ends of its socket.
func New(owner func(local, remote *net.TCPAddr) string) *Net {
	return &Net{owner: owner, links: map[pair]Link{}, changed: make(chan struct{}), conns: map[*conn]struct{}{}, accepted: map[pair]int{}}
}

// Listen returns the address of a new proxy to the party to, which listens on target.
func (n *Net) Listen(to, target string) (address string, err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return "", errors.Join(net.ErrClosed, l.Close())
	}
	n.listeners = append(n.listeners, l)
	n.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.done.Go(func() { n.serve(c, to, target) })
		}
	})
	return l.Addr().String(), nil
}

// Set changes the link from one party to another.
func (n *Net) Set(from, to string, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l == (Link{}) {
		delete(n.links, pair{from, to})
	} else {
		n.links[pair{from, to}] = l
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

// Heal lets everything through again.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.links)
	close(n.changed)
	n.changed = make(chan struct{})
}

// Reset ends the open connections of which which says so.
func (n *Net) Reset(which func(from, to string) bool) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if which(c.from, c.to) {
			c.reset()
			count++
		}
	}
	return count
}

// Carried returns how many bytes went through, of all connections in both directions.
func (n *Net) Carried() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.carried
}

// ResetAt ends all connections, once, when so many bytes have gone through.
func (n *Net) ResetAt(carried int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.resetAt = carried
}

// carry counts bytes that go through.
func (n *Net) carry(k int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.carried += int64(k)
	if n.resetAt > 0 && n.carried >= n.resetAt {
		n.resetAt = 0
		for c := range n.conns {
			c.reset()
		}
	}
}

// Flight returns a recorded first flight, chosen by r.
func (n *Net) Flight(r *rand.Rand) (f Flight, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.flights) == 0 {
		return f, false
	}
	return n.flights[r.IntN(len(n.flights))], true
}

// ForgetFlights forgets the recorded flights of which which says so.
func (n *Net) ForgetFlights(which func(from, to string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.flights = slices.DeleteFunc(n.flights, func(f Flight) bool { return which(f.From, f.To) })
}

// Accepted returns how many connections there were from one party to another.
func (n *Net) Accepted(from, to string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.accepted[pair{from, to}]
}

// Close ends all connections and waits until nothing of the Net is running.
func (n *Net) Close() {
	n.mu.Lock()
	n.closed = true
	for _, l := range n.listeners {
		l.Close()
	}
	for c := range n.conns {
		c.reset()
	}
	n.mu.Unlock()
	n.done.Wait()
}

// conn is a connection through a proxy: two sockets.
type conn struct {
	from, to string
	in, out  net.Conn
	once     sync.Once
	ended    chan struct{}
}

// reset ends both sockets such that the other ends see a reset.
func (c *conn) reset() {
	c.once.Do(func() {
		close(c.ended)
		for _, s := range []net.Conn{c.in, c.out} {
			if t, ok := s.(*net.TCPConn); ok && t != nil {
				_ = t.SetLinger(0)
				t.Close()
			}
		}
	})
}

func (n *Net) serve(in net.Conn, to, target string) {
	from := n.owner(in.RemoteAddr().(*net.TCPAddr), in.LocalAddr().(*net.TCPAddr))
	c := &conn{from: from, to: to, in: in, ended: make(chan struct{})}
	defer c.reset()
	out, err := net.DialTimeout("tcp4", target, dialPatience)
	if err != nil {
		return // nobody listens: the dialler sees a reset
	}
	c.out = out
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return
	}
	n.conns[c] = struct{}{}
	n.accepted[pair{from, to}]++
	n.mu.Unlock()
	first := &recorder{}
	var pumps sync.WaitGroup
	pumps.Go(func() { n.pump(c, pair{from, to}, in, out, first.request) })
	pumps.Go(func() {
		n.pump(c, pair{to, from}, out, in, func([]byte) {
			if b := first.answered(); b != nil {
				n.keep(Flight{from, to, b})
			}
		})
	})
	pumps.Wait()
	n.mu.Lock()
	delete(n.conns, c)
	n.mu.Unlock()
}

func (n *Net) keep(f Flight) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.flights) >= keepFlights {
		n.flights = n.flights[1:]
	}
	n.flights = append(n.flights, f)
}

// recorder keeps what a dialler says before it is answered.
type recorder struct {
	mu    sync.Mutex
	bytes []byte
	over  bool
}

func (r *recorder) request(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over && len(r.bytes) < maxFlight {
		r.bytes = append(r.bytes, b...)
	}
}

// answered returns the recorded bytes the first time it is called.
func (r *recorder) answered() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil
	}
	r.over = true
	return r.bytes
}

// pump moves bytes one way until that side ends, and then tells the other side.
func (n *Net) pump(c *conn, p pair, src, dst net.Conn, seen func([]byte)) {
	buf := make([]byte, pieceSize)
	for {
		k, err := src.Read(buf)
		if k > 0 {
			seen(buf[:k])
			if !n.pass(c, p, k) {
				return
			}
			if _, err := dst.Write(buf[:k]); err != nil {
				c.reset()
				return
			}
			n.carry(k)
		}
		if errors.Is(err, io.EOF) {
			if !n.pass(c, p, 0) {
				return
			}
			if t, ok := dst.(*net.TCPConn); ok {
				_ = t.CloseWrite()
			}
			return
		}
		if err != nil {
			c.reset()
			return
		}
	}
}

// pass waits until k bytes may go on; false: the connection has ended.
func (n *Net) pass(c *conn, p pair, k int) bool {
	for waited := false; ; {
		n.mu.Lock()
		l, changed := n.links[p], n.changed
		n.mu.Unlock()
		if l.Cut {
			select {
			case <-changed:
				continue
			case <-c.ended:
				return false
			}
		}
		pause := l.Delay
		if l.Rate > 0 {
			pause += time.Duration(k) * time.Second / time.Duration(l.Rate)
		}
		if pause == 0 || waited {
			return true
		}
		waited = true
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-changed:
		case <-c.ended:
			t.Stop()
			return false
		}
		t.Stop()
	}
}
