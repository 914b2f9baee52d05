package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	libyamux "github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-yamux/v5"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/asmtp/asmtp/noise"
)

// securityID is what libp2p shows as the security protocol of our connections.
const securityID protocol.ID = "/asmtp/noise/3"

const (
	// welcomeTimeout bounds the exchange of statements on a new connection.
	welcomeTimeout = 30 * time.Second
	// maxWelcoming is how many accepted connections may be in that exchange.
	maxWelcoming = 64
	// streamWindow bounds what yamux buffers of one stream that nobody reads.
	streamWindow = 1 << 20
)

// secureConn is what we need of a noise.Conn.
type secureConn interface {
	net.Conn
	PeerKey() noise.PublicKey
	SessionID() []byte
}

// muxed is the multiplexer of a new connection, of which libp2p does not know yet.
type muxed interface {
	OpenStream(context.Context) (network.MuxedStream, error)
	AcceptStream() (network.MuxedStream, error)
}

// link is a transport.Transport on connections that are already authenticated and
// encrypted. It runs yamux on them at once.
//
// go-libp2p's upgrader is no choice: it negotiates security and muxer by
// multistream, in which the listening side speaks first, in clear.
type link struct {
	self     identity
	rcmgr    network.ResourceManager
	listener net.Listener // connections are secureConn; nil: none are taken
	dial     func(ctx context.Context, address string, peer noise.PublicKey) (secureConn, error)
	// welcome is run on every new connection before libp2p learns of it. An error
	// closes the connection.
	welcome func(ctx context.Context, m muxed, dir network.Direction, peer noise.PublicKey) error
	log     *slog.Logger
}

var (
	_ transport.Transport    = (*link)(nil)
	_ transport.SkipResolver = (*link)(nil)
)

// Protocols says that we dial addresses that end in /tcp.
func (l *link) Protocols() []int { return []int{ma.P_TCP} }

// Proxy says that we are no relay.
func (l *link) Proxy() bool { return false }

// SkipResolve says that names are left to the dialer, which tries all addresses of
// a name as RFC 8305 says.
func (l *link) SkipResolve(context.Context, ma.Multiaddr) bool { return true }

// CanDial says whether addr is HOST:PORT.
func (l *link) CanDial(addr ma.Multiaddr) bool {
	_, err := hostPort(addr)
	return err == nil
}

// Dial connects to the node at addr that has the key of p.
func (l *link) Dial(ctx context.Context, addr ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	address, err := hostPort(addr)
	if err != nil {
		return nil, err
	}
	key, err := nodeKey(p)
	if err != nil {
		return nil, err
	}
	scope, err := l.rcmgr.OpenConnection(network.DirOutbound, true, addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	conn, err := l.dial(ctx, address, key)
	if err != nil {
		scope.Done()
		return nil, err
	}
	if conn.PeerKey() != key {
		conn.Close()
		scope.Done()
		return nil, fmt.Errorf("dial %s: %w", address, noise.ErrWrongPeer)
	}
	c, err := l.upgrade(ctx, conn, network.DirOutbound, addr, scope)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return c, nil
}

// upgrade makes of a secure connection one that libp2p can use. It closes conn and
// scope on failure.
func (l *link) upgrade(ctx context.Context, conn secureConn, dir network.Direction, remote ma.Multiaddr, scope network.ConnManagementScope) (_ *linkConn, err error) {
	closer := io.Closer(conn)
	defer func() {
		if err != nil {
			closer.Close()
			scope.Done()
		}
	}()
	key := conn.PeerKey()
	id, err := peerID(key)
	if err != nil {
		return nil, err
	}
	if err := scope.SetPeer(id); err != nil {
		return nil, err
	}
	local, err := manet.FromNetAddr(conn.LocalAddr())
	if err != nil {
		return nil, err
	}
	public, err := id.ExtractPublicKey()
	if err != nil {
		return nil, err
	}
	m, err := newYamux(conn, dir, scope.PeerScope())
	if err != nil {
		return nil, err
	}
	closer = m
	if err := l.greet(ctx, m, dir, key); err != nil {
		return nil, fmt.Errorf("exchange with %s: %w", key.Short(), err)
	}
	return &linkConn{MuxedConn: m, link: l, scope: scope, remoteID: id, remoteKey: public, local: local, remote: remote, session: conn.SessionID()}, nil
}

// greet runs welcome under a deadline, which closes the connection.
func (l *link) greet(ctx context.Context, m network.MuxedConn, dir network.Direction, key noise.PublicKey) error {
	ctx, cancel := context.WithTimeout(ctx, welcomeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { m.Close() })
	err := l.welcome(ctx, m, dir, key)
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

// yamuxConfig is go-libp2p's, with windows that fit a small machine: a stream may
// make its peer buffer 1 MiB, not 16.
var yamuxConfig = func() *yamux.Config {
	c := *libyamux.DefaultTransport.Config()
	c.MaxStreamWindowSize = streamWindow
	c.AcceptBacklog = 64
	c.MaxIncomingStreams = 256
	return &c
}()

func newYamux(conn net.Conn, dir network.Direction, scope network.PeerScope) (network.MuxedConn, error) {
	span := func() (yamux.MemoryManager, error) { return scope.BeginSpan() }
	start := yamux.Client
	if dir == network.DirInbound {
		start = yamux.Server
	}
	s, err := start(conn, yamuxConfig, span)
	if err != nil {
		return nil, err
	}
	return libyamux.NewMuxedConn(s), nil
}

// Listen hands out the connections of the listener that the node owns. laddr is
// only what libp2p calls it.
func (l *link) Listen(laddr ma.Multiaddr) (transport.Listener, error) {
	if l.listener == nil {
		return nil, errors.New("no listener")
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &acceptor{link: l, address: laddr, ctx: ctx, cancel: cancel,
		ready: make(chan transport.CapableConn), slots: make(chan struct{}, maxWelcoming)}
	a.wg.Go(a.run)
	return a, nil
}

// acceptor is a transport.Listener. It welcomes connections side by side, so that a
// slow one does not keep others waiting.
type acceptor struct {
	link    *link
	address ma.Multiaddr
	ctx     context.Context
	cancel  context.CancelFunc
	ready   chan transport.CapableConn
	slots   chan struct{}
	wg      sync.WaitGroup
}

func (a *acceptor) run() {
	defer a.cancel()
	for {
		select {
		case a.slots <- struct{}{}:
		case <-a.ctx.Done():
			return
		}
		conn, err := a.link.listener.Accept()
		if err != nil {
			return
		}
		a.wg.Go(func() {
			defer func() { <-a.slots }()
			a.take(conn)
		})
	}
}

// take welcomes one connection and hands it to Accept.
func (a *acceptor) take(conn net.Conn) {
	secure, ok := conn.(secureConn)
	if !ok {
		conn.Close()
		a.link.log.Error("connection without a peer's key", "type", fmt.Sprintf("%T", conn))
		return
	}
	c, err := a.open(secure)
	if err != nil {
		a.link.log.Debug("refused a member's connection", "peer", secure.PeerKey().Short(), "error", err)
		return
	}
	select {
	case a.ready <- c:
	case <-a.ctx.Done():
		c.Close()
	}
}

func (a *acceptor) open(conn secureConn) (*linkConn, error) {
	remote, err := manet.FromNetAddr(conn.RemoteAddr())
	if err != nil {
		conn.Close()
		return nil, err
	}
	scope, err := a.link.rcmgr.OpenConnection(network.DirInbound, true, remote)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return a.link.upgrade(a.ctx, conn, network.DirInbound, remote, scope)
}

// Accept returns the next connection.
func (a *acceptor) Accept() (transport.CapableConn, error) {
	select {
	case c := <-a.ready:
		return c, nil
	case <-a.ctx.Done():
		return nil, transport.ErrListenerClosed
	}
}

// Close closes the node's listener too and waits until nothing runs any more.
func (a *acceptor) Close() error {
	a.cancel()
	err := a.link.listener.Close()
	a.wg.Wait()
	return err
}

// Addr returns the address of the node's listener.
func (a *acceptor) Addr() net.Addr { return a.link.listener.Addr() }

// Multiaddr returns the address that libp2p listens on.
func (a *acceptor) Multiaddr() ma.Multiaddr { return a.address }

// linkConn is a transport.CapableConn: yamux on a secure connection.
type linkConn struct {
	network.MuxedConn
	link          *link
	scope         network.ConnManagementScope
	remoteID      peer.ID
	remoteKey     crypto.PubKey
	local, remote ma.Multiaddr
	session       []byte // hash of the handshake, which only the two sides know
}

var _ transport.CapableConn = (*linkConn)(nil)

// Close ends the connection and gives its resources back.
func (c *linkConn) Close() error {
	defer c.scope.Done()
	return c.MuxedConn.Close()
}

// CloseWithError is Close; the peer learns the code.
func (c *linkConn) CloseWithError(code network.ConnErrorCode) error {
	defer c.scope.Done()
	return c.MuxedConn.CloseWithError(code)
}

// As gives protocols the connection itself, for its session.
func (c *linkConn) As(target any) bool {
	if t, ok := target.(**linkConn); ok {
		*t = c
		return true
	}
	return c.MuxedConn.As(target)
}

// LocalPeer returns the own libp2p id.
func (c *linkConn) LocalPeer() peer.ID { return c.link.self.id }

// RemotePeer returns the peer's libp2p id.
func (c *linkConn) RemotePeer() peer.ID { return c.remoteID }

// RemotePublicKey returns the peer's key, which the handshake proved.
func (c *linkConn) RemotePublicKey() crypto.PubKey { return c.remoteKey }

// ConnState says what the connection is made of.
func (c *linkConn) ConnState() network.ConnectionState {
	return network.ConnectionState{StreamMultiplexer: libyamux.ID, Security: securityID, Transport: "tcp"}
}

// LocalMultiaddr returns the own address.
func (c *linkConn) LocalMultiaddr() ma.Multiaddr { return c.local }

// RemoteMultiaddr returns the peer's address.
func (c *linkConn) RemoteMultiaddr() ma.Multiaddr { return c.remote }

// Scope returns the connection's share of the limits.
func (c *linkConn) Scope() network.ConnScope { return c.scope }

// Transport returns the transport.
func (c *linkConn) Transport() transport.Transport { return c.link }
