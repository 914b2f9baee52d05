package p2p

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/reconcile"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// maxSnapshots is how many snapshots of one set there may be at a time. One of
// 1,000,000 envelopes takes 36 MB.
const maxSnapshots = 2

// snapshots shares snapshots of a set between sessions. One is built at a time, and it
// is dropped with the last session that uses it.
type snapshots struct {
	build func() (*reconcile.Set, error)
	now   func() time.Time // of this process, never set back

	building sync.Mutex
	mu       sync.Mutex
	live     []*snapshot // the newest last
}

// snapshot is what a set was at one moment.
type snapshot struct {
	*reconcile.Set
	made  time.Time // it has all that was there then
	users int
	of    *snapshots
}

func newSnapshots(build func() (*reconcile.Set, error)) *snapshots {
	return &snapshots{build: build, now: time.Now}
}

// get returns a snapshot that is no older than since, unless there are too many
// already: then it is the newest. The caller has to release it.
func (s *snapshots) get(since time.Time) (*snapshot, error) {
	if sn := s.share(since); sn != nil {
		return sn, nil
	}
	s.building.Lock()
	defer s.building.Unlock()
	if sn := s.share(since); sn != nil { // built while we waited
		return sn, nil
	}
	made := s.now()
	set, err := s.build()
	if err != nil {
		return nil, err
	}
	sn := &snapshot{Set: set, made: made, users: 1, of: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = append(s.live, sn)
	return sn, nil
}

func (s *snapshots) share(since time.Time) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.live) == 0 {
		return nil
	}
	newest := s.live[len(s.live)-1]
	if newest.made.Before(since) && len(s.live) < maxSnapshots {
		return nil
	}
	newest.users++
	return newest
}

func (sn *snapshot) release() {
	s := sn.of
	s.mu.Lock()
	defer s.mu.Unlock()
	if sn.users--; sn.users > 0 {
		return
	}
	for i, other := range s.live {
		if other == sn {
			s.live = append(s.live[:i:i], s.live[i+1:]...)
			return
		}
	}
}

// windowSlack is how long before now a neighbour's window may begin. The store keeps
// envelopes for as long behind their end.
const windowSlack = 4 * time.Hour

// envelopeSet reads which envelopes are stored.
func (h *Host) envelopeSet() (*reconcile.Set, error) {
	set := new(reconcile.Set)
	var bad error
	from := passport.TimeOf(h.o.Now().Add(-windowSlack))
	err := h.o.Spool.Window(from, math.MaxUint32, func(expires passport.Time, id envelope.ID) bool {
		bad = set.Add(reconcile.Item{Expires: uint32(expires), ID: id})
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, fmt.Errorf("read which envelopes are stored: %w", err)
	}
	h.stored.Store(int64(set.Len()))
	return set, nil
}

// passportItem names one state of a passport.
func passportItem(id passport.ID, last passport.Hash) reconcile.ID { return noise.H32(id[:], last[:]) }

// passportSet reads which passports are stored, and up to which block.
func (h *Host) passportSet() (*reconcile.Set, error) {
	var items []reconcile.Item
	err := h.o.Passports.PassportTips(func(id passport.ID, last passport.Hash) bool {
		items = append(items, reconcile.Item{ID: passportItem(id, last)})
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("read which passports are stored: %w", err)
	}
	return reconcile.SetOf(items), nil
}

// passportsOf returns the passports whose present state is one of names.
func (h *Host) passportsOf(names []reconcile.ID) (ids []passport.ID, err error) {
	wanted := make(map[reconcile.ID]struct{}, len(names))
	for _, n := range names {
		wanted[n] = struct{}{}
	}
	err = h.o.Passports.PassportTips(func(id passport.ID, last passport.Hash) bool {
		if _, ok := wanted[passportItem(id, last)]; ok {
			ids = append(ids, id)
		}
		return true
	})
	return ids, err
}
