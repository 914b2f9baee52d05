package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// The protocols that run on streams of a connection.
const (
	meshProtocol      protocol.ID = "/asmtp/mesh/1"
	custodyProtocol   protocol.ID = "/asmtp/custody/1"
	passportProtocol  protocol.ID = "/asmtp/passport/1"
	reconcileProtocol protocol.ID = "/asmtp/reconcile/1"
)

// checkInterval is how often the certificates of connected peers are looked at.
const checkInterval = 5 * time.Minute

// Host is this node in its mesh.
type Host struct {
	o      Options
	log    *slog.Logger
	self   noise.PublicKey
	libp2p *basichost.BasicHost
	gossip *gossiper
	book   *book
	claims *claims

	refusals *refusals // by neighbours
	declined *refusals // by this node, of what a neighbour brought
	doubts   *doubts
	stats    *stats
	clock    clockWarning
	asked    asked

	unanswered unanswered
	counting   sync.RWMutex // held while custody is recorded, or taken back

	envelopeSnapshots, passportSnapshots *snapshots

	opening chan struct{} // a slot for each session that this node opens
	serving *serving
	asks    *serving     // for passports
	stored  atomic.Int64 // envelopes in the last snapshot

	timeout     time.Duration // messageTimeout but in tests
	sessionTime time.Duration // sessionTime but in tests

	// ctx ends with Close; wg counts what runs under it.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	close  sync.Once

	mu         sync.Mutex
	closed     bool // nothing is added to wg any more
	neighbours map[noise.PublicKey]*neighbour
	idles      map[noise.PublicKey]*atomic.Int32 // of each member that was a neighbour
	streams    map[streamOf]int                  // inbound streams that are open
}

// New builds a host. It neither listens nor dials before [Host.Run]. Call
// [Host.Close] also if Run is never called.
func New(o Options) (*Host, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	o.Spool = unended{o.Spool, o.Now}
	self, err := newIdentity(o.Key)
	if err != nil {
		return nil, err
	}
	h := &Host{
		o: o, log: o.Log, self: o.Key.Public(), book: newBook(), claims: newClaims(o.Now),
		refusals: newRefusals(o.Now), declined: newRefusals(o.Now), doubts: newDoubts(o.Now), stats: newStats(), opening: make(chan struct{}, maxOpening),
		serving: newServing(time.Now), asks: newServing(time.Now), timeout: messageTimeout, sessionTime: sessionTime,
		neighbours: map[noise.PublicKey]*neighbour{}, idles: map[noise.PublicKey]*atomic.Int32{}, streams: map[streamOf]int{},
	}
	h.envelopeSnapshots, h.passportSnapshots = newSnapshots(h.envelopeSet), newSnapshots(h.passportSet)
	h.ctx, h.cancel = context.WithCancel(context.Background())
	l := &link{self: self, listener: o.Listener, dial: h.dialMember, welcome: h.welcome, log: h.log}
	if h.libp2p, err = newLibp2p(self, l); err != nil {
		h.cancel()
		return nil, fmt.Errorf("p2p: %w", err)
	}
	h.handle(meshProtocol, h.serveMesh)
	h.handle(custodyProtocol, h.serveCustody)
	h.handle(passportProtocol, h.servePassports)
	h.handle(reconcileProtocol, h.serveReconcile)
	h.libp2p.Network().Notify(&network.NotifyBundle{ConnectedF: h.connected, DisconnectedF: h.disconnected})
	if h.gossip, err = newGossiper(h); err != nil {
		h.Close()
		return nil, fmt.Errorf("p2p: gossip: %w", err)
	}
	return h, nil
}

// Run listens and keeps connections to members until ctx ends, then closes the host.
func (h *Host) Run(ctx context.Context) error {
	defer h.Close()
	if err := h.loadPeers(); err != nil {
		return err
	}
	if h.o.Listener != nil {
		address, err := manet.FromNetAddr(h.o.Listener.Addr())
		if err != nil {
			return fmt.Errorf("p2p: address of the listener: %w", err)
		}
		if err := h.libp2p.Network().Listen(address); err != nil {
			return fmt.Errorf("p2p: listen: %w", err)
		}
	}
	h.goDo(h.gossip.publishQueued)
	h.goDo(h.dialPeers)
	h.goDo(h.watchCertificates)
	h.goDo(h.reconcileRounds)
	h.goDo(h.challengeRounds)
	select {
	case <-ctx.Done():
	case <-h.ctx.Done():
	}
	return nil
}

// Close ends all connections and waits until nothing of the host runs any more. It
// closes the listener of the options if Run was called.
func (h *Host) Close() error {
	h.close.Do(func() {
		h.mu.Lock()
		h.closed = true
		h.mu.Unlock()
		h.cancel()
		h.libp2p.Close()
	})
	h.wg.Wait()
	return nil
}

// goDo runs f under wg, unless the host is being closed.
func (h *Host) goDo(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.goLocked(f)
}

func (h *Host) goLocked(f func()) {
	if !h.closed {
		h.wg.Go(f)
	}
}

// Gossip spreads an envelope of an own user that is about to be on disk. It does not block.
// The nodes that get it ask nobody for more, except if it is of the largest class: that is
// not told of before [Host.Offer].
func (h *Host) Gossip(e *envelope.Envelope) {
	if e.Class() != largest {
		h.gossip.publish(e)
	}
}

// Offer tells of an envelope that came new to the spool and is on disk: from a
// neighbour, or, with the zero key, from an own user. It does not block.
func (h *Host) Offer(from noise.PublicKey, e *envelope.Envelope) {
	item := offered{id: e.ID(), class: e.Class()}
	for _, n := range h.allNeighbours() {
		if n.key != from {
			n.offers.add(item)
		}
	}
	if from.IsZero() && e.Class() == largest {
		h.gossip.publish(e)
	}
}

// PassportChanged tells that a passport is new or has a new block. It does not block.
func (h *Host) PassportChanged(id passport.ID) { h.spreadPassport(noise.PublicKey{}, id) }

// StatementsChanged tells that the set of statements has grown. It does not block.
func (h *Host) StatementsChanged() { h.statementsChanged(noise.PublicKey{}) }

// Peer is what is known of another node.
type Peer struct {
	ID        noise.PublicKey
	Addresses []string
	Connected bool
	Since     time.Time // when the connection began, or was lost; zero: never connected
	Version   string    // of its program, as it says; empty: never connected

	Clock      time.Duration // its clock minus ours, as of the last reconciliation
	ClockKnown bool
}

// Peers returns all known nodes, in the order of their keys.
func (h *Host) Peers() []Peer { return h.book.peers() }

// neighbour is a peer that is connected. What it runs ends with its last connection.
type neighbour struct {
	h      *Host
	key    noise.PublicKey
	id     peer.ID
	ctx    context.Context
	cancel context.CancelFunc

	offers     *offers
	pulls      chan pull
	tips       *tipQueue
	statements chan struct{} // capacity 1: the set has grown

	exam exam

	suspects suspects

	need  *need
	moved atomic.Int64  // envelopes that were wanted of us, or fetched
	idle  *atomic.Int32 // how often reconciliation came to nothing, one after the other

	postponed map[envelope.ID]int // of the goroutine of offerAll: how often the neighbour said "later"

	// These are of the goroutine of reconcileAll.
	found       []envelope.ID // to be fetched
	movedBefore int64
	busy        int // how often n had no time, one after the other
	differed    bool
}

func (h *Host) allNeighbours() []*neighbour {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*neighbour, 0, len(h.neighbours))
	for _, n := range h.neighbours {
		all = append(all, n)
	}
	return all
}

// idleOf returns the counter of a member: a new connection does not make one with which
// reconciliation comes to nothing better. h.mu is held.
func (h *Host) idleOf(key noise.PublicKey) *atomic.Int32 {
	c := h.idles[key]
	if c == nil {
		c = new(atomic.Int32)
		h.idles[key] = c
	}
	return c
}

func (h *Host) neighbour(key noise.PublicKey) *neighbour {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.neighbours[key]
}

// connected is called by libp2p for every new connection, after its welcome.
func (h *Host) connected(_ network.Network, c network.Conn) {
	key, err := nodeKey(c.RemotePeer())
	if err != nil {
		c.Close()
		return
	}
	h.goDo(func() { h.settle(c, key) })
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	dialed := c.Stat().Direction == network.DirOutbound
	if n := h.neighbours[key]; n != nil {
		if dialed {
			n.reconcileNow()
		}
		return
	}
	n := &neighbour{h: h, key: key, id: c.RemotePeer(), offers: newOffers(), pulls: make(chan pull, maxGet),
		tips: newTipQueue(), statements: make(chan struct{}, 1), need: newNeed(), idle: h.idleOf(key)}
	n.ctx, n.cancel = context.WithCancel(h.ctx)
	h.neighbours[key] = n
	h.book.connected(key, h.o.Now())
	h.log.Info("connected", "peer", key.Short(), "direction", c.Stat().Direction.String())
	for _, f := range []func(){n.offerAll, n.pullAll, n.tellPassports, n.tellStatements, n.remember, n.reconcileAll} {
		h.goLocked(f)
	}
	// Who dialled reconciles at once; the other one, which learns of custody by its own
	// session alone, when that is through.
	idle := max(min(n.idle.Load(), maxIdle)-1, 0) // once may be the break of the last connection
	if dialed && idle == 0 {
		n.reconcileNow()
		return
	}
	h.goLocked(func() {
		if wait(n.ctx, jitter(h.o.ReconcileEvery/20<<idle)) {
			n.reconcileNow()
		}
	})
}

// disconnected is called by libp2p for every connection that ended.
func (h *Host) disconnected(_ network.Network, c network.Conn) {
	key, err := nodeKey(c.RemotePeer())
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.neighbours[key]
	if n == nil || len(h.libp2p.Network().ConnsToPeer(n.id)) > 0 {
		return
	}
	delete(h.neighbours, key)
	n.cancel()
	h.book.disconnected(key, h.o.Now())
	h.log.Info("disconnected", "peer", key.Short())
}

// settleTime is for how long two nodes may have two connections.
const settleTime = 5 * time.Second

// settle ends all connections to a peer but the newest. Two nodes that dial each
// other at once would close both if each decided alone and at once, so the one with
// the smaller key decides; the other one waits, and finds more than one connection
// only if its peer does not know of the older any more, after a crash. Of two from
// the same side the older is dead if it is not just being given up by that side.
func (h *Host) settle(newest network.Conn, key noise.PublicKey) {
	older := h.olderConns(newest)
	if len(older) == 0 {
		return
	}
	atOnce := string(h.self[:]) < string(key[:])
	for _, c := range older {
		if c.Stat().Direction == newest.Stat().Direction {
			atOnce = newest.Stat().Opened.Sub(c.Stat().Opened) > settleTime
		}
	}
	if !atOnce && !wait(h.ctx, settleTime) {
		return
	}
	if newest.IsClosed() {
		return
	}
	for _, c := range h.olderConns(newest) {
		h.log.Debug("replaced a connection", "peer", key.Short())
		c.CloseWithError(network.ConnSupplanted)
	}
}

func (h *Host) olderConns(newest network.Conn) (older []network.Conn) {
	for _, c := range h.libp2p.Network().ConnsToPeer(newest.RemotePeer()) {
		if c.ID() != newest.ID() && !c.Stat().Opened.After(newest.Stat().Opened) {
			older = append(older, c)
		}
	}
	return older
}

// wait waits for d, or returns false because ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// drop ends the connections to a peer.
func (h *Host) drop(key noise.PublicKey, reason error) {
	id, err := peerID(key)
	if err != nil {
		return
	}
	h.log.Info("dropped a peer", "peer", key.Short(), "reason", reason)
	h.book.failed(key, h.o.Now())
	for _, c := range h.libp2p.Network().ConnsToPeer(id) {
		c.CloseWithError(network.ConnProtocolViolation)
	}
}

// fault looks at the error that ended a stream: a violation costs the peer its connection.
func (h *Host) fault(key noise.PublicKey, what string, err error) {
	switch {
	case err == nil || h.ctx.Err() != nil:
	case errors.Is(err, errForeign):
		h.drop(key, fmt.Errorf("%s: %w", what, err))
	default:
		h.log.Debug("stream ended", "peer", key.Short(), "protocol", what, "error", err)
	}
}

// watchCertificates ends connections to nodes that are members no more.
func (h *Host) watchCertificates() {
	for wait(h.ctx, checkInterval) {
		h.checkMembers()
	}
}

func (h *Host) checkMembers() {
	for _, n := range h.allNeighbours() {
		if !h.isMember(n.key) {
			h.drop(n.key, errNoMember)
		}
	}
}

var errNoMember = errors.New("no valid certificate")

func (h *Host) isMember(key noise.PublicKey) bool {
	_, ok := h.o.Set.Certificate(key, passport.TimeOf(h.o.Now()))
	return ok
}

// swarm is libp2p's dialer.
func (h *Host) swarm() *swarm.Swarm { return h.libp2p.Network().(*swarm.Swarm) }
