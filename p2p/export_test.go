package p2p

import (
	"context"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	libprotocol "github.com/libp2p/go-libp2p/core/protocol"

	"github.com/asmtp/asmtp/noise"
)

// Protocols for tests that speak them by hand, and badly.
const (
	MeshProtocol     = string(meshProtocol)
	CustodyProtocol  = string(custodyProtocol)
	PassportProtocol = string(passportProtocol)

	ReconcileProtocol = string(reconcileProtocol)
	MaxFound          = maxFound
)

// OpenStream opens a stream to a neighbour.
func (h *Host) OpenStream(ctx context.Context, key noise.PublicKey, protocol string) (network.Stream, error) {
	id, err := peerID(key)
	if err != nil {
		return nil, err
	}
	return h.libp2p.NewStream(network.WithNoDial(ctx, "test"), id, libprotocol.ID(protocol))
}

// Publish gossips any bytes.
func (h *Host) Publish(ctx context.Context, b []byte) error { return h.gossip.topic.Publish(ctx, b) }

// GossipPeers returns how many neighbours are known to take part in gossip.
func (h *Host) GossipPeers() int { return len(h.gossip.topic.ListPeers()) }

// Connections returns how many connections there are to a node.
func (h *Host) Connections(key noise.PublicKey) int {
	id, err := peerID(key)
	if err != nil {
		return 0
	}
	return len(h.libp2p.Network().ConnsToPeer(id))
}

// WriteMessage sends one message.
var WriteMessage = writeMessage

// SetTimeout sets how long one message may take, before the first connection.
func (h *Host) SetTimeout(d time.Duration) { h.timeout = d }

// EncodeGossip makes the message by which an envelope is spread.
var EncodeGossip = encodeGossip

// Handle has an evil node answer a protocol in its own way.
func (h *Host) Handle(protocol string, serve func(s network.Stream)) {
	h.libp2p.SetStreamHandler(libprotocol.ID(protocol), func(s network.Stream) {
		defer s.Reset()
		serve(s)
	})
}

// ReadMessage reads one message.
func ReadMessage(r io.Reader) (kind byte, body []byte, err error) {
	m, err := readMessage(r, 1<<20)
	return m.kind, m.body, err
}

// SetSessionTime sets how long a reconciliation may take, before the first connection.
func (h *Host) SetSessionTime(d time.Duration) { h.sessionTime = d }

// Reconcile reconciles with a neighbour now.
func (h *Host) Reconcile(key noise.PublicKey) {
	if n := h.neighbour(key); n != nil {
		n.reconcileNow()
	}
}

// Idle returns how often reconciliation with a neighbour came to nothing.
func (h *Host) Idle(key noise.PublicKey) int {
	if n := h.neighbour(key); n != nil {
		return int(n.idle.Load())
	}
	return 0
}

// Snapshots returns how many snapshots are in memory.
func (h *Host) Snapshots() int { return h.envelopeSnapshots.kept() }

func (s *snapshots) kept() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live)
}

// Asked returns for how many own users' envelopes a holder was asked.
func (h *Host) Asked() int {
	h.asked.mu.Lock()
	defer h.asked.mu.Unlock()
	return len(h.asked.ids)
}

// Doubted returns for how many envelopes a neighbour's word does not count.
func (h *Host) Doubted(key noise.PublicKey) int {
	h.doubts.mu.Lock()
	defer h.doubts.mu.Unlock()
	if m := h.doubts.of[key]; m != nil {
		return len(m.ids)
	}
	return 0
}
