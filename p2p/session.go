package p2p

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/asmtp/asmtp/internal/reconcile"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// What one session may cost each side, whatever the other one does.
const (
	sessionTime  = 5 * time.Minute
	sessionBytes = 32 << 20
	// maxFound is how many ids are gathered for each side; another session follows for
	// what is more. Half a megabyte each.
	maxFound = 16384
	// maxOpening is how many sessions this node opens at a time, maxServing how many it
	// answers in all and for one neighbour: a second one may come before the end of the
	// first was noticed.
	maxOpening    = 8
	maxServing    = 16
	maxServingOne = 2
	// A neighbour may open serveBurst sessions at once, and one more in each servePause.
	serveBurst = 16
	servePause = 5 * time.Second
)

var sessionLimits = reconcile.Limits{Found: maxFound}

var (
	// errBusy: the neighbour, or this node, has too many sessions.
	errBusy = errors.New("too many reconciliations")
	// errBudget: the other side needs more than a session may cost.
	errBudget = errors.New("reconciliation costs too much")
	errUnable = errors.New("neighbour does not know this kind of reconciliation")
)

// session is one that this node opened, and what it found.
type session struct {
	*reconcile.Initiator
	window  opening
	bytes   int64
	trips   int
	began   time.Time
	took    time.Duration
	partial error // why it ended early; nil: all is settled
}

// differences returns how many were found.
func (s *session) differences() int { return len(s.Lacking()) + len(s.Missing()) }

// spend counts bytes of a message.
func (s *session) spend(n int) error {
	if s.bytes += int64(lengthSize + 1 + n); s.bytes > sessionBytes {
		return fmt.Errorf("%w: %d bytes", errBudget, s.bytes)
	}
	return nil
}

// window returns what this node opens a session with.
func (h *Host) window(set byte) opening {
	now := h.o.Now()
	o := opening{version: reconcileVersion, set: set, to: math.MaxUint32, clock: now}
	if set == setEnvelopes {
		o.from = passport.TimeOf(now)
		o.to = passport.TimeOf(now.Add(h.o.Set.Charter().Retention + clockSlack))
	}
	return o
}

func (h *Host) snapshotsOf(set byte) *snapshots {
	if set == setPassports {
		return h.passportSnapshots
	}
	return h.envelopeSnapshots
}

// openSession reconciles one set with n. use is called with what was found while the
// own set is still in memory.
func (n *neighbour) openSession(set byte, since time.Time, use func(*session) error) error {
	snapshots := n.h.snapshotsOf(set)
	if rest := snapshots.rest(); rest > 0 && !wait(n.ctx, rest) {
		return n.ctx.Err()
	}
	select {
	case n.h.opening <- struct{}{}:
		defer func() { <-n.h.opening }()
	case <-n.ctx.Done():
		return n.ctx.Err()
	}
	sn, err := snapshots.get(since)
	if err != nil {
		return err
	}
	defer sn.release()
	s := &session{window: n.h.window(set), began: time.Now()}
	err = n.onStream(reconcileProtocol, func(ctx context.Context, t timed) error {
		t.end = time.Now().Add(n.h.sessionTime)
		return n.h.initiate(n.key, t, s, sn.Set)
	})
	s.took = time.Since(s.began)
	if err != nil && s.partial == nil {
		return err
	}
	return use(s)
}

// initiate is the opener's side of a session.
func (h *Host) initiate(key noise.PublicKey, t timed, s *session, set *reconcile.Set) error {
	secret, err := t.secret(s.window)
	if err != nil {
		return err
	}
	s.Initiator = reconcile.NewInitiator(reconcile.NewView(set, uint32(s.window.from), uint32(s.window.to), secret), sessionLimits)
	sent := h.o.Now()
	if err := t.write(kindOpen, s.window.encode()); err != nil {
		return err
	}
	for {
		frame, err := s.Frame()
		if err != nil { // a limit of ours; what was found stands
			s.partial = err
			return nil
		}
		if frame == nil {
			return nil
		}
		if err := s.trade(h, key, t, frame, sent); err != nil {
			return err
		}
	}
}

// trade sends a frame and takes the answer.
func (s *session) trade(h *Host, key noise.PublicKey, t timed, frame []byte, sent time.Time) error {
	if err := s.spend(len(frame)); err != nil {
		return err
	}
	if err := t.write(kindFrame, frame); err != nil {
		return err
	}
	if s.trips == 0 {
		if err := s.replied(h, key, t, sent); err != nil {
			return err
		}
	}
	answer, err := t.expect(kindFrame, maxFrame)
	if err != nil {
		return err
	}
	s.trips++
	if err := s.spend(len(answer)); err != nil {
		return err
	}
	switch err := s.Take(answer); {
	case errors.Is(err, reconcile.ErrPeer):
		return foreign("%v", err)
	case errors.Is(err, reconcile.ErrLimit):
		s.partial = err
		return nil
	default:
		return err
	}
}

// replied reads the answer to the opening, and from it how far the neighbour's clock is off.
func (s *session) replied(h *Host, key noise.PublicKey, t timed, sent time.Time) error {
	body, err := t.expect(kindReply, replySize)
	if err != nil {
		return err
	}
	r, err := parseReply(body)
	if err != nil {
		return err
	}
	// The neighbour looked at its clock about half way between our two looks.
	now := h.o.Now()
	h.sawClock(key, r.clock.Sub(sent.Add(now.Sub(sent)/2)))
	if err := s.spend(openSize + len(body)); err != nil {
		return err
	}
	switch r.code {
	case replyBusy:
		return errBusy
	case replyUnknown:
		return errUnable
	}
	return nil
}

// secret derives the key of a session from the handshake of its connection.
func (t timed) secret(o opening) (secret [reconcile.KeySize]byte, err error) {
	s, ok := t.s.(network.Stream)
	if !ok {
		return secret, errors.New("stream of no connection")
	}
	var c *linkConn
	if !s.Conn().As(&c) {
		return secret, errors.New("connection without a handshake")
	}
	return noise.H32([]byte("asmtp/2 reconcile\x00"), c.session, o.encode()), nil
}

// serveReconcile answers a neighbour's session.
func (h *Host) serveReconcile(_ context.Context, key noise.PublicKey, t timed) error {
	t.end = time.Now().Add(h.sessionTime)
	body, err := t.expect(kindOpen, openSize)
	if err != nil {
		return err
	}
	arrived := time.Now()
	o, err := parseOpening(body)
	if err != nil {
		return err
	}
	h.sawClock(key, o.clock.Sub(h.o.Now()))
	if o.version != reconcileVersion || o.set != setEnvelopes && o.set != setPassports {
		return t.write(kindReply, reply{replyUnknown, h.o.Now()}.encode())
	}
	if !h.serving.enter(key) {
		return t.write(kindReply, reply{replyBusy, h.o.Now()}.encode())
	}
	defer h.serving.leave(key)
	if err := t.write(kindReply, reply{replyGoOn, h.o.Now()}.encode()); err != nil {
		return err
	}
	return h.respond(t, o, arrived)
}

// respond is the answering side of a session.
func (h *Host) respond(t timed, o opening, arrived time.Time) error {
	secret, err := t.secret(o)
	if err != nil {
		return err
	}
	sn, err := h.snapshotsOf(o.set).getAny(arrived)
	if err != nil {
		return err
	}
	defer sn.release()
	r := reconcile.NewResponder(reconcile.NewView(sn.Set, uint32(o.from), uint32(o.to), secret), sessionLimits)
	for spent := 0; ; {
		m, err := t.last(maxFrame)
		if err != nil {
			return err
		}
		if m.kind != kindFrame {
			return foreign("message %d where a frame is due", m.kind)
		}
		answer, err := r.Answer(m.body)
		if errors.Is(err, reconcile.ErrPeer) {
			return foreign("%v", err)
		}
		if err != nil {
			return err
		}
		if spent += len(m.body) + len(answer); spent > sessionBytes {
			return fmt.Errorf("%w: %d bytes", errBudget, spent)
		}
		if err := t.write(kindFrame, answer); err != nil {
			return err
		}
	}
}

// serving bounds the sessions that neighbours open.
type serving struct {
	mu    sync.Mutex
	now   func() time.Time
	of    map[noise.PublicKey]*served
	total int
}

type served struct {
	running int
	credit  float64 // sessions that may begin at once
	at      time.Time
}

func newServing(now func() time.Time) *serving {
	return &serving{now: now, of: map[noise.PublicKey]*served{}}
}

// enter reports whether a session of key may begin; then leave has to be called.
func (s *serving) enter(key noise.PublicKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	p := s.of[key]
	if p == nil {
		s.forget(now)
		p = &served{credit: serveBurst, at: now}
		s.of[key] = p
	}
	p.credit = min(serveBurst, p.credit+now.Sub(p.at).Seconds()/servePause.Seconds())
	p.at = now
	if p.running >= maxServingOne || s.total >= maxServing || p.credit < 1 {
		return false
	}
	p.running++
	p.credit--
	s.total++
	return true
}

func (s *serving) leave(key noise.PublicKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[key].running--
	s.total--
}

// forget drops those that have all their credit again.
func (s *serving) forget(now time.Time) {
	for key, p := range s.of {
		if p.running == 0 && now.Sub(p.at) > serveBurst*servePause {
			delete(s.of, key)
		}
	}
}
