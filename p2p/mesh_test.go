package p2p_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/internal/spool"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/p2p"
	"github.com/asmtp/asmtp/passport"
)

const patience = 20 * time.Second

// bell tells all who wait that something happened.
type bell struct {
	mu sync.Mutex
	c  chan struct{}
}

func newBell() *bell { return &bell{c: make(chan struct{})} }

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.c)
	b.c = make(chan struct{})
}

func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.c
}

// until waits until ok is true, looking after every ring.
func (b *bell) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		rung := b.next()
		if ok() {
			return
		}
		select {
		case <-rung:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// ringing is a slog.Handler: the bell rings at every line of a log, such as "connected".
type ringing struct {
	slog.Handler
	b *bell
}

func (r ringing) Enabled(context.Context, slog.Level) bool { return true }
func (r ringing) Handle(ctx context.Context, rec slog.Record) error {
	defer r.b.ring()
	if r.Handler.Enabled(ctx, rec.Level) {
		return r.Handler.Handle(ctx, rec)
	}
	return nil
}
func (r ringing) WithAttrs(as []slog.Attr) slog.Handler {
	return ringing{r.Handler.WithAttrs(as), r.b}
}

// testMesh founds a mesh and makes nodes of it.
type testMesh struct {
	t       *testing.T
	founder *noise.PrivateKey
	start   *mesh.Statement
	secret  mesh.Secret
	bell    *bell
}

func newMesh(t *testing.T) *testMesh {
	t.Helper()
	founder, start, secret, err := mesh.Found(nil, passport.TimeOf(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	return &testMesh{t: t, founder: founder, start: start, secret: secret, bell: newBell()}
}

func (m *testMesh) certify(key noise.PublicKey) *mesh.Statement {
	return mesh.Certify(m.founder, m.start.Mesh(), key, passport.TimeOf(time.Now()), 90)
}

// node is one node: the real store, spool and port, and a host.
type node struct {
	*p2p.Host
	m     *testMesh
	name  string
	key   *noise.PrivateKey
	set   *mesh.Set
	store *store.Store
	spool *spool.Spool
	addr  string
	told  []string
	limit time.Duration // for one message; 0: as it comes
	stop  func()

	quotas           store.Quotas
	every, challenge time.Duration    // pauses; 0: as they come
	now              func() time.Time // nil: time.Now
	forgets          atomic.Bool      // says that it stores whatever it is asked for
	puts             atomic.Int64     // envelopes that neighbours brought
	chains           atomic.Int64     // passports that neighbours brought
	noPassports      atomic.Bool      // keeps none
	looks            atomic.Int64     // ids that were looked for, since they were offered or missing
}

// glue joins a host with store and spool, as internal/node does, and rings.
type glue struct {
	*store.Store
	spool *spool.Spool
	bell  *bell
	n     *node
}

func (g glue) Missing(ids []envelope.ID) []envelope.ID {
	g.n.looks.Add(int64(len(ids)))
	if g.n.forgets.Load() {
		return nil
	}
	return g.Store.Missing(ids)
}

func (g glue) DropCustody(ctx context.Context, member noise.PublicKey, ids []envelope.ID) error {
	defer g.bell.ring()
	return g.Store.DropCustody(ctx, member, ids)
}

func (g glue) Put(ctx context.Context, from noise.PublicKey, envs []*envelope.Envelope) ([]p2p.Stored, error) {
	g.n.puts.Add(int64(len(envs)))
	results, err := g.spool.Put(ctx, from, envs)
	stored := make([]p2p.Stored, len(results))
	for i, r := range results {
		stored[i] = p2p.Stored{Fresh: r.Fresh, Err: r.Err}
	}
	return stored, err
}

func (g glue) PutCustody(ctx context.Context, member noise.PublicKey, ids []envelope.ID) error {
	defer g.bell.ring()
	return g.Store.PutCustody(ctx, member, ids)
}

func (g glue) PutPassport(ctx context.Context, p *passport.Passport) (bool, error) {
	defer g.bell.ring()
	g.n.chains.Add(1)
	if g.n.noPassports.Load() {
		return false, errors.New("no room")
	}
	return g.Store.PutPassport(ctx, p)
}

// node starts a certified node that tells its address if open.
func (m *testMesh) node(name string, open bool, set ...func(*node)) *node {
	m.t.Helper()
	key, err := noise.GenerateKey(nil)
	if err != nil {
		m.t.Fatal(err)
	}
	n := &node{m: m, name: name, key: key, addr: "127.0.0.1:0"}
	for _, f := range set {
		f(n)
	}
	if n.store, err = store.Open(m.t.TempDir(), store.Options{Quotas: n.quotas, Now: n.now}); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { n.store.Close() })
	if n.set, err = mesh.NewSet(m.start); err != nil {
		m.t.Fatal(err)
	}
	if _, err := n.set.Add(m.certify(key.Public())); err != nil {
		m.t.Fatal(err)
	}
	n.start(open)
	m.t.Cleanup(func() { n.stop() })
	return n
}

func (n *node) start(open bool) {
	t := n.m.t
	t.Helper()
	ln, err := net.Listen("tcp", n.addr)
	// A connection of another test may have been given the port of a node that is started again.
	for end := time.Now().Add(patience); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
		ln, err = net.Listen("tcp", n.addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	n.addr = ln.Addr().String()
	if open {
		n.told = []string{n.addr}
	}
	if n.spool, err = spool.New(n.store, spool.Options{Now: n.now}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(ringing{slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}), n.m.bell}).With("node", n.name)
	var host *p2p.Host
	gates := map[port.Version]port.Gate{port.Mesh: {
		Params: func(h []byte) (noise.Params, bool) { return host.MeshGate().Params(h) },
		Admit:  func(k noise.PublicKey, p []byte) ([]byte, error) { return host.MeshGate().Admit(k, p) },
	}}
	po := port.New(ln, port.Options{Key: n.key, Gates: gates, Stamps: n.store, Log: log,
		HoldMin: 100 * time.Millisecond, HoldMax: 200 * time.Millisecond})
	g := glue{n.store, n.spool, n.m.bell, n}
	host, err = p2p.New(p2p.Options{
		Key: n.key, MeshID: n.set.ID(), Secret: n.m.secret, Set: n.set, Listener: po.Listener(port.Mesh), Addresses: n.told,
		Stamps: n.store, Spool: g, Passports: g, Statements: n.store, Peers: n.store, Custody: g, Version: "test " + n.name, Log: log,
		ReconcileEvery: n.every, ChallengeEvery: n.challenge, Now: n.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Host = host
	if n.limit != 0 {
		host.SetTimeout(n.limit)
	}
	n.spool.OnAdmitted(host.Gossip)
	n.spool.OnStored(func(from noise.PublicKey, e *envelope.Envelope) {
		host.Offer(from, e)
		n.m.bell.ring()
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := po.Run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("port of %s: %v", n.name, err)
		}
	})
	wg.Go(func() {
		if err := host.Run(ctx); err != nil {
			t.Errorf("host of %s: %v", n.name, err)
		}
	})
	n.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		n.m.bell.ring()
	})
}

// knows has n dial o.
func (n *node) knows(o *node) { n.AddPeer(o.key.Public(), o.addr) }

func (n *node) connected(o *node) bool {
	for _, p := range n.Peers() {
		if p.ID == o.key.Public() {
			return p.Connected
		}
	}
	return false
}

// connect has a dial b. If a told its address b would dial too, and one of the connections
// be replaced while a test uses it.
func (m *testMesh) connect(a, b *node) {
	m.t.Helper()
	if len(a.told) > 0 {
		m.t.Errorf("%s and %s may dial each other", a.name, b.name)
	}
	a.knows(b)
	m.bell.until(m.t, a.name+" and "+b.name+" are connected", func() bool { return a.connected(b) && b.connected(a) })
}

// line makes three nodes of which the outer ones cannot reach each other.
func (m *testMesh) line() (a, b, c *node) {
	a, b, c = m.node("a", false), m.node("b", true), m.node("c", false)
	m.connect(a, b)
	m.connect(c, b)
	return a, b, c
}

// mail makes envelopes of random bytes, which is all that a relay sees of any.
func mail(t *testing.T, class, n int) (all []*envelope.Envelope) {
	t.Helper()
	end := passport.TimeOf(time.Now().Add(72*time.Hour)) / 3600 * 3600
	for range n {
		e := &envelope.Envelope{Expires: end, Sealed: make([]byte, envelope.Sizes[class])}
		rand.Read(e.Sealed)
		rand.Read(e.Tag[:])
		parsed, err := envelope.Parse(e.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, parsed)
	}
	return all
}

// farApart is mail whose ids are far enough apart for all of them to be met soon by who
// looks behind random places.
func farApart(t *testing.T, class, n int) []*envelope.Envelope {
	t.Helper()
	for {
		all := mail(t, class, n)
		var places []int
		for _, e := range all {
			id := e.ID()
			places = append(places, int(binary.BigEndian.Uint16(id[:])))
		}
		slices.Sort(places)
		last, near := places[n-1]-1<<16, false
		for _, p := range places {
			near = near || p-last < 1<<16/(10*n)
			last = p
		}
		if !near {
			return all
		}
	}
}

// submit puts envelopes as an own user of n does.
func (n *node) submit(all []*envelope.Envelope) {
	n.m.t.Helper()
	results, err := n.spool.Put(n.m.t.Context(), noise.PublicKey{}, all)
	for _, r := range results {
		if err == nil {
			err = r.Err
		}
	}
	if err != nil {
		n.m.t.Fatal(err)
	}
}

func ids(all []*envelope.Envelope) (list []envelope.ID) {
	for _, e := range all {
		list = append(list, e.ID())
	}
	return list
}

// has waits until n stores all envelopes, byte for byte.
func (n *node) has(all []*envelope.Envelope) {
	t := n.m.t
	t.Helper()
	n.m.bell.until(t, fmt.Sprintf("%s has %d envelopes", n.name, len(all)), func() bool { return len(n.spool.Missing(ids(all))) == 0 })
	for _, e := range all {
		if b, err := n.spool.Envelope(e.ID()); err != nil || string(b) != string(e.Bytes()) {
			t.Fatalf("%s stores another envelope, %v", n.name, err)
		}
	}
}

// An envelope of every size class gets from one end of a line of nodes to the other,
// and the middle counts as one that stores it.
func TestEnvelopeCrossesALine(t *testing.T) {
	m := newMesh(t)
	a, b, c := m.line()
	for class := range envelope.Sizes {
		all := mail(t, class, 1)
		a.submit(all)
		c.has(all)
		b.has(all)
		m.bell.until(t, "a knows that b stores it", func() bool { return a.store.Custody(all[0].ID()) == 1 })
	}
}

// Of three nodes that all know each other two hold what the third brings.
func TestCustodyCountsEveryNeighbourOnce(t *testing.T) {
	m := newMesh(t)
	a, b, c := m.node("a", false), m.node("b", true), m.node("c", true)
	m.connect(a, b)
	m.connect(a, c)
	all := mail(t, 1, 10)
	a.submit(all)
	m.bell.until(t, "a knows that b and c store all", func() bool {
		for _, id := range ids(all) {
			if a.store.Custody(id) != 2 {
				return false
			}
		}
		return true
	})
	b.has(all)
	c.has(all)
}

// Who knows one member learns of the others from it, and dials them.
func TestPeersOfPeersAreLearned(t *testing.T) {
	m := newMesh(t)
	a, b, c := m.node("a", false), m.node("b", true), m.node("c", true)
	m.connect(a, b)
	c.knows(b)
	m.bell.until(t, "c and a are connected", func() bool { return a.connected(c) && c.connected(a) })
	for _, p := range a.Peers() {
		if p.ID == c.key.Public() && p.Version != "test c" {
			t.Errorf("c shows as version %q", p.Version)
		}
	}
}

// A node that comes later gets what was sent before, also what its neighbour was
// only given on the way.
func TestLateComerGetsWhatWasBefore(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false), m.node("b", true)
	m.connect(a, b)
	var all []*envelope.Envelope
	for class, n := range []int{300, 20, 10, 5} { // more than one offer holds
		all = append(all, mail(t, class, n)...)
	}
	a.submit(all)
	b.has(all)
	a.stop()
	c := m.node("c", false)
	m.connect(c, b)
	c.has(all)
}

// A node that went away and came back is found again by who knew it, without
// anybody's doing, and gets what it missed.
func TestNodeIsDialledAgain(t *testing.T) {
	m := newMesh(t)
	a, b, c := m.line()
	b.stop()
	m.bell.until(t, "a and c see that b is gone", func() bool { return !a.connected(b) && !c.connected(b) })
	all := mail(t, 0, 3)
	a.submit(all)
	b.start(true)
	m.bell.until(t, "a and c are connected to b", func() bool { return a.connected(b) && c.connected(b) })
	b.has(all)
	c.has(all)
}

// A node finds its peers after a restart by what it remembers alone.
func TestPeersAreRemembered(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false), m.node("b", true)
	m.connect(a, b)
	a.stop()
	m.bell.until(t, "b sees that a is gone", func() bool { return !b.connected(a) })
	a.start(false)
	m.bell.until(t, "a is connected to b", func() bool { return a.connected(b) && b.connected(a) })
}

// Two nodes that dial each other at the same time end up with one connection that
// both use.
func TestDialsThatCrossSettle(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", true), m.node("b", true)
	var wg sync.WaitGroup
	wg.Go(func() { a.knows(b) })
	wg.Go(func() { b.knows(a) })
	wg.Wait()
	m.bell.until(t, "a and b are connected", func() bool { return a.connected(b) && b.connected(a) })
	all := mail(t, 0, 1)
	a.submit(all)
	b.has(all)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for a.Connections(b.key.Public()) != 1 || b.Connections(a.key.Public()) != 1 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d and %d connections", a.Connections(b.key.Public()), b.Connections(a.key.Public()))
		}
	}
}

// A mail of 5 MiB in 86 parts crosses the line whole.
func TestBurstOfLargeParts(t *testing.T) {
	m := newMesh(t)
	a, _, c := m.line()
	all := mail(t, 3, 86)
	began := time.Now()
	a.submit(all)
	c.has(all)
	t.Logf("86 parts over two hops in %v", time.Since(began))
}

// Statements that a node gets later reach the others.
func TestStatementsSpread(t *testing.T) {
	m := newMesh(t)
	a, _, c := m.line()
	key, err := noise.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.set.Add(m.certify(key.Public())); err != nil {
		t.Fatal(err)
	}
	a.StatementsChanged()
	m.bell.until(t, "c knows of the new member", func() bool {
		_, ok := c.set.Certificate(key.Public(), passport.TimeOf(time.Now()))
		return ok
	})
}

// Two nodes that dial each other at once have two connections, of which one is replaced
// while an offer is on its way. It is made again, and not only found by the next session.
func TestOffersOutliveAConnection(t *testing.T) {
	for range 4 {
		m := newMesh(t)
		rare := func(n *node) { n.every = time.Hour }
		a, b := m.node("a", true, rare), m.node("b", true, rare)
		a.knows(b)
		b.knows(a)
		m.bell.until(t, "a and b are connected", func() bool { return a.connected(b) && b.connected(a) })
		all := mail(t, 1, 3)
		a.submit(all)
		m.bell.until(t, "a knows that b stores all", func() bool {
			return !slices.ContainsFunc(all, func(e *envelope.Envelope) bool { return a.store.Custody(e.ID()) != 1 })
		})
		a.stop()
		b.stop()
	}
}
