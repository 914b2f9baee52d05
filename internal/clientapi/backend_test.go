package clientapi_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// signal hands out channels that close at the next event.
type signal struct{ c chan struct{} }

func (s *signal) wait() <-chan struct{} {
	if s.c == nil {
		s.c = make(chan struct{})
	}
	return s.c
}

func (s *signal) notify() {
	if s.c != nil {
		close(s.c)
		s.c = nil
	}
}

// node stands for a node: all in memory, one user, obeying the contract of Backend.
type node struct {
	mu sync.Mutex

	admitted map[noise.PublicKey]bool
	user     map[noise.PublicKey]passport.ID
	users    signal

	status     clientapi.Status
	generation uint64
	keys       []envelope.TagKey
	calls      int // of RegisterTagKeys

	mailbox []envelope.Delivery
	mail    signal
	early   chan envelope.Early
	acked   []uint64

	stored  map[envelope.ID][]byte
	largest int // bytes of one call of Submit
	refuse  map[envelope.ID]clientapi.Refusal
	busy    chan struct{} // if not nil, Submit waits for it

	custody  map[envelope.ID]int
	custodyC signal

	passports map[passport.ID]*passport.Passport
	changes   []passport.ID // change n+1
	passportC signal

	fail error // of what can fail
}

func newNode(admitted ...noise.PublicKey) *node {
	n := &node{
		admitted: make(map[noise.PublicKey]bool), user: make(map[noise.PublicKey]passport.ID),
		stored: make(map[envelope.ID][]byte), refuse: make(map[envelope.ID]clientapi.Refusal),
		custody: make(map[envelope.ID]int), passports: make(map[passport.ID]*passport.Passport), generation: 7,
	}
	for _, key := range admitted {
		n.admitted[key] = true
	}
	return n
}

func (n *node) Admitted(key noise.PublicKey) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.admitted[key]
}

func (n *node) User(key noise.PublicKey) (passport.ID, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id, ok := n.user[key]
	return id, ok
}

func (n *node) revoke(key noise.PublicKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.admitted[key] = false
	n.users.notify()
}

func (n *node) WaitUsers() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.users.wait()
}

func (n *node) Status(context.Context, passport.ID) (clientapi.Status, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.status, n.fail
}

func (n *node) RegisterTagKeys(_ context.Context, _ passport.ID, keys []envelope.TagKey) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls++
	n.keys = append(n.keys, keys...)
	return n.fail
}

func (n *node) DeregisterTagKeys(_ context.Context, _ passport.ID, handles []envelope.Handle) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.keys = slices.DeleteFunc(n.keys, func(k envelope.TagKey) bool { return slices.Contains(handles, k.Handle) })
	return n.fail
}

func (n *node) Generation() uint64 { return n.generation }

func (n *node) deliver(d envelope.Delivery) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mailbox = append(n.mailbox, d)
	n.mail.notify()
}

func (n *node) Deliveries(_ passport.ID, after uint64, limit int) ([]envelope.Delivery, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []envelope.Delivery
	for _, d := range n.mailbox {
		if d.Number > after && len(list) < limit {
			list = append(list, d)
		}
	}
	return list, n.fail
}

func (n *node) DeliveriesOf(_ passport.ID, large bool, after uint64, limit int) (list []envelope.Delivery, upTo uint64, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	upTo = after
	for _, d := range n.mailbox {
		if d.Number <= after {
			continue
		}
		if len(list) == limit {
			break
		}
		upTo = d.Number
		if len(d.Envelope) == envelope.MaxSize == large {
			list = append(list, d)
		}
	}
	return list, upTo, n.fail
}

func (n *node) Wait(passport.ID) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mail.wait()
}

func (n *node) Expect(passport.ID) (<-chan envelope.Early, func()) { return n.early, func() {} }

func (n *node) Acknowledge(_ context.Context, _ passport.ID, _ noise.PublicKey, numbers []uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.acked = append(n.acked, numbers...)
	return n.fail
}

func (n *node) Missing(ids []envelope.ID) ([]envelope.ID, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(ids), func(id envelope.ID) bool { return n.stored[id] != nil }), n.fail
}

func (n *node) Submit(ctx context.Context, _ passport.ID, _ noise.PublicKey, list []*envelope.Envelope) (refused []clientapi.Refusal, err error) {
	if n.busy != nil {
		select {
		case <-n.busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	size := 0
	for _, e := range list {
		if r, ok := n.refuse[e.ID()]; ok {
			refused = append(refused, r)
			continue
		}
		b := e.Bytes()
		n.stored[e.ID()] = b
		size += len(b)
	}
	n.largest = max(n.largest, size)
	return refused, n.fail
}

func (n *node) Custody(id envelope.ID) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.custody[id], n.fail
}

func (n *node) setCustody(id envelope.ID, count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.custody[id] = count
	n.custodyC.notify()
}

func (n *node) WaitCustody() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.custodyC.wait()
}

func (n *node) PutPassport(_ context.Context, device noise.PublicKey, p *passport.Passport) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.passports[p.ID()]; old != nil {
		var err error
		if p, err = old.Merge(p); err != nil {
			return err
		}
	}
	n.passports[p.ID()] = p
	if p.IsActive(device) {
		n.user[device] = p.ID()
	}
	n.changes = append(n.changes, p.ID())
	n.passportC.notify()
	return n.fail
}

func (n *node) Passport(id passport.ID) (*passport.Passport, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.passports[id]; p != nil {
		return p, nil
	}
	return nil, errors.New("no such passport")
}

func (n *node) PassportsChanged(after uint64, fn func(uint64, passport.ID) bool) error {
	n.mu.Lock()
	changes := slices.Clone(n.changes)
	n.mu.Unlock()
	for i := min(after, uint64(len(changes))); i < uint64(len(changes)); i++ {
		if slices.Contains(changes[i+1:], changes[i]) {
			continue // changed again later
		}
		if !fn(i+1, changes[i]) {
			break
		}
	}
	return nil
}

func (n *node) WaitPassports() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.passportC.wait()
}

func (n *node) has(id envelope.ID, b []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return bytes.Equal(n.stored[id], b)
}
