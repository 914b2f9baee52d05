package spool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

// DefaultMaxKeys is how many tag keys a node holds in one epoch: each envelope is tried
// with all of them.
const DefaultMaxKeys = 100_000

// maxEpochsAhead is how far ahead keys may be registered: clients do so for six epochs,
// and their clock may be in the next one already.
const maxEpochsAhead = 7

// Why tag keys are refused.
var (
	// ErrTooManyKeys: the node's limit of one epoch is reached.
	ErrTooManyKeys = errors.New("too many tag keys")
	// ErrEpoch: the epoch is farther ahead than anybody needs.
	ErrEpoch = errors.New("epoch of tag key is too far ahead")
)

// keyring is the tag keys in memory. matcher is safe by itself; the rest is guarded by mu.
type keyring struct {
	matcher topic.Matcher[envelope.Match]

	mu     sync.Mutex
	keys   map[envelope.Match]envelope.TagKey
	epochs map[uint32]int // keys in each
}

func (r *keyring) init() {
	r.keys = map[envelope.Match]envelope.TagKey{}
	r.epochs = map[uint32]int{}
}

// add takes a key in, instead of another one with its handle.
func (r *keyring) add(user passport.ID, k envelope.TagKey) {
	m := envelope.Match{User: user, Handle: k.Handle}
	r.mu.Lock()
	defer r.mu.Unlock()
	old, known := r.keys[m]
	if known && old == k {
		return
	}
	r.keys[m] = k
	r.epochs[k.Epoch]++
	r.matcher.Add(k.Epoch, k.Key, m)
	if known {
		r.forget(m, old)
	}
}

func (r *keyring) remove(user passport.ID, h envelope.Handle) {
	m := envelope.Match{User: user, Handle: h}
	r.mu.Lock()
	defer r.mu.Unlock()
	if k, known := r.keys[m]; known {
		delete(r.keys, m)
		r.forget(m, k)
	}
}

// forget takes k out of what is kept by epoch.
func (r *keyring) forget(m envelope.Match, k envelope.TagKey) {
	r.matcher.Remove(k.Epoch, k.Key, m)
	if r.epochs[k.Epoch]--; r.epochs[k.Epoch] == 0 {
		delete(r.epochs, k.Epoch)
	}
}

// anyBefore reports whether there are keys of an epoch before the given one.
func (r *keyring) anyBefore(epoch uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := range r.epochs {
		if e < epoch {
			return true
		}
	}
	return false
}

// removeBefore forgets all epochs before the given one.
func (r *keyring) removeBefore(epoch uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.keys, func(_ envelope.Match, k envelope.TagKey) bool { return k.Epoch < epoch })
	maps.DeleteFunc(r.epochs, func(e uint32, _ int) bool { return e < epoch })
	r.matcher.RemoveBefore(epoch)
}

// room checks that the keys fit in beside those that are there. Those there already
// under their handle take no more room.
func (r *keyring) room(user passport.ID, keys []envelope.TagKey, limit int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	more := map[uint32]int{}
	for _, k := range keys {
		old, known := r.keys[envelope.Match{User: user, Handle: k.Handle}]
		if known && old.Epoch == k.Epoch {
			continue
		}
		if more[k.Epoch]++; r.epochs[k.Epoch]+more[k.Epoch] > limit {
			return fmt.Errorf("%w: this node takes %d for each fortnight", ErrTooManyKeys, limit)
		}
	}
	return nil
}

// RegisterTagKeys stores keys of a user and delivers what they match, from now on and
// of all that is stored already, which is in the mailbox when it returns nil. Calling
// it again, as a client does that got no answer, does no harm. Keys of epochs that are
// over are passed over.
func (s *Spool) RegisterTagKeys(ctx context.Context, user passport.ID, keys []envelope.TagKey) error {
	keys, err := s.current(keys)
	if err != nil || len(keys) == 0 {
		return err
	}
	s.registering.Lock()
	defer s.registering.Unlock()
	if err := s.keys.room(user, keys, s.maxKeys); err != nil {
		return err
	}
	if err := s.store.PutTagKeys(ctx, user, keys); err != nil {
		return fmt.Errorf("register tag keys: %w", err)
	}
	for _, k := range keys {
		s.keys.add(user, k)
	}
	// A Put that matched before the keys were added may store after the scan below has
	// taken its view. So wait until every Put that is between the two has ended; those
	// that begin now know the keys. What both find is one entry, the store sees to that.
	s.putting.Lock()
	s.putting.Unlock() //lint:ignore SA2001 the point is that the readers have left
	if err := s.matchStored(ctx, user, keys); err != nil {
		return fmt.Errorf("register tag keys: %w", err)
	}
	s.waiters.wake(user)
	return nil
}

// current returns the keys of epochs that are not over.
func (s *Spool) current(keys []envelope.TagKey) ([]envelope.TagKey, error) {
	now := s.clock()
	last, first := topic.Epoch(uint32(now))+maxEpochsAhead, s.firstEpoch(now)
	var list []envelope.TagKey
	for _, k := range keys {
		if k.Epoch > last {
			return nil, fmt.Errorf("%w: %d, at most %d", ErrEpoch, k.Epoch, last)
		}
		if k.Epoch >= first {
			list = append(list, k)
		}
	}
	return list, nil
}

// firstEpoch is the oldest epoch of which there may be an envelope.
func (s *Spool) firstEpoch(now passport.Time) uint32 {
	return topic.Epoch(uint32(now.Add(-keepEpoch)))
}

// matchStored delivers the stored envelopes that the keys match.
func (s *Spool) matchStored(ctx context.Context, user passport.ID, keys []envelope.TagKey) error {
	var matcher topic.Matcher[envelope.Match]
	for _, k := range keys {
		matcher.Add(k.Epoch, k.Key, envelope.Match{User: user, Handle: k.Handle})
	}
	var ids []envelope.ID
	var matches [][]envelope.Match
	err := s.store.Envelopes(envelope.ID{}, func(m envelope.Meta) bool {
		if found := matcher.Match(topic.Epoch(uint32(m.Expires)), m.SealHash, m.Tag); found != nil {
			ids, matches = append(ids, m.ID), append(matches, found)
		}
		return ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	return s.store.AddMatches(ctx, ids, matches)
}

// DeregisterTagKeys forgets keys of a user. What they have brought stays in the mailbox.
func (s *Spool) DeregisterTagKeys(ctx context.Context, user passport.ID, handles []envelope.Handle) error {
	s.registering.Lock()
	defer s.registering.Unlock()
	if err := s.store.DeleteTagKeys(ctx, user, handles); err != nil {
		return fmt.Errorf("deregister tag keys: %w", err)
	}
	for _, h := range handles {
		s.keys.remove(user, h)
	}
	return nil
}

// Keys returns how many tag keys are registered.
func (s *Spool) Keys() int { return s.keys.matcher.Len() }

// UserKeys returns how many tag keys a user has registered. It looks at all keys: it is
// there for a status that a person asks for.
func (s *Spool) UserKeys(user passport.ID) (n int) {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	for m := range s.keys.keys {
		if m.User == user {
			n++
		}
	}
	return n
}
