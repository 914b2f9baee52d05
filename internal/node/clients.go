package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/internal/spool"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// clientGate admits the devices of users.
func (n *Node) clientGate() port.Gate {
	return port.Gate{
		Params: func([]byte) (noise.Params, bool) { return port.ClientParams(), true },
		Admit: func(device noise.PublicKey, _ []byte) ([]byte, error) {
			if !n.users.Admitted(device) {
				return nil, errNoUser
			}
			return nil, nil
		},
	}
}

var errNoUser = errors.New("the device is no user of this node")

// onRefuse remembers the devices that were refused for being no user.
func (n *Node) onRefuse(r port.Refusal) {
	if r.Version == port.Client && r.Key != nil && errors.Is(r.Err, errNoUser) {
		n.users.knocked(*r.Key, r.Addr.String())
	}
}

// clients is the node behind its clients' server.
type clients struct{ n *Node }

var _ clientapi.Backend = clients{}

func (c clients) Admitted(device noise.PublicKey) bool            { return c.n.users.Admitted(device) }
func (c clients) User(device noise.PublicKey) (passport.ID, bool) { return c.n.users.User(device) }
func (c clients) WaitUsers() <-chan struct{}                      { return c.n.usersChanged.wait() }
func (c clients) Generation() uint64                              { return c.n.spool.Generation() }
func (c clients) Wait(user passport.ID) <-chan struct{}           { return c.n.spool.Wait(user) }
func (c clients) Expect(user passport.ID) (<-chan envelope.Early, func()) {
	return c.n.spool.Expect(user)
}
func (c clients) WaitCustody() <-chan struct{}        { return c.n.custodyChanged.wait() }
func (c clients) WaitPassports() <-chan struct{}      { return c.n.passportsChanged.wait() }
func (c clients) Custody(id envelope.ID) (int, error) { return c.n.holders(id) }

func (c clients) Status(_ context.Context, user passport.ID) (clientapi.Status, error) {
	n := c.n
	m := n.membership.Load()
	charter := m.set.Charter()
	usage, err := n.store.Usage()
	if err != nil {
		return clientapi.Status{}, err
	}
	s := clientapi.Status{
		Node: n.ID(), Version: n.o.Version, Time: n.now(), Mesh: m.id,
		MailLimit: charter.MailLimit, Retention: charter.Retention,
		Members:   len(m.set.Members(n.time())),
		Envelopes: usage.Total().Sum().Count, Bytes: usage.Total().Sum().Bytes,
		Addresses: n.addresses(),
	}
	if h := n.host.Load(); h != nil {
		for _, p := range h.Peers() {
			if p.Connected {
				s.Peers++
			}
		}
	}
	if !user.IsZero() {
		s.TagKeys = n.spool.UserKeys(user)
		if s.LastNumber, err = n.spool.LastNumber(user); err != nil {
			return clientapi.Status{}, err
		}
	}
	return s, nil
}

func (c clients) RegisterTagKeys(ctx context.Context, user passport.ID, keys []envelope.TagKey) error {
	err := c.n.spool.RegisterTagKeys(ctx, user, keys)
	if errors.Is(err, spool.ErrTooManyKeys) {
		return fmt.Errorf("%w: %w", clientapi.ErrLimit, err)
	}
	return err
}

func (c clients) DeregisterTagKeys(ctx context.Context, user passport.ID, handles []envelope.Handle) error {
	return c.n.spool.DeregisterTagKeys(ctx, user, handles)
}

func (c clients) Deliveries(user passport.ID, after uint64, limit int) ([]envelope.Delivery, error) {
	return c.n.spool.Deliveries(user, after, limit)
}

func (c clients) DeliveriesOf(user passport.ID, large bool, after uint64, limit int) ([]envelope.Delivery, uint64, error) {
	return c.n.spool.DeliveriesOf(user, large, after, limit)
}

func (c clients) Acknowledge(ctx context.Context, user passport.ID, device noise.PublicKey, numbers []uint64) error {
	return c.n.spool.Acknowledge(ctx, user, device, numbers)
}

func (c clients) Missing(ids []envelope.ID) ([]envelope.ID, error) {
	return c.n.spool.Missing(ids), nil
}

// Submit takes in envelopes of an own user; zero as the neighbour says so.
func (c clients) Submit(ctx context.Context, _ passport.ID, _ noise.PublicKey, envelopes []*envelope.Envelope) ([]clientapi.Refusal, error) {
	results, err := c.n.spool.Put(ctx, noise.PublicKey{}, envelopes)
	if err != nil {
		return nil, err
	}
	var refused []clientapi.Refusal
	for i, r := range results {
		if r.Err != nil {
			refused = append(refused, clientapi.Refusal{ID: envelopes[i].ID(), Reason: reasonOf(r.Err), Text: r.Err.Error()})
		}
	}
	return refused, nil
}

func reasonOf(err error) clientapi.Reason {
	switch {
	case errors.Is(err, spool.ErrFull):
		return clientapi.ReasonFull
	case errors.Is(err, spool.ErrExpired):
		return clientapi.ReasonEnded
	case errors.Is(err, spool.ErrTooFar):
		return clientapi.ReasonTooFar
	case errors.Is(err, spool.ErrMalformed):
		return clientapi.ReasonInvalid
	}
	return clientapi.ReasonOther
}

// PutPassport takes in the passport of a device. That of another is none of its business.
func (c clients) PutPassport(ctx context.Context, device noise.PublicKey, p *passport.Passport) error {
	if !p.IsActive(device) {
		return fmt.Errorf("%w: the device is not active in the passport that it sent", clientapi.ErrInvalid)
	}
	if other, ok := c.n.store.PassportOf(device); ok && other != p.ID() {
		return fmt.Errorf("%w: the device belongs to passport %s already", clientapi.ErrInvalid, other)
	}
	changed, err := c.n.store.PutPassport(ctx, p)
	if err != nil {
		return err
	}
	if err := c.n.users.bringIn(ctx, device, p); err != nil {
		return err
	}
	c.n.usersChanged.notify()
	if !changed {
		return nil
	}
	c.n.passportsChanged.notify()
	if h := c.n.host.Load(); h != nil {
		h.PassportChanged(p.ID())
	}
	return nil
}

func (c clients) Passport(id passport.ID) (*passport.Passport, error) { return c.n.store.Passport(id) }

func (c clients) PassportsChanged(after uint64, fn func(number uint64, id passport.ID) bool) error {
	return c.n.store.PassportsChanged(after, fn)
}
