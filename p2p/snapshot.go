package p2p

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/reconcile"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

const (
	// maxSnapshots is how many snapshots of one set there may be at a time. One of
	// 1,000,000 envelopes takes 36 MB.
	maxSnapshots = 2
	// costly is from when on the time counts that it took to build a snapshot. Then none
	// is built within buildRest as much, so that neighbours that open one session after
	// the other cannot have a node read its index all the time.
	costly    = 20 * time.Millisecond
	buildRest = 10
)

// snapshots shares snapshots of a set between sessions. One is built at a time, and it
// is dropped with the last session that uses it, or when another one may be built.
type snapshots struct {
	build func() (*reconcile.Set, error)
	now   func() time.Time // of this process, never set back

	building sync.Mutex
	mu       sync.Mutex
	live     []*snapshot // the newest last
	rested   time.Time   // when another one may be built
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
// already: then it is the newest. The caller has to release it, and should have waited
// for the time of rest.
func (s *snapshots) get(since time.Time) (*snapshot, error) {
	return s.getIf(func(newest *snapshot, used int) bool { return !newest.made.Before(since) || used >= maxSnapshots })
}

// getAny is get for a neighbour, which has to do with an older one if another one may
// not be built yet.
func (s *snapshots) getAny(since time.Time) (*snapshot, error) {
	return s.getIf(func(newest *snapshot, used int) bool {
		return !newest.made.Before(since) || used >= maxSnapshots || s.now().Before(s.rested)
	})
}

func (s *snapshots) getIf(will func(newest *snapshot, used int) bool) (*snapshot, error) {
	if sn := s.share(will); sn != nil {
		return sn, nil
	}
	s.building.Lock()
	defer s.building.Unlock()
	if sn := s.share(will); sn != nil { // built while we waited
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
	s.sweep()
	s.live = append(s.live, sn)
	if took := s.now().Sub(made); took >= costly {
		s.rested = s.now().Add(buildRest * took)
		time.AfterFunc(buildRest*took, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.sweep()
		})
	}
	return sn, nil
}

// rest returns for how long a session that may wait should do so.
func (s *snapshots) rest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rested.Sub(s.now())
}

func (s *snapshots) share(will func(newest *snapshot, used int) bool) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.live) == 0 {
		return nil
	}
	used := 0
	for _, sn := range s.live {
		if sn.users > 0 {
			used++
		}
	}
	newest := s.live[len(s.live)-1]
	if !will(newest, used) {
		return nil
	}
	newest.users++
	return newest
}

// sweep drops what nobody uses.
func (s *snapshots) sweep() {
	s.live = slices.DeleteFunc(s.live, func(sn *snapshot) bool { return sn.users == 0 })
}

func (sn *snapshot) release() {
	s := sn.of
	s.mu.Lock()
	defer s.mu.Unlock()
	if sn.users--; sn.users == 0 && !s.now().Before(s.rested) {
		s.sweep()
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
