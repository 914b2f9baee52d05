// Package spool is the one way in for envelopes, by whichever door they come:
// [Spool.Put] checks them, finds for which users of this node they are, stores them in
// one transaction, wakes the readers of those users and has them passed on. Start with
// [New] and let [Spool.Run] run.
//
// It promises that an envelope that fits a registered tag key is in its user's mailbox
// exactly once, whichever came first, the key or the envelope, and also when both come
// at the same time. Put returns after the store has synced.
//
// Tag keys are kept in memory, as the store has them. It opens nothing and knows no
// neighbours; quotas are the store's matter, and Put turns what the store says of them
// into words for people.
package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// Slack is by how much clocks of nodes and clients may differ.
const Slack = 2 * time.Hour

// DefaultRetention is for how long an envelope may ask to be kept.
const DefaultRetention = 14 * 24 * time.Hour

// Why an envelope is refused. Result.Err wraps one of these.
var (
	// ErrMalformed: not of a size class, or its end is not a full hour.
	ErrMalformed = errors.New("malformed envelope")
	// ErrExpired: its end is past.
	ErrExpired = errors.New("envelope has expired")
	// ErrTooFar: its end is farther away than the retention allows.
	ErrTooFar = errors.New("end of envelope is too far away")
)

// Store is what a spool needs of package store; see there for what each promises.
type Store interface {
	PutEnvelopes(ctx context.Context, arrivals []envelope.Arrival) ([]envelope.Outcome, error)
	AddMatches(ctx context.Context, ids []envelope.ID, matches [][]envelope.Match) error
	Envelope(id envelope.ID) ([]byte, error)
	Missing(ids []envelope.ID) []envelope.ID
	Envelopes(after envelope.ID, fn func(envelope.Meta) bool) error
	Quotas() store.Quotas
	ExpireEnvelopes(ctx context.Context, now passport.Time, limit int) (int, error)
	Compact(ctx context.Context) error

	PutTagKeys(ctx context.Context, user passport.ID, keys []envelope.TagKey) error
	DeleteTagKeys(ctx context.Context, user passport.ID, handles []envelope.Handle) error
	TagKeys(fn func(user passport.ID, k envelope.TagKey) bool) error
	ExpireTagKeys(ctx context.Context, before uint32) error

	Generation() uint64
	Deliveries(user passport.ID, after uint64, limit int) ([]envelope.Delivery, error)
	DeliveriesOf(user passport.ID, large bool, after uint64, limit int) (list []envelope.Delivery, upTo uint64, err error)
	LastNumber(user passport.ID) (uint64, error)
	Acknowledge(ctx context.Context, user passport.ID, device noise.PublicKey, numbers []uint64) error
}

// Options of a spool; the zero value is ready for use.
type Options struct {
	Log       *slog.Logger     // nil: none
	Now       func() time.Time // nil: time.Now
	Retention time.Duration    // 0: DefaultRetention
	// MaxKeys is how many tag keys there may be in one epoch; 0 means DefaultMaxKeys.
	MaxKeys int
}

// Spool is the way in for envelopes. Its methods may be called concurrently.
type Spool struct {
	store     Store
	log       *slog.Logger
	now       func() time.Time
	retention time.Duration
	maxKeys   int
	hooks     []func(from noise.PublicKey, e *envelope.Envelope)
	admitted  []func(e *envelope.Envelope)

	registering sync.Mutex // one change of the tag keys at a time
	keys        keyring
	putting     sync.RWMutex // read-held from matching to storing; see RegisterTagKeys
	waiters     waiters
	expecting   expecting
	refusals    refusals
}

// New returns a spool over st with the tag keys that are stored there.
func New(st Store, o Options) (*Spool, error) {
	s := &Spool{store: st, log: o.Log, now: o.Now, retention: o.Retention, maxKeys: o.MaxKeys}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.retention == 0 {
		s.retention = DefaultRetention
	}
	if s.maxKeys == 0 {
		s.maxKeys = DefaultMaxKeys
	}
	s.keys.init()
	err := st.TagKeys(func(user passport.ID, k envelope.TagKey) bool {
		s.keys.add(user, k)
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("load tag keys: %w", err)
	}
	return s, nil
}

// OnStored has fn called for every envelope that was new, after it is synced and before
// Put returns, from the goroutine of Put and with no lock held. Call OnStored before
// the spool is used.
func (s *Spool) OnStored(fn func(from noise.PublicKey, e *envelope.Envelope)) {
	s.hooks = append(s.hooks, fn)
}

// OnAdmitted has fn called for every new envelope of an own user for which there is room,
// while it is being synced: what others do with it meanwhile takes no time of its own. It
// may yet be lost, so nothing may be said of it. fn must not block. Call OnAdmitted before the
// spool is used.
func (s *Spool) OnAdmitted(fn func(e *envelope.Envelope)) { s.admitted = append(s.admitted, fn) }

// Result says what became of one envelope that was put. If Err is nil the envelope is
// stored, Fresh says that it was not before. If there is no room for it, Err wraps
// [ErrFull], and nothing that is stored was touched.
type Result struct {
	ID    envelope.ID
	Fresh bool
	Err   error
}

// putPiece bounds one transaction. All that comes in one message of a client or a
// neighbour is less.
const putPiece = 256

// Put takes envelopes in. from is the neighbour that sent them, zero for a user of this
// node. The results are in the order of envs. An error means that nothing is known of
// those that have neither Fresh nor an ID in the results; putting again is safe.
func (s *Spool) Put(ctx context.Context, from noise.PublicKey, envs []*envelope.Envelope) ([]Result, error) {
	results := make([]Result, len(envs))
	for start := 0; start < len(envs); start += putPiece {
		end := min(start+putPiece, len(envs))
		if err := s.put(ctx, from, envs[start:end], results[start:end]); err != nil {
			return results[:start], fmt.Errorf("put envelopes: %w", err)
		}
	}
	return results, nil
}

func (s *Spool) put(ctx context.Context, from noise.PublicKey, envs []*envelope.Envelope, results []Result) error {
	now := s.clock()
	arrivals := make([]envelope.Arrival, 0, len(envs))
	positions := make([]int, 0, len(envs))
	for i, e := range envs {
		results[i].ID = e.ID()
		if results[i].Err = s.check(e, now); results[i].Err == nil {
			arrivals = append(arrivals, envelope.Arrival{Envelope: e, From: from})
			positions = append(positions, i)
		}
	}
	if len(arrivals) == 0 {
		return nil
	}
	outcomes, err := s.matchAndStore(ctx, arrivals)
	if err != nil {
		return err
	}
	for j, a := range arrivals {
		r := &results[positions[j]]
		if full := outcomes[j].Full; full != envelope.NotFull {
			r.Err = s.refuse(full, &a)
			continue
		}
		r.Fresh = outcomes[j].Fresh
		for _, m := range a.Matches {
			s.waiters.wake(m.User)
		}
		if r.Fresh {
			s.taken(&a)
			for _, hook := range s.hooks {
				hook(from, a.Envelope)
			}
		}
	}
	return nil
}

// whenAdmitted returns what is done once there is room for an envelope; nil for nothing.
func (s *Spool) whenAdmitted(a *envelope.Arrival) func() {
	own := a.From.IsZero() && len(s.admitted) > 0
	if !own && len(a.Matches) == 0 {
		return nil
	}
	e, matches := a.Envelope, a.Matches
	return func() {
		if own {
			for _, fn := range s.admitted {
				fn(e)
			}
		}
		s.expecting.tell(e, matches)
	}
}

func (s *Spool) matchAndStore(ctx context.Context, arrivals []envelope.Arrival) ([]envelope.Outcome, error) {
	s.putting.RLock()
	defer s.putting.RUnlock()
	for i := range arrivals {
		a := &arrivals[i]
		a.Matches = s.keys.matcher.Match(a.Envelope.Epoch(), a.Envelope.SealHash(), a.Envelope.Tag)
		a.Admitted = s.whenAdmitted(a)
	}
	return s.store.PutEnvelopes(ctx, arrivals)
}

func (s *Spool) check(e *envelope.Envelope, now passport.Time) error {
	switch {
	case e.Class() < 0:
		return fmt.Errorf("%w: %d sealed bytes", ErrMalformed, len(e.Sealed))
	case e.Expires%3600 != 0:
		return fmt.Errorf("%w: end %s is not a full hour", ErrMalformed, e.Expires)
	case e.Expires <= now:
		return fmt.Errorf("%w at %s", ErrExpired, e.Expires)
	case e.Expires > now.Add(s.retention+Slack):
		return fmt.Errorf("%w: %s, the mesh keeps %v", ErrTooFar, e.Expires, s.retention)
	}
	return nil
}

func (s *Spool) clock() passport.Time { return passport.TimeOf(s.now()) }

// Missing returns those of ids that are not stored.
func (s *Spool) Missing(ids []envelope.ID) []envelope.ID { return s.store.Missing(ids) }

// Envelope returns an encoded envelope.
func (s *Spool) Envelope(id envelope.ID) ([]byte, error) { return s.store.Envelope(id) }

// Generation names this life of the mailboxes.
func (s *Spool) Generation() uint64 { return s.store.Generation() }

// Deliveries returns what is in the user's mailbox after a number.
func (s *Spool) Deliveries(user passport.ID, after uint64, limit int) ([]envelope.Delivery, error) {
	return s.store.Deliveries(user, after, limit)
}

// DeliveriesOf is Deliveries for those of the largest size class only, or those of the
// others; it looked up to a number.
func (s *Spool) DeliveriesOf(user passport.ID, large bool, after uint64, limit int) (list []envelope.Delivery, upTo uint64, err error) {
	return s.store.DeliveriesOf(user, large, after, limit)
}

// LastNumber returns the last number given out in the user's mailbox.
func (s *Spool) LastNumber(user passport.ID) (uint64, error) { return s.store.LastNumber(user) }

// Acknowledge notes that a device has these entries of its user's mailbox.
func (s *Spool) Acknowledge(ctx context.Context, user passport.ID, device noise.PublicKey, numbers []uint64) error {
	return s.store.Acknowledge(ctx, user, device, numbers)
}

// Wait returns a channel that is closed at the next delivery to the user. Call it
// before Deliveries: what comes after the call closes the channel, what came before is
// in the mailbox, so nothing is missed. It may be closed when there is nothing new.
func (s *Spool) Wait(user passport.ID) <-chan struct{} { return s.waiters.wait(user) }

// waiters has a channel for each user that somebody waited for since the last wake.
type waiters struct {
	mu sync.Mutex
	m  map[passport.ID]chan struct{}
}

func (w *waiters) wait(user passport.ID) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil {
		w.m = map[passport.ID]chan struct{}{}
	}
	if w.m[user] == nil {
		w.m[user] = make(chan struct{})
	}
	return w.m[user]
}

func (w *waiters) wake(user passport.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.m[user]; c != nil {
		close(c)
		delete(w.m, user)
	}
}
