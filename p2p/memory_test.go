package p2p

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/reconcile"
)

// What was refused rests for an hour, each neighbour by itself, within a bound; beyond
// it all rests.
func TestRefusalsAreBounded(t *testing.T) {
	now := start
	r := newRefusals(func() time.Time { return now })
	if !r.add(key(1), number(0)) || r.add(key(1), number(1)) {
		t.Error("the log is not told exactly once")
	}
	if !r.has(key(1), number(0)) || r.has(key(2), number(0)) || r.has(key(1), number(9)) {
		t.Error("not remembered for its neighbour alone")
	}
	now = now.Add(refusedTime)
	if r.has(key(1), number(0)) || r.count(key(1)) != 0 {
		t.Error("remembered for longer than its time")
	}
	for i := range maxRefused + 10 {
		r.add(key(1), number(i))
	}
	if n := len(r.of[key(1)].until); n != maxRefused {
		t.Errorf("%d remembered", n)
	}
	if !r.has(key(1), number(maxRefused+100)) {
		t.Error("beyond the bound not all rests")
	}
	now = now.Add(refusedTime)
	if r.has(key(1), number(maxRefused+100)) || r.has(key(1), number(1)) {
		t.Error("still at rest after an hour")
	}
}

func numbers(from, n int) (ids []envelope.ID) {
	for i := range n {
		ids = append(ids, number(from+i))
	}
	return ids
}

// A doubt ends with a proof alone, or with its envelope. Beyond a bound a neighbour's word
// counts for nothing, until it has proved half; what it never counted for gives way.
func TestDoubts(t *testing.T) {
	now := start
	end := start.Add(time.Hour)
	d := newDoubts(func() time.Time { return now })
	trusts := func(from, n int) int {
		trusted, _ := d.split(key(1), numbers(from, n))
		return len(trusted)
	}
	if trusted, claims := d.split(key(1), numbers(0, 3)); len(trusted) != 3 || claims {
		t.Error("doubt without a reason")
	}
	d.add(key(1), number(1), end, true)
	if trusted, claims := d.split(key(1), numbers(0, 3)); len(trusted) != 2 || !claims {
		t.Error("a doubted word counts")
	}
	if trusted, _ := d.split(key(2), numbers(0, 3)); len(trusted) != 3 {
		t.Error("another neighbour is doubted")
	}
	if got := d.claimed(key(1), 5); len(got) != 1 || got[0] != number(1) {
		t.Errorf("claimed: %v", got)
	}
	d.add(key(1), number(1), end, true)
	if len(d.claimed(key(1), 5)) != 0 {
		t.Error("claimed after it failed again")
	}
	d.settle(key(1), number(1))
	if trusts(0, 3) != 3 {
		t.Error("doubted after a proof")
	}
	for i := range maxDoubts {
		d.add(key(1), number(i), end, false)
	}
	for i := range maxDoubts {
		d.add(key(1), number(maxDoubts+i), end, true)
	}
	if n := len(d.of[key(1)].ids); n != maxDoubts || trusts(maxDoubts, maxDoubts) != 0 || trusts(3*maxDoubts, 3) != 3 {
		t.Errorf("%d remembered, and what never counted has not given way", n)
	}
	d.add(key(1), number(3*maxDoubts), end, false)
	if trusts(3*maxDoubts, 3) != 3 {
		t.Error("what never counted costs a neighbour its word")
	}
	d.add(key(1), number(3*maxDoubts), end, true)
	if trusts(3*maxDoubts+1, 3) != 0 {
		t.Error("trusted after more failures than are remembered")
	}
	d.settle(key(1), numbers(maxDoubts, maxDoubts/2)...)
	if trusts(3*maxDoubts+1, 3) != 3 {
		t.Error("not trusted after it has proved half")
	}
	for i := range maxDoubts {
		d.add(key(1), number(4*maxDoubts+i), end, true)
	}
	if trusts(9*maxDoubts, 3) != 0 {
		t.Error("trusted after too many failures again")
	}
	now = end
	if trusts(9*maxDoubts, 3) != 3 {
		t.Error("not trusted after all that it failed for has ended")
	}
}

// Sessions of one neighbour, and of all, are bounded, and come back with time.
func TestServingIsBounded(t *testing.T) {
	now := start
	s := newServing(func() time.Time { return now })
	for i := range serveBurst {
		if !s.enter(key(1)) {
			t.Fatalf("session %d refused", i)
		}
		s.leave(key(1))
	}
	if s.enter(key(1)) {
		t.Error("more than a burst")
	}
	now = now.Add(2 * servePause)
	for i, want := range []bool{true, true, false} {
		if s.enter(key(1)) != want {
			t.Errorf("session %d after two pauses: %v", i, !want)
		}
	}
	now = now.Add(time.Hour)
	if s.enter(key(1)) {
		t.Error("more at a time than one neighbour may have")
	}
	open := maxServingOne
	for i := byte(2); open < maxServing; i++ {
		for range maxServingOne {
			if !s.enter(key(i)) {
				t.Fatal("refused below the bound")
			}
			open++
		}
	}
	if s.enter(key(200)) {
		t.Error("more than all may have")
	}
}

// Sessions share a snapshot that is new enough, one is built at a time, and the last
// session drops it.
func TestSnapshotsAreShared(t *testing.T) {
	now, builds := start, 0
	s := newSnapshots(func() (*reconcile.Set, error) { builds++; return new(reconcile.Set), nil })
	s.now = func() time.Time { return now }
	get := func(since time.Time) *snapshot {
		t.Helper()
		sn, err := s.get(since)
		if err != nil {
			t.Fatal(err)
		}
		return sn
	}
	a, b := get(start), get(start)
	if a != b || builds != 1 {
		t.Fatal("not shared")
	}
	now = now.Add(time.Second)
	c := get(now)
	if c == a || builds != 2 {
		t.Fatal("an old snapshot for a new need")
	}
	now = now.Add(time.Second)
	if d := get(now); d != c {
		t.Fatal("more snapshots than there may be")
	}
	for _, sn := range []*snapshot{a, b, c, c} {
		sn.release()
	}
	if len(s.live) != 0 {
		t.Errorf("%d snapshots are left", len(s.live))
	}
	fails := newSnapshots(func() (*reconcile.Set, error) { return nil, errors.New("no store") })
	if _, err := fails.get(start); err == nil || len(fails.live) != 0 {
		t.Error("a snapshot of nothing")
	}
}

// After a snapshot that took long to build none is built for ten times as long: those of
// neighbours share it, and who can wait is told for how long.
func TestCostlySnapshotsAreRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		builds := 0
		s := newSnapshots(func() (*reconcile.Set, error) {
			builds++
			time.Sleep(time.Second) // of the bubble
			return new(reconcile.Set), nil
		})
		for range 100 { // sessions of a neighbour, over 200 seconds
			sn, err := s.getAny(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			sn.release()
			time.Sleep(2 * time.Second)
		}
		if builds > 20 {
			t.Errorf("%d builds", builds)
		}
		builds = 0
		if rest := s.rest(); rest > 10*time.Second {
			t.Errorf("rest of %v", rest)
		}
		since := time.Now()
		sn, err := s.get(since)
		if err != nil || builds != 1 || sn.made.Before(since) {
			t.Errorf("%d builds for a need of our own, %v", builds, err)
		}
		sn.release()
		if n := s.kept(); n != 1 {
			t.Errorf("%d snapshots are kept", n)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if s.kept() != 0 {
			t.Error("a snapshot is kept for longer than its rest")
		}
	})
}

// Many at once get one or two builds.
func TestSnapshotsTogether(t *testing.T) {
	var builds int // one is built at a time
	gate := make(chan struct{})
	s := newSnapshots(func() (*reconcile.Set, error) { builds++; <-gate; return new(reconcile.Set), nil })
	var wg sync.WaitGroup
	var held sync.WaitGroup
	held.Add(20)
	for range 20 {
		wg.Go(func() {
			sn, err := s.get(time.Now())
			if err != nil {
				t.Error(err)
				return
			}
			held.Done()
			held.Wait()
			sn.release()
		})
	}
	close(gate)
	wg.Wait()
	if builds > maxSnapshots || len(s.live) != 0 {
		t.Errorf("%d builds, %d left", builds, len(s.live))
	}
}

// The clock warns if more than half of the neighbours are off on the same side.
func TestMedian(t *testing.T) {
	for _, c := range []struct {
		offs []time.Duration
		want time.Duration
	}{
		{nil, 0}, {[]time.Duration{7}, 7}, {[]time.Duration{7, 9}, 7}, {[]time.Duration{-9, -7}, -7}, {[]time.Duration{-9, 7}, 0},
		{[]time.Duration{0, 9}, 0}, {[]time.Duration{9, 0, 8}, 8}, {[]time.Duration{-9, 1, 9}, 1}, {[]time.Duration{6, 7, 8, 0}, 6},
	} {
		if got := median(slices.Clone(c.offs)); got != c.want {
			t.Errorf("%v: %v, want %v", c.offs, got, c.want)
		}
	}
}

// The id in front of another one.
func TestBefore(t *testing.T) {
	id := number(1)
	if b := before(id); b[3] != 0 || b[31] != 0xff {
		t.Errorf("%x", b)
	}
	id[31] = 5
	if b := before(id); b[31] != 4 || b[3] != 1 {
		t.Errorf("%x", b)
	}
}
