package p2p

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/reconcile"
	"github.com/asmtp/asmtp/passport"
)

const (
	// defaultReconcileEvery is the mean pause between two rounds of reconciliation, each
	// with neighboursPerRound.
	defaultReconcileEvery = 5 * time.Minute
	neighboursPerRound    = 2
	// maxIdle bounds the exponent of the pause for a neighbour with which reconciliation
	// comes to nothing.
	maxIdle = 4
)

// need says that a neighbour is to be reconciled with.
type need struct {
	mu    sync.Mutex
	since time.Time     // with what was there then; zero: there is no need
	soon  bool          // not before a pause
	wake  chan struct{} // capacity 1
}

func newNeed() *need { return &need{wake: make(chan struct{}, 1)} }

func (d *need) set(soon bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since.IsZero() {
		d.soon = soon
	}
	d.soon = d.soon && soon
	d.since = time.Now()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// take ends the need.
func (d *need) take() (since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	since = d.since
	d.since = time.Time{}
	return since
}

func (d *need) later() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.soon
}

// reconcileNow has n reconciled with at once.
func (n *neighbour) reconcileNow() { n.need.set(false) }

// reconcileSoon has n reconciled with after a short pause: something may be lost.
func (n *neighbour) reconcileSoon() { n.need.set(true) }

// reconcileAfter has n reconciled with after a pause.
func (n *neighbour) reconcileAfter(pause time.Duration) {
	n.h.goDo(func() {
		if wait(n.ctx, pause) {
			n.reconcileNow()
		}
	})
}

// reconcileAll reconciles with n whenever there is a need.
func (n *neighbour) reconcileAll() {
	for {
		select {
		case <-n.need.wake:
		case <-n.ctx.Done():
			return
		}
		if n.need.later() && !wait(n.ctx, jitter(n.h.o.ReconcileEvery/30)) {
			return
		}
		if since := n.need.take(); !since.IsZero() {
			n.reconcile(since)
		}
	}
}

// reconcile unites both sets with n's. Passports are few and go first.
func (n *neighbour) reconcile(since time.Time) {
	moved := n.moved.Load()
	err := n.openSession(setPassports, since, n.unitePassports)
	if err == nil {
		err = n.openSession(setEnvelopes, since, n.uniteEnvelopes)
	}
	if err == nil {
		err = n.fetchFound()
	}
	n.found = nil
	if n.ctx.Err() != nil {
		return
	}
	n.h.stats.ended(n.key, n.h.o.Now(), err)
	switch {
	case err == nil:
		n.busy = 0
		n.h.log.Debug("reconciled", "peer", n.key.Short())
	case errors.Is(err, errBusy):
		n.reconcileAfter(jitter(n.h.o.ReconcileEvery / 10 << n.busy))
		n.busy = min(n.busy+1, maxIdle)
	default:
		if n.moved.Load() == moved {
			n.idle.Add(1)
		}
		n.h.fault(n.key, string(reconcileProtocol), err)
	}
}

// unitePassports tells n of the passports that it has otherwise, and asks for its own.
func (n *neighbour) unitePassports(s *session) error {
	n.h.stats.session(n.key, setPassports, s)
	var lacking []reconcile.ID
	for _, it := range s.Lacking() {
		lacking = append(lacking, it.ID)
	}
	if len(lacking) > 0 {
		ids, err := n.h.passportsOf(lacking)
		if err != nil {
			return err
		}
		n.tips.add(ids...)
	}
	if len(s.Missing()) == 0 {
		return nil
	}
	return n.onStream(passportProtocol, func(_ context.Context, t timed) error {
		for missing := s.Missing(); len(missing) > 0; {
			batch := missing[:min(len(missing), maxTips)]
			missing = missing[len(batch):]
			if err := t.write(kindAsk, encodeAsk(batch)); err != nil {
				return err
			}
		}
		return nil
	})
}

// uniteEnvelopes offers what n lacks and notes what is to be fetched.
func (n *neighbour) uniteEnvelopes(s *session) error {
	n.h.stats.session(n.key, setEnvelopes, s)
	n.weigh(s)
	if err := n.noteCustody(s); err != nil {
		return err
	}
	lost, err := n.lost(s)
	if err != nil {
		return err
	}
	var lacking, gone []envelope.ID
	for _, it := range s.Lacking() {
		switch {
		case !n.h.refusals.has(n.key, it.ID):
			lacking = append(lacking, it.ID)
		case lost[it.ID]:
			gone = append(gone, it.ID)
		}
	}
	if err := n.takeBack(gone); err != nil {
		return err
	}
	n.suspects.set(lost)
	items, err := n.h.withClasses(lacking)
	if err != nil {
		return err
	}
	n.offers.add(items...)
	for _, id := range s.Missing() {
		n.found = append(n.found, id) // another type
	}
	if n.idle.Load() == 0 && s.Incomplete() && len(items)+len(n.found) > 0 {
		n.offers.more() // when these are through
	}
	return nil
}

// weigh slows down reconciliation with a neighbour whose differences stay although
// nothing moves: it says to lack what it has, or to have what it does not give.
func (n *neighbour) weigh(s *session) {
	moved := n.moved.Load()
	switch {
	case s.differences() == 0 || moved != n.movedBefore:
		n.idle.Store(0)
	case n.differed:
		if n.idle.Add(1) == 1 {
			n.h.log.Info("differences stay although nothing moves", "peer", n.key.Short(), "differences", s.differences())
		}
	}
	n.movedBefore, n.differed = moved, s.differences() > 0
}

// noteCustody records which of the own users' envelopes n has shown to have.
func (n *neighbour) noteCustody(s *session) error {
	var confirmed []envelope.ID
	err := n.h.o.Custody.OwnEnvelopes(func(id envelope.ID, expires passport.Time) bool {
		if expires >= s.window.from && s.Confirmed(reconcile.Item{Expires: uint32(expires), ID: id}) {
			confirmed = append(confirmed, id)
		}
		return true
	})
	if err != nil {
		return err
	}
	var fresh []envelope.ID
	for _, id := range confirmed {
		held, err := n.h.holds(n.key, id)
		if err != nil {
			return err
		}
		if !held {
			fresh = append(fresh, id)
		}
	}
	return n.h.custody(n.ctx, n.key, fresh)
}

// lost returns of which own users' envelopes n counts as holder and has shown to lack
// them, as after a restore of an old backup. It may have got them since it looked, so what
// it answers to an offer decides.
func (n *neighbour) lost(s *session) (map[envelope.ID]bool, error) {
	lacking := make(map[envelope.ID]bool, len(s.Lacking()))
	for _, it := range s.Lacking() {
		lacking[it.ID] = true
	}
	lost := map[envelope.ID]bool{}
	if len(lacking) == 0 {
		return lost, nil
	}
	var own []envelope.ID
	err := n.h.o.Custody.OwnEnvelopes(func(id envelope.ID, _ passport.Time) bool {
		if lacking[id] {
			own = append(own, id)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	for _, id := range own {
		held, err := n.h.holds(n.key, id)
		if err != nil {
			return nil, err
		}
		if held {
			lost[id] = true
		}
	}
	return lost, nil
}

// fetchFound gets what the last session found missing.
func (n *neighbour) fetchFound() error {
	if len(n.found) == 0 {
		return nil
	}
	f, err := n.fetchMissing(n.found)
	n.h.stats.fetched(n.key, f.fetched, f.gone)
	if f.gone > 0 {
		n.h.log.Warn("neighbour lacks envelopes that it said to have", "peer", n.key.Short(), "count", f.gone)
	}
	return err
}

// reconcileRounds reconciles with some neighbours now and then.
func (h *Host) reconcileRounds() {
	every := h.o.ReconcileEvery
	for wait(h.ctx, every/2+rand.N(every)) {
		all := h.allNeighbours()
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		asked := 0
		for _, n := range all {
			if asked == neighboursPerRound {
				break
			}
			// One with which it comes to nothing has its turn less often.
			if idle := min(n.idle.Load(), maxIdle); idle == 0 || rand.N(1<<idle) == 0 {
				n.reconcileNow()
				asked++
			}
		}
	}
}
