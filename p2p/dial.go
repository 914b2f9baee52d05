package p2p

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// MeshGate is what the node's port asks about connections of version 3: who has a
// certificate gets ours as answer, and nobody else gets anything.
func (h *Host) MeshGate() port.Gate {
	return port.Gate{
		Params: func([]byte) (noise.Params, bool) { return h.params(), true },
		Admit: func(peer noise.PublicKey, payload []byte) ([]byte, error) {
			if peer == h.self {
				return nil, fmt.Errorf("that is this node")
			}
			certificate, err := port.UnpackCertificate(payload)
			if err != nil {
				return nil, err
			}
			if err := h.checkCertificate(certificate, peer); err != nil {
				return nil, err
			}
			return port.PackCertificate(h.ownCertificate(), port.ReplyCertificateSpace)
		},
	}
}

func (h *Host) params() noise.Params { return port.MeshParams(h.o.MeshID, h.o.Secret.PSK()) }

// ownCertificate returns the bytes of this node's certificate, none if it has none.
func (h *Host) ownCertificate() []byte {
	s, ok := h.o.Set.Certificate(h.self, passport.TimeOf(h.o.Now()))
	if !ok {
		return nil
	}
	return s.Bytes()
}

// dialMember connects to a member: the handshake of version 3.
func (h *Host) dialMember(ctx context.Context, address string, key noise.PublicKey) (secureConn, error) {
	payload, err := port.PackCertificate(h.ownCertificate(), port.CertificateSpace)
	if err != nil {
		return nil, err
	}
	conn, reply, err := port.Dial(ctx, address, h.params(), h.o.Key, key, h.o.Stamps, payload)
	if err != nil {
		return nil, err
	}
	certificate, err := port.UnpackCertificate(reply)
	if err == nil {
		err = h.checkCertificate(certificate, key)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("certificate of %s: %w", key.Short(), err)
	}
	return conn, nil
}

// AddPeer tells of a node, as the user does or an invitation. It is remembered and
// dialled, now and again.
func (h *Host) AddPeer(key noise.PublicKey, addresses ...string) {
	if key == h.self || key.Check() != nil {
		return
	}
	h.book.learn(key, validAddresses(addresses), true, h.o.Now())
	h.savePeer(key)
	h.book.poke()
}

// loadPeers reads the peers of earlier runs. What stands there is dialled at once.
func (h *Host) loadPeers() error {
	now := h.o.Now()
	err := h.o.Peers.Peers(func(key noise.PublicKey, addresses []string, _ passport.Time) bool {
		if key != h.self {
			h.book.learn(key, validAddresses(addresses), false, now)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("p2p: read the peers: %w", err)
	}
	return nil
}

func validAddresses(addresses []string) (valid []string) {
	for _, a := range addresses {
		if validAddress(a) {
			valid = append(valid, a)
		}
	}
	return valid
}

// dialPeers dials whoever is due, until the host is closed.
func (h *Host) dialPeers() {
	for h.ctx.Err() == nil {
		now := h.o.Now()
		keys, next := h.book.due(now, len(h.o.Set.Members(passport.TimeOf(now)))-1)
		for _, key := range keys {
			h.goDo(func() { h.dialPeer(key) })
		}
		// Once a minute in any case: the clock may have been set, a member may be new.
		pause := time.Minute
		if !next.IsZero() {
			pause = min(pause, max(next.Sub(now), 10*time.Millisecond))
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-h.book.changed:
		case <-h.ctx.Done():
		}
		t.Stop()
	}
}

// dialPeer tries all addresses of a peer once.
func (h *Host) dialPeer(key noise.PublicKey) {
	err := h.dialOnce(key)
	if err != nil {
		h.book.failed(key, h.o.Now())
		if h.ctx.Err() == nil {
			h.log.Debug("peer not reached", "peer", key.Short(), "error", err)
		}
		return
	}
	h.book.dialed(key)
}

func (h *Host) dialOnce(key noise.PublicKey) error {
	id, err := peerID(key)
	if err != nil {
		return err
	}
	var addresses []ma.Multiaddr
	for _, a := range h.book.addresses(key) {
		if m, err := multiaddr(a); err == nil {
			addresses = append(addresses, m)
		}
	}
	store := h.libp2p.Peerstore()
	store.ClearAddrs(id)
	store.AddAddrs(id, addresses, peerstore.TempAddrTTL)
	h.swarm().Backoff().Clear(id) // ours counts
	_, err = h.swarm().DialPeer(network.WithDialPeerTimeout(h.ctx, dialTimeout), id)
	return err
}

// remember has the peer book remember a neighbour.
func (n *neighbour) remember() { n.h.savePeer(n.key) }
