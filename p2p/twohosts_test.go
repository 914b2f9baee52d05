package p2p

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"

	"github.com/asmtp/asmtp/noise"
)

// bareParams is a handshake without certificates: what the transport needs to know
// of a connection is only whose it is.
var bareParams = noise.Params{Prefix: []byte{3}, Prologue: []byte("p2p test"), PayloadA: 4, PayloadB: 4}

// bareListener does the handshakes that internal/port does for a node.
type bareListener struct {
	net.Listener
	key *noise.PrivateKey
}

func (l bareListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
			conn, err := noise.Server(context.Background(), c, bareParams, l.key, func(noise.PublicKey, []byte) ([]byte, error) {
				return make([]byte, 4), nil
			})
			if err == nil {
				return conn, nil
			}
		}
		c.Close()
	}
}

// bareHost is a libp2p host on the own transport and nothing else of this package.
func bareHost(t *testing.T) *basichost.BasicHost {
	t.Helper()
	key, err := noise.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	self, err := newIdentity(key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{self: self, listener: bareListener{ln, key}, log: slog.New(slog.DiscardHandler)}
	l.welcome = func(context.Context, muxed, network.Direction, noise.PublicKey) error { return nil }
	l.dial = func(ctx context.Context, address string, peer noise.PublicKey) (secureConn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		conn, _, err := noise.Client(ctx, c, bareParams, key, peer, make([]byte, 4))
		return conn, err
	}
	h, err := newLibp2p(self, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	m, err := multiaddr(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Network().Listen(m); err != nil {
		t.Fatal(err)
	}
	return h
}

// Two hosts with nothing of libp2p's own upgrade path carry a stream both ways and a
// gossip message that names no author.
func TestTwoHostsExchangeAStreamAndGossip(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, b := bareHost(t), bareHost(t)
	b.SetStreamHandler("/echo", func(s network.Stream) {
		io.Copy(s, s)
		s.Close()
	})

	topics := make([]*pubsub.Topic, 2)
	for i, h := range []*basichost.BasicHost{a, b} {
		ps, err := pubsub.NewGossipSub(ctx, h, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
			pubsub.WithMessageIdFn(func(m *pb.Message) string { id := noise.H32(m.Data); return string(id[:]) }))
		if err != nil {
			t.Fatal(err)
		}
		if topics[i], err = ps.Join("t"); err != nil {
			t.Fatal(err)
		}
	}
	received, err := topics[1].Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := topics[0].Subscribe(); err != nil {
		t.Fatal(err)
	}
	events, err := topics[0].EventHandler()
	if err != nil {
		t.Fatal(err)
	}

	a.Peerstore().AddAddrs(b.ID(), b.Network().ListenAddresses(), peerstore.PermanentAddrTTL)
	if err := a.Connect(ctx, peer.AddrInfo{ID: b.ID()}); err != nil {
		t.Fatal(err)
	}
	if state := a.Network().ConnsToPeer(b.ID())[0].ConnState(); state.Security != securityID {
		t.Errorf("security is %q, want our own", state.Security)
	}

	s, err := a.NewStream(ctx, b.ID(), "/echo")
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("mail"), 100_000) // more than a window
	go func() {
		s.Write(sent)
		s.CloseWrite()
	}()
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("echo of %d bytes: %d came back, %v", len(sent), len(got), err)
	}

	if _, err := events.NextPeerEvent(ctx); err != nil {
		t.Fatal(err)
	}
	m := publishUntilReceived(ctx, t, topics[0], received)
	if !bytes.HasPrefix(m.Data, []byte("envelope")) || m.From != nil || m.Seqno != nil || m.Signature != nil || m.Key != nil {
		t.Errorf("gossip came as %v", m.Message)
	}
}

// publishUntilReceived publishes until one message arrives. The first may go nowhere:
// gossipsub gives messages to those neighbours only that it has grafted, at a
// heartbeat, and never tells them of older ones. (Custody is for those.)
func publishUntilReceived(ctx context.Context, t *testing.T, from *pubsub.Topic, to *pubsub.Subscription) *pubsub.Message {
	t.Helper()
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for i := byte(0); from.Publish(publishing, append([]byte("envelope"), i)) == nil; i++ {
			select {
			case <-tick.C:
			case <-publishing.Done():
			}
		}
	}()
	m, err := to.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A node that answers with another key than the one dialled is no peer.
func TestTwoHostsRefuseAWrongKey(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, b, c := bareHost(t), bareHost(t), bareHost(t)
	a.Peerstore().AddAddrs(c.ID(), b.Network().ListenAddresses(), peerstore.PermanentAddrTTL)
	if err := a.Connect(ctx, peer.AddrInfo{ID: c.ID()}); err == nil {
		t.Fatal("connected to c where b listens")
	}
	if n := len(a.Network().Conns()) + len(b.Network().Conns()); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}
