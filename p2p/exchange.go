package p2p

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
	"golang.org/x/sync/errgroup"

	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// welcome runs /asmtp/mesh/1 on the first stream of a new connection, opened by the
// side that dialled. libp2p does not know of the connection before.
func (h *Host) welcome(ctx context.Context, m muxed, dir network.Direction, key noise.PublicKey) error {
	if key == h.self {
		return errors.New("that is this node")
	}
	s, err := firstStream(ctx, m, dir)
	if err != nil {
		return err
	}
	err = h.exchange(ctx, timed{s: s, limit: h.timeout}, key)
	if err == nil && !h.isMember(key) {
		err = errNoMember
	}
	if err != nil {
		s.Reset()
		return err
	}
	return s.Close()
}

func firstStream(ctx context.Context, m muxed, dir network.Direction) (network.MuxedStream, error) {
	if dir == network.DirOutbound {
		s, err := m.OpenStream(ctx)
		if err != nil {
			return nil, err
		}
		return s, multistream.SelectProtoOrFail(meshProtocol, s)
	}
	s, err := m.AcceptStream()
	if err != nil {
		return nil, err
	}
	if err := s.SetDeadline(time.Now().Add(welcomeTimeout)); err != nil {
		return nil, err
	}
	mux := multistream.NewMultistreamMuxer[protocol.ID]()
	mux.AddHandler(meshProtocol, nil)
	_, _, err = mux.Negotiate(s)
	return s, err
}

// serveMesh runs the exchange when a neighbour's set of statements has grown.
func (h *Host) serveMesh(ctx context.Context, key noise.PublicKey, t timed) error {
	return h.exchange(ctx, t, key)
}

// tellStatements runs the exchange when our own set has grown.
func (n *neighbour) tellStatements() {
	for {
		select {
		case <-n.statements:
		case <-n.ctx.Done():
			return
		}
		n.keepStream(meshProtocol, func(ctx context.Context, t timed) error { return n.h.exchange(ctx, t, n.key) })
	}
}

// exchange gives the peer the statements that it lacks and the addresses that we
// know, and takes the same from it.
func (h *Host) exchange(ctx context.Context, t timed, key noise.PublicKey) error {
	g, ctx := errgroup.WithContext(ctx)
	// Who waits for the other side's next message is woken when our own half failed.
	defer context.AfterFunc(ctx, func() { t.s.SetReadDeadline(time.Unix(1, 0)) })()
	theirs := make(chan hello, 1)
	kept := make(chan struct{})
	g.Go(func() error { return h.give(ctx, t, theirs, kept) })
	g.Go(func() error { return h.take(ctx, t, key, theirs, kept) })
	return g.Wait()
}

// give is the sending half of an exchange.
func (h *Host) give(ctx context.Context, t timed, theirs <-chan hello, kept <-chan struct{}) error {
	hashes := h.o.Set.Hashes()
	mine := hello{version: h.o.Version, hashes: hashes[:min(len(hashes), maxHashes)]}
	if err := t.write(kindHello, mine.encode()); err != nil {
		return err
	}
	select {
	case peer := <-theirs:
		for _, body := range encodeStatements(h.o.Set.Missing(peer.hashes)) {
			if err := t.write(kindStatements, body); err != nil {
				return err
			}
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := t.write(kindAddresses, encodeAddresses(h.addressesToTell())); err != nil {
		return err
	}
	select {
	case <-kept:
		return t.write(kindDone, nil)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take is the receiving half.
func (h *Host) take(ctx context.Context, t timed, key noise.PublicKey, theirs chan<- hello, kept chan<- struct{}) error {
	body, err := t.expect(kindHello, maxHello)
	if err != nil {
		return err
	}
	peer, err := parseHello(body)
	if err != nil {
		return err
	}
	theirs <- peer
	statements, addresses, err := takeAll(t)
	if err != nil {
		return err
	}
	if err := h.addStatements(ctx, key, statements); err != nil {
		return err
	}
	h.learn(key, addresses)
	h.book.version(key, peer.version)
	close(kept)
	_, err = t.expect(kindDone, 0)
	return err
}

// takeAll reads what the other side has to give.
func takeAll(t timed) (statements []*mesh.Statement, addresses []told, err error) {
	for count := 0; ; {
		m, err := t.read(max(maxStatementsSize, maxAddressesSize))
		if err != nil {
			return nil, nil, err
		}
		switch m.kind {
		case kindStatements:
			raws, err := parseStatements(m.body)
			if err != nil {
				return nil, nil, err
			}
			if count += len(raws); count > maxHashes {
				return nil, nil, foreign("more than %d statements", maxHashes)
			}
			for _, raw := range raws {
				s, err := mesh.ParseStatement(raw)
				if errors.Is(err, mesh.ErrNewer) {
					continue // kept and passed on by those who can obey it
				}
				if err != nil {
					return nil, nil, foreign("%v", err)
				}
				statements = append(statements, s)
			}
		case kindAddresses:
			addresses, err = parseAddresses(m.body)
			return statements, addresses, err
		default:
			return nil, nil, foreign("message %d in the exchange", m.kind)
		}
	}
}

// addStatements takes what is new into the set, keeps it on disk, then tells others.
func (h *Host) addStatements(ctx context.Context, from noise.PublicKey, statements []*mesh.Statement) error {
	if len(statements) == 0 {
		return nil
	}
	var added [][]byte
	for _, s := range statements {
		ok, err := h.o.Set.Add(s)
		if err != nil {
			h.log.Debug("statement not taken", "peer", from.Short(), "kind", s.Kind().String(), "error", err)
			continue
		}
		if ok {
			added = append(added, s.Bytes())
		}
	}
	if len(added) == 0 {
		return nil
	}
	if err := h.o.Statements.PutStatements(ctx, added); err != nil {
		return fmt.Errorf("keep statements: %w", err)
	}
	h.log.Info("learned statements", "peer", from.Short(), "count", len(added))
	h.statementsChanged(from)
	return nil
}

// statementsChanged tells all neighbours but one, and drops those that are members
// no more.
func (h *Host) statementsChanged(but noise.PublicKey) {
	for _, n := range h.allNeighbours() {
		if n.key != but {
			select {
			case n.statements <- struct{}{}:
			default:
			}
		}
	}
	h.goDo(h.checkMembers)
}

// addressesToTell returns where this node is, and where other members are.
func (h *Host) addressesToTell() []told {
	var all []told
	if len(h.o.Addresses) > 0 {
		all = append(all, told{h.self, validOf(h.o.Addresses)})
	}
	for _, p := range h.book.peers() {
		if len(all) == maxTold {
			break
		}
		if addresses := validOf(p.Addresses); len(addresses) > 0 && h.isMember(p.ID) {
			all = append(all, told{p.ID, addresses})
		}
	}
	return all
}

func validOf(addresses []string) []string {
	valid := validAddresses(addresses)
	return valid[:min(len(valid), maxAddresses)]
}

// learn takes what a peer said about members.
func (h *Host) learn(from noise.PublicKey, all []told) {
	now := h.o.Now()
	for _, t := range all {
		if t.key == h.self || len(t.addresses) == 0 || !h.isMember(t.key) {
			continue
		}
		if h.book.learn(t.key, t.addresses, t.key == from, now) {
			h.savePeer(t.key)
		}
	}
	h.book.poke()
}

// savePeer has the peer book remember a peer.
func (h *Host) savePeer(key noise.PublicKey) {
	addresses, seen := h.book.saved(key)
	err := h.o.Peers.PutPeer(h.ctx, key, addresses, passport.TimeOf(seen))
	if err != nil && h.ctx.Err() == nil {
		h.log.Warn("peer not remembered", "peer", key.Short(), "error", err)
	}
}

// checkCertificate looks at the certificate with which a node came, or answered.
func (h *Host) checkCertificate(certificate []byte, key noise.PublicKey) error {
	if len(certificate) == 0 {
		return errNoMember
	}
	s, err := mesh.ParseStatement(certificate)
	if err != nil {
		return err
	}
	return h.o.Set.CheckCertificate(s, key, passport.TimeOf(h.o.Now()))
}
