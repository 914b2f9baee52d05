package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/port"
)

// exchange is one Sync with all nodes: what its sessions share.
type exchange struct {
	a *Account
	o SyncOptions

	mu  sync.Mutex // guards res
	res SyncResult

	telling sync.Mutex // OnMail is called from one goroutine at a time

	later func(func() error) // runs what the sending of mail need not wait for; nil: it waits
}

func newExchange(a *Account, o SyncOptions) *exchange { return &exchange{a: a, o: o} }

func (x *exchange) count(received, sent int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.res.Received += received
	x.res.Sent += sent
}

func (x *exchange) tell(mails []Summary) {
	x.count(len(mails), 0)
	if x.o.OnMail == nil {
		return
	}
	x.telling.Lock()
	defer x.telling.Unlock()
	for _, m := range mails {
		x.o.OnMail(m)
	}
}

// session is one connection with a node.
type session struct {
	a          *Account
	x          *exchange
	c          *clientapi.Client
	node       Node
	status     clientapi.Status
	generation uint64
	took, off  time.Duration
	stop       context.CancelCauseFunc // of one that follows
}

func (s *session) progress(p Progress) {
	if p.Node = s.node; s.x.o.OnProgress != nil {
		s.x.o.OnProgress(p)
	}
}

// prepare makes the node know this user: passport and tag keys, and takes the
// passports that changed.
func (s *session) prepare(ctx context.Context) error {
	if err := s.publish(ctx); err != nil {
		return err
	}
	if err := s.fetchPassports(ctx, false); err != nil {
		return err
	}
	return s.registerTagKeys(ctx)
}

// link is a node of a Sync without Follow, and what became of it.
type link struct {
	node   Node
	ailing bool          // it could not be used the last time
	up     chan struct{} // closed when s or the first error is there
	s      *session
	giveUp context.CancelCauseFunc // ends the attempt to connect

	mu  sync.Mutex
	err error
}

func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

func (l *link) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// ailingGrace is how much longer than the others a node may take to answer that could not
// be used the last time. Without it every command would wait for each node that is gone.
const ailingGrace = 2 * time.Second

var errNotAwaited = fmt.Errorf("%w in time, and the last time it could not be used", port.ErrNoAnswer)

// once is a Sync without Follow: all nodes at the same time; what is to be sent goes
// through the first that answers, of those first that could be used the last time.
func (x *exchange) once(ctx context.Context, nodes []NodeInfo) error {
	mails, err := x.a.openKept(ctx)
	if err != nil {
		return err
	}
	x.tell(mails)
	links := make([]*link, len(nodes))
	sent := make(chan struct{})
	var taking, steady sync.WaitGroup
	for i, n := range nodes {
		l := &link{node: n.Node, ailing: n.Problem != "", up: make(chan struct{})}
		connecting, giveUp := context.WithCancelCause(ctx)
		defer giveUp(nil)
		links[i], l.giveUp = l, giveUp
		group := &steady
		if l.ailing {
			group = &taking
		}
		group.Go(func() { l.take(ctx, connecting, x, sent) })
	}
	inOrder := slices.Clone(links)
	slices.SortStableFunc(links, func(a, b *link) int {
		switch {
		case a.ailing == b.ailing:
			return 0
		case b.ailing:
			return -1
		}
		return 1
	})
	defer func() {
		for _, l := range links {
			if l.s != nil {
				l.s.c.Close()
			}
		}
	}()
	send := func(s *session, sel selection) ([]int64, error) { return s.send(ctx, sel) }
	x.throughFirst(links, selection{first: true}, send)
	close(sent)
	// Large mail goes while the nodes' is taken in, so that neither waits for the other.
	steady.Go(func() { x.throughFirst(links, selection{large: true, first: true}, send) })
	steady.Wait()
	defer awaitLess(links)()
	taking.Wait()
	if err := x.a.age(ctx, true); err != nil {
		return err
	}
	if err := x.answer(ctx, links); err != nil {
		return err
	}
	// What waited for a passport that came.
	x.throughFirst(links, selection{}, send)
	x.throughFirst(links, selection{large: true}, send)
	for _, l := range links {
		if l.failed() == nil {
			taking.Go(func() { l.fail(l.s.custodyOnce(ctx)) })
		}
	}
	taking.Wait()
	if err := x.a.forgetOld(ctx); err != nil {
		return err
	}
	return x.outcome(ctx, inOrder)
}

// awaitLess gives up connecting with ailing nodes after ailingGrace, if all went well with
// another. stop ends it.
func awaitLess(links []*link) (stop func()) {
	if !slices.ContainsFunc(links, func(l *link) bool { return !l.ailing && l.failed() == nil }) {
		return func() {}
	}
	timer := time.AfterFunc(ailingGrace, func() {
		for _, l := range links {
			if l.ailing {
				l.giveUp(errNotAwaited)
			}
		}
	})
	return func() { timer.Stop() }
}

// take connects and, once all is sent that is due, takes in what the node has: mail to
// oneself, too.
func (l *link) take(ctx, connecting context.Context, x *exchange, sent <-chan struct{}) {
	var err error
	if l.s, err = x.dial(connecting, l.node); err == nil {
		err = l.s.prepare(ctx)
	} else if errors.Is(context.Cause(connecting), errNotAwaited) {
		err = fmt.Errorf("node %s: %w", l.node.Key.Short(), errNotAwaited)
	}
	if err != nil {
		l.fail(err)
	}
	close(l.up)
	if <-sent; l.failed() == nil {
		l.fail(l.s.receive(ctx, false, func() {}))
	}
}

// selection says what is to be handed to a node besides what is due by the clock.
type selection struct {
	large bool    // mail of many parts, and no other
	first bool    // mail that never reached a node is due in any case
	also  []int64 // and these, which another node did not take
	fresh []*due  // these, and no others: none of them was ever handed over
}

// throughFirst calls f with the sessions in the order of connecting, until one hands
// over all there is; f returns what its node did not take.
func (x *exchange) throughFirst(links []*link, sel selection, f func(*session, selection) ([]int64, error)) {
	for _, l := range links {
		<-l.up
		if l.failed() != nil {
			continue
		}
		left, err := f(l.s, sel)
		if err != nil {
			l.fail(err)
			continue
		}
		if len(left) == 0 {
			return
		}
		sel = selection{large: sel.large, also: left}
	}
}

// answer sends the receipts that are due.
func (x *exchange) answer(ctx context.Context, links []*link) error {
	waiting, err := x.a.receiptsDue(ctx)
	if err != nil || !waiting {
		return err
	}
	if err := pause(ctx, x.a.receiptWait()); err != nil {
		return err
	}
	x.throughFirst(links, selection{}, func(s *session, sel selection) ([]int64, error) { return s.sendReceipts(ctx, sel) })
	return nil
}

func (s *session) custodyOnce(ctx context.Context) error {
	w, ids, err := s.a.watchList(ctx, s.node.Key)
	if err != nil {
		return err
	}
	return s.watchCustody(ctx, w, ids, false)
}

// outcome notes how it went with each node. It is an error only if it went well with none.
func (x *exchange) outcome(ctx context.Context, links []*link) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var errs []error
	for _, l := range links {
		status := NodeStatus{Node: l.node}
		if l.s != nil {
			status = l.s.nodeStatus()
		}
		status.Err = l.failed()
		x.res.Nodes = append(x.res.Nodes, status)
		x.a.noteNode(ctx, l.node.Key, status.Err)
		if status.Err != nil {
			errs = append(errs, status.Err)
		}
	}
	if len(errs) < len(links) {
		return nil
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return fmt.Errorf("none of %d nodes: %w", len(links), errors.Join(errs...))
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
