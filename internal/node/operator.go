package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// operator is the node behind its control socket.
type operator struct{ n *Node }

var _ control.Backend = operator{}

func (o operator) Status(ctx context.Context) (*control.Status, error) {
	n := o.n
	m := n.membership.Load()
	names, err := n.users.names()
	if err != nil {
		return nil, err
	}
	peers, err := o.PeerList(ctx)
	if err != nil {
		return nil, err
	}
	s := &control.Status{
		ID: n.ID(), Version: n.o.Version, Started: n.started, Listen: n.Addr(), Public: n.addresses(),
		Mesh: m.id, Members: len(m.set.Members(n.time())), Peers: peers, Config: n.o.Config,
		Users: len(names), Sessions: n.api.Sessions(), TagKeys: n.spool.Keys(), Generation: n.spool.Generation(),
	}
	o.overlay(s)
	if err := n.room(s); err != nil {
		return nil, err
	}
	return s, nil
}

func (o operator) UserList(context.Context) (*control.Users, error) {
	names, err := o.n.users.names()
	if err != nil {
		return nil, err
	}
	list := &control.Users{Users: []control.User{}, Knocked: []control.Knock{}}
	for _, name := range names {
		u := control.User{Name: control.UserName(name.name), Source: control.SourceAdded, Added: name.added, Keys: []noise.PublicKey{}}
		if name.file {
			u.Source = control.SourceFile
		}
		o.describe(&u)
		list.Users = append(list.Users, u)
	}
	for _, k := range o.n.users.refused() {
		list.Knocked = append(list.Knocked, control.Knock{Key: k.key, Address: k.addr, Time: k.at, Reason: errNoUser.Error()})
	}
	return list, nil
}

// describe fills in the passport of a user and the keys that may connect by it.
func (o operator) describe(u *control.User) {
	if key, ok := u.Name.Key(); ok {
		if o.n.users.Admitted(key) {
			u.Keys = append(u.Keys, key)
		}
		u.Passport, _ = o.n.store.PassportOf(key)
		return
	}
	id, _ := u.Name.Passport()
	u.Passport = id
	if p, err := o.n.store.Passport(id); err == nil { // else it was not published yet
		u.Keys = p.Active()
	}
}

func (o operator) UserAdd(ctx context.Context, name control.UserName) (added bool, err error) {
	if o.n.users.listed(string(name)) {
		return false, nil
	}
	if err := o.n.users.add(ctx, string(name)); err != nil {
		return false, err
	}
	o.n.usersChanged.notify()
	return true, nil
}

func (o operator) UserRemove(ctx context.Context, name control.UserName) error {
	err := o.n.users.remove(ctx, string(name))
	switch {
	case errors.Is(err, errInFile):
		return fmt.Errorf("%w: %w", control.ErrConflict, err)
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%w: no user %s", control.ErrNotFound, name)
	case err != nil:
		return err
	}
	o.n.usersChanged.notify()
	return o.stillAdmitted(name)
}

// stillAdmitted says by what else a user that was removed may connect, since who removes
// it means to lock it out.
func (o operator) stillAdmitted(name control.UserName) error {
	if key, ok := name.Key(); ok {
		if id, ok := o.n.users.User(key); ok {
			return fmt.Errorf("%w: removed, but its passport still admits it: asmtpd user remove %s", control.ErrConflict, id)
		}
		return nil
	}
	id, _ := name.Passport()
	p, err := o.n.store.Passport(id)
	if err != nil {
		return nil // never published: it admitted nobody
	}
	for _, key := range p.Active() {
		if o.n.users.listed(key.String()) {
			return fmt.Errorf("%w: removed, but its device still is a user: asmtpd user remove %s", control.ErrConflict, key)
		}
	}
	return nil
}

func (o operator) UserReset(ctx context.Context, key noise.PublicKey) error {
	return o.n.store.ForgetStamps(ctx, byte(port.Client), key)
}

func (o operator) UserInvite(ctx context.Context, i control.Invite) (string, error) {
	return o.n.newLine(ctx, mesh.LineUser, i)
}

func (o operator) PeerList(context.Context) ([]control.Peer, error) {
	list := []control.Peer{}
	h := o.n.host.Load()
	if h == nil {
		return list, nil
	}
	reconciled := h.Reconciled().Peers
	for _, p := range h.Peers() {
		peer := control.Peer{ID: p.ID, Addresses: p.Addresses, Connected: p.Connected, Since: p.Since, Version: p.Version}
		if p.ClockKnown {
			offset := p.Clock.Seconds()
			peer.Clock = &offset
		}
		if r, ok := reconciled[p.ID]; ok {
			peer.Reconciled = &control.PeerReconciled{Last: r.Last, RoundTrips: r.RoundTrips, Bytes: r.Bytes,
				Lacking: r.Lacking, Missing: r.Missing, Refused: r.Refused, Gone: r.Gone, Error: r.Err}
		}
		list = append(list, peer)
	}
	return list, nil
}

// overlay fills in what the host of the moment knows.
func (o operator) overlay(s *control.Status) {
	h := o.n.host.Load()
	if h == nil {
		return
	}
	r := h.Reconciled()
	s.Reconciled = control.Reconciled{Last: r.Last, Sessions: r.Sessions, Failed: r.Failed, Bytes: r.Bytes,
		Lacking: r.Lacking, Missing: r.Missing, Fetched: r.Fetched}
	for _, p := range s.Peers {
		s.Clock.Known = s.Clock.Known || p.Connected && p.Clock != nil
	}
	offset, wrong := h.ClockOff()
	s.Clock.Offset, s.Clock.Wrong = offset.Seconds(), wrong
}

func (o operator) PeerAdd(_ context.Context, id noise.PublicKey, addresses []string) error {
	h := o.n.host.Load()
	if h == nil {
		return fmt.Errorf("%w: the node is changing its mesh", control.ErrConflict)
	}
	h.AddPeer(id, addresses...)
	return nil
}

func (o operator) MeshInvite(ctx context.Context, i control.Invite) (string, error) {
	return o.n.newLine(ctx, mesh.LineMesh, i)
}

func (o operator) MeshMembers(context.Context) ([]control.Member, error) {
	n := o.n
	m := n.membership.Load()
	var connected []noise.PublicKey
	if h := n.host.Load(); h != nil {
		for _, p := range h.Peers() {
			if p.Connected {
				connected = append(connected, p.ID)
			}
		}
	}
	list := []control.Member{}
	for _, key := range m.set.Members(n.time()) {
		member := control.Member{ID: key, Self: key == n.ID(), Connected: slices.Contains(connected, key)}
		if s, ok := m.set.Certificate(key, n.time()); ok {
			c, _ := s.Certificate()
			member.Until = passport.Time(c.NotAfter).Time()
		}
		list = append(list, member)
	}
	return list, nil
}

func (o operator) Join(ctx context.Context, line string) error {
	err := o.n.join(ctx, line)
	switch {
	case errors.Is(err, ErrOtherMesh):
		return fmt.Errorf("%w: %w", control.ErrConflict, err)
	case errors.Is(err, port.ErrNoAnswer):
		return fmt.Errorf("%w: %w", control.ErrUnreachable, err)
	}
	return err
}
