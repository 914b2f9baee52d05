package p2p

import (
	"context"
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
