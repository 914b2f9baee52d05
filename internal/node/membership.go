package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/invite"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/p2p"
	"github.com/asmtp/asmtp/passport"
)

// membership is the mesh that a node belongs to. founder is nil but on the node that
// founded it, which is the mesh's admin.
type membership struct {
	id      mesh.ID
	secret  mesh.Secret
	founder *noise.PrivateKey
	set     *mesh.Set
}

// alone reports whether the node made the mesh itself and no other is in it.
func (m *membership) alone(self noise.PublicKey, now passport.Time) bool {
	if m.founder == nil {
		return false
	}
	for _, member := range m.set.Members(now) {
		if member != self {
			return false
		}
	}
	return true
}

// openMembership reads the mesh from the store, or founds one.
func (n *Node) openMembership(ctx context.Context) error {
	id, secret, seed, ok, err := n.store.Mesh()
	if err != nil {
		return err
	}
	if !ok {
		return n.found(ctx)
	}
	encoded, err := n.store.Statements()
	if err != nil {
		return err
	}
	m := &membership{id: id, secret: secret}
	if m.set, err = mesh.ParseSet(id, encoded); err != nil {
		return fmt.Errorf("statements of the mesh in the store: %w", err)
	}
	if len(seed) > 0 {
		if m.founder, err = noise.NewPrivateKey(seed); err != nil {
			return fmt.Errorf("founding key in the store: %w", err)
		}
	}
	n.membership.Store(m)
	return nil
}

// found makes a mesh with this node as its only member.
func (n *Node) found(ctx context.Context) error {
	now := n.time()
	founder, founding, secret, err := mesh.Found(nil, now)
	if err != nil {
		return err
	}
	set, err := mesh.NewSet(founding)
	if err != nil {
		return err
	}
	statements := [][]byte{founding.Bytes()}
	charter := mesh.DefaultCharter()
	charter.Number = 1
	for _, s := range []*mesh.Statement{
		mesh.NewCharter(founder, set.ID(), charter, now),
		mesh.Certify(founder, set.ID(), n.ID(), now, mesh.MaxCertificateDays),
	} {
		if _, err := set.Add(s); err != nil {
			return err
		}
		statements = append(statements, s.Bytes())
	}
	if err := n.store.SetMesh(ctx, set.ID(), secret, founder.Bytes(), statements...); err != nil {
		return err
	}
	n.membership.Store(&membership{id: set.ID(), secret: secret, founder: founder, set: set})
	n.log.Info("founded a mesh", "mesh", set.ID())
	return nil
}

// state adds a statement of the founder to the mesh, durably, and spreads it.
func (n *Node) state(ctx context.Context, m *membership, s *mesh.Statement) error {
	return n.stateBy(m, s, func() error { return n.store.PutStatements(ctx, [][]byte{s.Bytes()}) })
}

// stateBy is state with put instead of the storing.
func (n *Node) stateBy(m *membership, s *mesh.Statement, put func() error) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	if n.membership.Load() != m { // the store would not open again with a statement of another mesh
		return fmt.Errorf("%w: the node has left mesh %s", invite.ErrNotAllowed, m.id)
	}
	if err := put(); err != nil {
		return err
	}
	if _, err := m.set.Add(s); err != nil {
		return err
	}
	if h := n.host.Load(); h != nil {
		h.StatementsChanged()
	}
	return nil
}

func (n *Node) time() passport.Time { return passport.TimeOf(n.now()) }

// Certificates are renewed when less than a third of their time is left, so a founder
// that is away for a month does no harm.
const (
	renewEvery = time.Hour
	renewBelow = mesh.MaxCertificateDays * 24 * time.Hour / 3
)

// renewCertificates certifies the members anew, on the founder's node. Others hear of it
// as of any statement.
func (n *Node) renewCertificates(ctx context.Context) error {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		if err := n.renewDue(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("certificates not renewed", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (n *Node) renewDue(ctx context.Context) error {
	m := n.membership.Load()
	if m.founder == nil {
		return nil
	}
	now := n.time()
	for _, member := range m.set.Members(now) {
		s, ok := m.set.Certificate(member, now)
		if !ok {
			continue
		}
		if c, _ := s.Certificate(); c.NotAfter.Sub(now) > renewBelow {
			continue
		}
		if err := n.state(ctx, m, mesh.Certify(m.founder, m.id, member, now, mesh.MaxCertificateDays)); err != nil {
			return err
		}
	}
	return nil
}

// countMembers is how many nodes share the store's quotas.
func (n *Node) countMembers() int {
	if m := n.membership.Load(); m != nil {
		return len(m.set.Members(n.time()))
	}
	return 1
}

// runOverlay runs the host of the membership of the moment, and another when that changes.
func (n *Node) runOverlay(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := n.runHost(ctx); err != nil {
			return err
		}
	}
	return nil
}

// runHost runs one host until ctx is done or the membership has changed.
func (n *Node) runHost(ctx context.Context) error {
	m := n.membership.Load()
	ln := &hostListener{conns: n.meshConns, addr: n.ln.Addr(), closed: make(chan struct{})}
	h, err := p2p.New(p2p.Options{
		Key: n.o.Key, MeshID: m.id, Secret: m.secret, Set: m.set, Listener: ln,
		Addresses: n.addresses(), Stamps: n.store,
		Spool: overlaySpool{n}, Passports: overlayPassports{n.store, n}, Statements: n.store,
		Peers: n.store, Custody: overlayCustody{n.store, n},
		Version: n.o.Version, Now: n.now, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.host.Store(h)
	n.addPeers(h, *n.peers.Load())
	ctx, cancel := context.WithCancel(ctx)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-n.rejoined:
			cancel()
		case <-ctx.Done():
		}
	}()
	err = h.Run(ctx)
	n.host.Store(nil)
	stopped := ctx.Err() != nil
	cancel()
	<-watching
	if stopped {
		err = nil
	}
	return errors.Join(err, h.Close())
}

// takeMeshConns hands the mesh's connections of the port to the host of the moment. One
// that comes while there is none is closed; its node calls again.
func (n *Node) takeMeshConns(ctx context.Context) error {
	ln := n.port.Listener(port.Mesh)
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		select {
		case n.meshConns <- c:
		case <-ctx.Done():
			c.Close()
		case <-time.After(handOver):
			c.Close()
		}
	}
}

// handOver bounds how long a connection waits for a host that is being started.
const handOver = 10 * time.Second

// hostListener is what one host listens on.
type hostListener struct {
	conns  <-chan net.Conn
	addr   net.Addr
	once   sync.Once
	closed chan struct{}
}

func (l *hostListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	}
}

func (l *hostListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *hostListener) Addr() net.Addr { return l.addr }

// meshGate asks the host of the moment.
func (n *Node) meshGate() port.Gate {
	return port.Gate{
		Params: func(hint []byte) (noise.Params, bool) {
			h := n.host.Load()
			if h == nil {
				return noise.Params{}, false
			}
			return h.MeshGate().Params(hint)
		},
		Admit: func(peer noise.PublicKey, payload []byte) ([]byte, error) {
			h := n.host.Load()
			if h == nil {
				return nil, errors.New("the node is changing its mesh")
			}
			return h.MeshGate().Admit(peer, payload)
		},
	}
}

// gossip gives an own user's fresh envelope to the overlay while it is being stored.
func (n *Node) gossip(e *envelope.Envelope) {
	if h := n.host.Load(); h != nil {
		h.Gossip(e)
	}
}

// passOn tells the overlay of a fresh envelope that is stored, whichever way it came in.
func (n *Node) passOn(from noise.PublicKey, e *envelope.Envelope) {
	if h := n.host.Load(); h != nil {
		h.Offer(from, e)
	}
}

// overlaySpool is the spool as p2p wants it.
type overlaySpool struct{ n *Node }

func (s overlaySpool) Put(ctx context.Context, from noise.PublicKey, envelopes []*envelope.Envelope) ([]p2p.Stored, error) {
	results, err := s.n.spool.Put(ctx, from, envelopes)
	if err != nil {
		return nil, err
	}
	stored := make([]p2p.Stored, len(results))
	for i, r := range results {
		stored[i] = p2p.Stored{Fresh: r.Fresh, Err: r.Err}
	}
	return stored, nil
}

func (s overlaySpool) Missing(ids []envelope.ID) []envelope.ID { return s.n.spool.Missing(ids) }
func (s overlaySpool) Ends(ids []envelope.ID) (map[envelope.ID]passport.Time, error) {
	return s.n.store.Ends(ids)
}
func (s overlaySpool) Envelope(id envelope.ID) ([]byte, error) { return s.n.spool.Envelope(id) }
func (s overlaySpool) Envelopes(after envelope.ID, fn func(envelope.Meta) bool) error {
	return s.n.store.Envelopes(after, fn)
}

func (s overlaySpool) Window(from, to passport.Time, fn func(passport.Time, envelope.ID) bool) error {
	return s.n.store.Window(from, to, fn)
}

// overlayPassports is the store, and tells the clients of what the mesh brought.
type overlayPassports struct {
	*store.Store
	n *Node
}

func (p overlayPassports) PutPassport(ctx context.Context, chain *passport.Passport) (changed bool, err error) {
	changed, err = p.Store.PutPassport(ctx, chain)
	if changed {
		p.n.passportsChanged.notify()
		p.n.usersChanged.notify()
	}
	return changed, err
}

// overlayCustody is the store, and tells the clients of what neighbours confirmed, and of
// what they turned out not to keep.
type overlayCustody struct {
	*store.Store
	n *Node
}

func (c overlayCustody) PutCustody(ctx context.Context, member noise.PublicKey, ids []envelope.ID) error {
	if err := c.Store.PutCustody(ctx, member, ids); err != nil {
		return err
	}
	c.n.custodyChanged.notify()
	return nil
}

func (c overlayCustody) DropCustody(ctx context.Context, member noise.PublicKey, ids []envelope.ID) error {
	if err := c.Store.DropCustody(ctx, member, ids); err != nil {
		return err
	}
	c.n.custodyChanged.notify()
	return nil
}
