package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/durable"
	"github.com/asmtp/asmtp/internal/invite"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// joinName is the file that holds an invitation until it is used, so that a restart
// goes on trying. It is as secret as the invitation.
const joinName = "join"

// Waits between two tries to join.
const (
	joinFirst   = time.Second
	joinLongest = 2 * time.Minute
)

// ErrOtherMesh is wrapped by the error for an invitation to a mesh, given to a node that
// is in another one with others.
var ErrOtherMesh = errors.New("the node is in another mesh with others already")

// prepareJoin keeps an invitation to be used when the node runs.
func (n *Node) prepareJoin(text string) error {
	if text == "" {
		return nil
	}
	line, err := n.checkJoin(text)
	if err != nil {
		return err
	}
	if line == nil { // in that mesh already: an older invitation is of no use any more
		return removeIfThere(filepath.Join(n.o.Data, joinName))
	}
	return durable.Replace(filepath.Join(n.o.Data, joinName), []byte(text))
}

// checkJoin reads an invitation and reports whether this node can follow it; line is nil
// if it is in that mesh already.
func (n *Node) checkJoin(text string) (*mesh.Line, error) {
	line, err := mesh.ParseLine(text, mesh.LineMesh)
	if err != nil {
		return nil, err
	}
	m := n.membership.Load()
	if line.Mesh == m.id {
		return nil, nil
	}
	if err := line.CheckEnd(n.now()); err != nil {
		return nil, err
	}
	if !m.alone(n.ID(), n.time()) {
		return nil, fmt.Errorf("%w: mesh %s", ErrOtherMesh, m.id)
	}
	return line, nil
}

// runJoin uses the invitation that is kept, if there is one. It tries until the inviter
// lets this node in, or says that it never will, which is an error: the operator
// asked for it and has to know.
func (n *Node) runJoin(ctx context.Context) error {
	file := filepath.Join(n.o.Data, joinName)
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	wait := joinFirst
	for {
		err := n.join(ctx, string(b))
		switch {
		case err == nil:
			return os.Remove(file)
		case ctx.Err() != nil:
			return nil
		case final(err) && n.o.Join != "":
			return errors.Join(err, os.Remove(file))
		case final(err): // of an earlier start: the node itself is well
			n.log.Error("an invitation cannot be used, and is given up", "err", err)
			return os.Remove(file)
		}
		n.log.Warn("the inviter does not answer; trying again", "in", wait, "err", err)
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		wait = min(2*wait, joinLongest)
	}
}

// final reports whether trying again cannot help.
func final(err error) bool {
	if _, wrong := errors.AsType[*mesh.WrongKindError](err); wrong {
		return true
	}
	for _, e := range []error{mesh.ErrMistyped, mesh.ErrCut, mesh.ErrNoLine, invite.ErrUsed, invite.ErrEnded, invite.ErrNotAllowed, mesh.ErrEnded, ErrOtherMesh} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// join follows an invitation: it calls the inviter at each of its addresses, and makes what
// it hands over this node's mesh. In the mesh of the invitation it does nothing.
func (n *Node) join(ctx context.Context, text string) error {
	n.joining.Lock()
	defer n.joining.Unlock()
	line, err := n.checkJoin(text)
	if err != nil || line == nil {
		return err
	}
	reply, err := n.ask(ctx, line)
	if err != nil {
		return fmt.Errorf("join mesh %s: %w", line.Mesh, err)
	}
	m, err := n.accept(ctx, line, reply)
	if err != nil {
		return fmt.Errorf("join mesh %s: %w", line.Mesh, err)
	}
	n.log.Info("joined a mesh", "mesh", m.id)
	select {
	case n.rejoined <- struct{}{}:
	default: // the overlay has not taken up the last change yet; it will see this one too
	}
	return nil
}

func (n *Node) ask(ctx context.Context, line *mesh.Line) (*invite.Reply, error) {
	payload, err := port.PackCertificate(nil, port.CertificateSpace)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, addr := range line.Addresses {
		conn, _, err := port.Dial(ctx, addr, port.JoinParams(line.Token), n.o.Key, line.Node, n.store, payload)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		reply, err := invite.Ask(ctx, conn, invite.JoinMesh)
		conn.Close()
		if err == nil {
			return reply, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// accept checks what the inviter handed over and makes it this node's mesh.
func (n *Node) accept(ctx context.Context, line *mesh.Line, reply *invite.Reply) (*membership, error) {
	set, err := mesh.ParseSet(line.Mesh, reply.Statements)
	if err != nil {
		return nil, err
	}
	cert, err := mesh.ParseStatement(reply.Certificate)
	if err != nil {
		return nil, err
	}
	if err := set.CheckCertificate(cert, n.ID(), n.time()); err != nil {
		return nil, err
	}
	if _, err := set.Add(cert); err != nil {
		return nil, err
	}
	if reply.Secret.IsZero() {
		return nil, errors.New("the inviter handed over no secret")
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	if old := n.membership.Load(); !old.alone(n.ID(), n.time()) { // a guest came while the inviter was asked
		return nil, fmt.Errorf("%w: mesh %s", ErrOtherMesh, old.id)
	}
	// The certificate first: what does not fit into one step of the store is of less use.
	statements := append([][]byte{reply.Certificate}, reply.Statements...)
	if err := n.store.SetMesh(ctx, set.ID(), reply.Secret, nil, statements...); err != nil {
		return nil, err
	}
	peers := append(reply.Peers, invite.Peer{Key: line.Node, Addresses: line.Addresses})
	for _, p := range peers {
		if p.Key == n.ID() || len(p.Addresses) == 0 {
			continue
		}
		if err := n.store.PutPeer(ctx, p.Key, p.Addresses, n.time()); err != nil {
			return nil, err
		}
	}
	m := &membership{id: set.ID(), secret: reply.Secret, set: set}
	n.membership.Store(m)
	return m, nil
}

// Kinds of tokens in the store.
const (
	tokenMesh = byte(invite.JoinMesh)
	tokenUser = byte(invite.BeUser)
)

// token finds the token of a hint, also one that ended or is used up: who has it is told so.
func (n *Node) token(hint []byte) (kind byte, token mesh.Token, end passport.Time, ok bool) {
	err := n.store.Tokens(func(k byte, t mesh.Token, _ uint32, e passport.Time) bool {
		if h := t.Hint(); string(h[:]) == string(hint) {
			kind, token, end, ok = k, t, e, true
		}
		return !ok
	})
	if err != nil {
		n.log.Error("tokens cannot be read", "err", err)
		return 0, mesh.Token{}, 0, false
	}
	return kind, token, end, ok
}

func (n *Node) joinGate() port.Gate {
	return port.Gate{
		Params: func(hint []byte) (noise.Params, bool) {
			_, token, _, ok := n.token(hint)
			return port.JoinParams(token), ok
		},
		Admit: func(noise.PublicKey, []byte) ([]byte, error) {
			return port.PackCertificate(nil, port.ReplyCertificateSpace) // the psk has proved the token
		},
	}
}

// maxGuests bounds the invitations that are answered at once.
const maxGuests = 16

// serveInvitations lets in who comes with a token.
func (n *Node) serveInvitations(ctx context.Context) error {
	ln := n.port.Listener(port.Join)
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxGuests)
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			defer c.Close()
			if err := n.serveGuest(ctx, c.(*port.JoinConn)); err != nil && ctx.Err() == nil {
				n.log.Info("invitation not used", "addr", c.RemoteAddr(), "err", err)
			}
		})
	}
}

func (n *Node) serveGuest(ctx context.Context, c *port.JoinConn) error {
	kind, token, end, ok := n.token(c.Hint[:])
	if !ok {
		return errors.New("the token is gone")
	}
	guest := c.PeerKey()
	return invite.Answer(ctx, c, func(ctx context.Context, asked invite.Kind) (*invite.Reply, error) {
		if byte(asked) != kind {
			return nil, invite.ErrNotAllowed
		}
		if end < n.time() {
			return nil, invite.ErrEnded
		}
		if asked == invite.BeUser {
			return nil, n.letUserIn(ctx, guest, token)
		}
		return n.letNodeIn(ctx, guest, token)
	})
}

// letUserIn admits a device. One that was let in already asked again because the answer
// was lost; it uses up nothing.
func (n *Node) letUserIn(ctx context.Context, guest noise.PublicKey, token mesh.Token) error {
	if n.users.Admitted(guest) {
		return nil
	}
	if n.users.removed(guest) { // no list can let in what its own passport removed
		return invite.ErrNotAllowed
	}
	if ok, err := n.store.Admit(ctx, tokenUser, token.Hash(), store.Admission{User: guest.String(), Added: n.now()}); err != nil {
		return err
	} else if !ok {
		return invite.ErrUsed
	}
	n.usersChanged.notify()
	n.log.Info("a device came by invitation", "key", guest.Short())
	return nil
}

// letNodeIn certifies a node, and hands over what a member needs.
func (n *Node) letNodeIn(ctx context.Context, guest noise.PublicKey, token mesh.Token) (*invite.Reply, error) {
	m := n.membership.Load()
	if m.founder == nil {
		return nil, invite.ErrNotAllowed
	}
	now := n.time()
	cert, ok := m.set.Certificate(guest, now)
	if !ok {
		cert = mesh.Certify(m.founder, m.id, guest, now, mesh.MaxCertificateDays)
		err := n.stateBy(m, cert, func() error {
			took, err := n.store.Admit(ctx, tokenMesh, token.Hash(), store.Admission{Statements: [][]byte{cert.Bytes()}})
			if err == nil && !took {
				err = invite.ErrUsed
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		n.log.Info("a node came by invitation", "key", guest.Short())
	}
	reply := &invite.Reply{
		Secret: m.secret, Certificate: cert.Bytes(),
		Peers: []invite.Peer{{Key: n.ID(), Addresses: n.addresses()}},
	}
	for _, s := range m.set.Statements() {
		reply.Statements = append(reply.Statements, s.Bytes())
	}
	err := n.store.Peers(func(key noise.PublicKey, addresses []string, _ passport.Time) bool {
		if key != guest && len(addresses) > 0 {
			reply.Peers = append(reply.Peers, invite.Peer{Key: key, Addresses: addresses[:min(len(addresses), invite.MaxAddresses)]})
		}
		return len(reply.Peers) < invite.MaxPeers
	})
	return reply, err
}

// newLine makes an invitation of a kind and keeps its token.
func (n *Node) newLine(ctx context.Context, kind mesh.LineKind, o control.Invite) (string, error) {
	if o.Uses == 0 {
		o.Uses = 1
	}
	if o.Days == 0 {
		o.Days = 7
	}
	token, err := mesh.NewToken(nil)
	if err != nil {
		return "", err
	}
	m := n.membership.Load()
	end := n.time().Add(time.Duration(o.Days) * 24 * time.Hour)
	line := mesh.Line{Kind: kind, Mesh: m.id, Node: n.ID(), Addresses: n.addresses(), Token: token, End: end}
	text, err := line.Text()
	if err != nil {
		return "", err
	}
	tokenKind := tokenUser
	if kind == mesh.LineMesh {
		tokenKind = tokenMesh
		if m.founder == nil {
			return "", fmt.Errorf("%w: only the node that founded the mesh may invite to it; ask its operator", control.ErrDenied)
		}
		if err := n.state(ctx, m, mesh.NewInvitation(m.founder, m.id, token, uint32(o.Uses), end, n.time())); err != nil {
			return "", err
		}
	}
	if err := n.store.PutToken(ctx, tokenKind, token, uint32(o.Uses), end); err != nil {
		return "", err
	}
	return text, nil
}

// addresses are where others can reach this node: what the operator says, else the one it
// listens on, else those of the machine that are not for itself alone.
func (n *Node) addresses() []string {
	if len(n.o.Public) > 0 {
		return n.o.Public[:min(len(n.o.Public), mesh.MaxAddresses)]
	}
	tcp, ok := n.ln.Addr().(*net.TCPAddr)
	if !ok {
		return nil
	}
	if !tcp.IP.IsUnspecified() {
		return []string{tcp.String()}
	}
	var list []string
	all, err := net.InterfaceAddrs()
	if err != nil {
		n.log.Warn("addresses of this machine cannot be read", "err", err)
	}
	for _, a := range all {
		ip, ok := a.(*net.IPNet)
		if ok && ip.IP.IsGlobalUnicast() && len(list) < mesh.MaxAddresses {
			list = append(list, net.JoinHostPort(ip.IP.String(), fmt.Sprint(tcp.Port)))
		}
	}
	if len(list) == 0 {
		list = []string{net.JoinHostPort("127.0.0.1", fmt.Sprint(tcp.Port))}
	}
	return list
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
