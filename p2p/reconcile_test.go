package p2p_test

import (
	"crypto/rand"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/p2p"
	"github.com/asmtp/asmtp/passport"
)

// spread makes envelopes whose ends lie hours apart, over days.
func spread(t *testing.T, n int) []*envelope.Envelope {
	t.Helper()
	all := make([]*envelope.Envelope, n)
	for i := range all {
		all[i] = ending(t, time.Duration(3+i%300)*time.Hour)
	}
	return all
}

// ending makes an envelope that ends at the full hour before the time from now.
func ending(t *testing.T, in time.Duration) *envelope.Envelope {
	t.Helper()
	e := &envelope.Envelope{Expires: passport.TimeOf(time.Now().Add(in)) / 3600 * 3600, Sealed: make([]byte, envelope.Sizes[0])}
	rand.Read(e.Sealed)
	rand.Read(e.Tag[:])
	parsed, err := envelope.Parse(e.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// keep stores envelopes as brought by a neighbour, behind the host's back.
func (n *node) keep(all []*envelope.Envelope) {
	n.m.t.Helper()
	stranger := noise.PublicKey{1}
	for piece := range slices.Chunk(all, 500) {
		arrivals := make([]envelope.Arrival, len(piece))
		for i, e := range piece {
			arrivals[i] = envelope.Arrival{Envelope: e, From: stranger}
		}
		outcomes, err := n.store.PutEnvelopes(n.m.t.Context(), arrivals)
		if err != nil {
			n.m.t.Fatal(err)
		}
		for _, o := range outcomes {
			if o.Full != envelope.NotFull {
				n.m.t.Fatalf("no room: %v", o.Full)
			}
		}
	}
}

// with returns n's figures of its reconciliations with o.
func (n *node) with(o *node) p2p.PeerReconciled { return n.Reconciled().Peers[o.key.Public()] }

// settled waits until a round that n opened with o after begun has ended without an error.
func (n *node) settled(o *node, begun time.Time) {
	n.m.t.Helper()
	n.m.bell.until(n.m.t, n.name+" reconciled with "+o.name, func() bool { return n.with(o).Last.After(begun) })
}

// eventually looks often until ok is true, at what rings no bell.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// Two stores of 5,000 that differ in 100 end with the union, in at most 3 round trips and
// 64 KB; the next round finds nothing and costs next to nothing.
func TestTwoLargeStoresAgree(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false), m.node("b", true, func(n *node) { n.every = time.Hour }) // opens none itself
	all := spread(t, 5050)
	a.keep(all[:5000])
	b.keep(all[50:])
	m.connect(a, b)
	a.has(all)
	b.has(all)
	a.settled(b, time.Time{})
	first := a.with(b)
	t.Logf("%d bytes, %d round trips, %v", first.Bytes, first.RoundTrips, first.Took)
	if first.Lacking != 50 || first.Missing != 50 || first.RoundTrips > 3 || first.Bytes > 64_000 {
		t.Errorf("first round: %+v", first)
	}
	if got := b.puts.Load() + a.puts.Load(); got != 100 {
		t.Errorf("%d envelopes moved, want 100", got)
	}
	a.Reconcile(b.key.Public())
	a.settled(b, first.Last)
	if again := a.with(b); again.Lacking+again.Missing != 0 || again.RoundTrips != 1 || again.Bytes > 1000 {
		t.Errorf("second round: %+v", again)
	}
	eventually(t, "the snapshots are dropped", func() bool { return a.Snapshots()+b.Snapshots() == 0 })
}

// When the connection breaks on the way, only what is still missing is moved after it.
func TestReconciliationIsResumed(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false), m.node("b", true)
	all := mail(t, 2, 600)
	b.keep(all)
	a.knows(b)
	m.bell.until(t, "a has some", func() bool { return a.puts.Load() > 50 })
	b.stop()
	m.bell.until(t, "a sees that b is gone", func() bool { return !a.connected(b) })
	before := a.puts.Load()
	if before >= 600 {
		t.Skip("all came before the connection could be cut")
	}
	b.start(true)
	a.has(all)
	if got := a.puts.Load(); got > 600+16 { // what came with the broken connection is at most a request
		t.Errorf("%d envelopes moved, %d of them before the break", got, before)
	}
}

// Own mail that a neighbour has already counts as held by it, without an offer.
func TestCustodyIsLearnedByReconciliation(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false), m.node("b", true)
	own, foreign := spread(t, 300), spread(t, 300)
	a.submit(own)
	a.keep(foreign)
	b.keep(append(own[100:], foreign...))
	m.connect(a, b)
	b.has(own)
	m.bell.until(t, "b counts as holder of all", func() bool {
		return !slices.ContainsFunc(own, func(e *envelope.Envelope) bool { return a.store.Custody(e.ID()) != 1 })
	})
	if got := b.puts.Load(); got != 100 {
		t.Errorf("%d envelopes moved, want 100", got)
	}
}

// The one that answers learns that its own mail is held as soon as the opener has it.
func TestAnswererLearnsOfCustody(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false), m.node("b", true, func(n *node) { n.every = time.Hour }) // opens none itself
	own := spread(t, 30)
	b.submit(own)
	m.connect(a, b)
	a.has(own)
	m.bell.until(t, "a counts as holder of all", func() bool {
		return !slices.ContainsFunc(own, func(e *envelope.Envelope) bool { return b.store.Custody(e.ID()) != 1 })
	})
}

// clockwork is a clock that a test moves.
type clockwork struct{ off atomic.Int64 }

func (c *clockwork) now() time.Time           { return time.Now().Add(time.Duration(c.off.Load())) }
func (c *clockwork) advance(by time.Duration) { c.off.Add(int64(by)) }

// What a full neighbour refuses is reported, and not offered again within an hour.
func TestRefusedEnvelopesRest(t *testing.T) {
	m := newMesh(t)
	clock := new(clockwork)
	a := m.node("a", false, func(n *node) { n.now = clock.now })
	b := m.node("b", true, func(n *node) {
		n.now, n.quotas, n.every = clock.now, store.Quotas{Small: 20 << 10, Large: 1 << 20}, time.Hour
	})
	all := spread(t, 60)
	a.keep(all)
	m.connect(a, b)
	m.bell.until(t, "b refuses", func() bool { return a.with(b).Refused > 0 })
	a.settled(b, time.Time{})
	eventually(t, "all were offered", func() bool { return b.puts.Load() == 60 })
	stored := 60 - len(b.store.Missing(ids(all)))
	eventually(t, "all refusals are known", func() bool { return a.with(b).Refused == 60-stored })
	if stored == 0 || stored == 60 {
		t.Fatalf("b stored %d of 60", stored)
	}
	last, looks := a.with(b).Last, b.looks.Load()
	a.Reconcile(b.key.Public())
	a.settled(b, last)
	if again := a.with(b); again.Lacking != 60-stored {
		t.Errorf("%d lacking", again.Lacking)
	}
	a.submit(mail(t, 0, 1)) // what was found is offered in front of it
	eventually(t, "new mail is offered", func() bool { return a.with(b).Refused == 60-stored+1 })
	if got := b.looks.Load() - looks; got > 3 || b.puts.Load() > 62 {
		t.Errorf("%d were offered", got)
	}
	clock.advance(61 * time.Minute)
	a.Reconcile(b.key.Public())
	eventually(t, "they are offered again", func() bool { return b.puts.Load() > 100 })
}

// Two nodes whose clocks are two hours apart, either way, end with the same set.
func TestClocksTwoHoursApartAgree(t *testing.T) {
	for _, off := range []time.Duration{2 * time.Hour, -2 * time.Hour} {
		m := newMesh(t)
		clock := new(clockwork)
		clock.advance(off)
		a, b := m.node("a", false), m.node("b", true, func(n *node) { n.now = clock.now })
		all := spread(t, 900)
		a.keep(all[:600])
		b.keep(all[300:])
		// Ends of the next three hours are past on one clock only.
		var soon []*envelope.Envelope
		for hours := range 3 {
			soon = append(soon, ending(t, time.Duration(hours+1)*time.Hour))
		}
		a.keep(soon)
		b.keep(soon)
		m.connect(a, b)
		a.has(all)
		b.has(all)
		a.settled(b, time.Time{})
		last := a.with(b).Last
		a.Reconcile(b.key.Public())
		a.settled(b, last)
		if again := a.with(b); again.Lacking+again.Missing != 0 {
			t.Errorf("%v apart: %+v", off, again)
		}
		got, warn := a.ClockOff()
		if (got-off).Abs() > time.Minute || !warn {
			t.Errorf("clock is off by %v, warn %v; want %v", got, warn, off)
		}
		if got, warn := b.ClockOff(); (got+off).Abs() > time.Minute || !warn {
			t.Errorf("the other clock is off by %v, warn %v; want %v", got, warn, -off)
		}
	}
}

// A node with a clock that is right says nothing, whatever one of three neighbours has.
func TestOneWrongClockOfThreeIsNotOurs(t *testing.T) {
	m := newMesh(t)
	clock := new(clockwork)
	clock.advance(time.Hour)
	a := m.node("a", true)
	for i := range 3 {
		b := m.node(string(rune('b'+i)), false, func(n *node) {
			if i == 0 {
				n.now = clock.now
			}
		})
		m.connect(b, a)
	}
	m.bell.until(t, "all clocks are known", func() bool {
		known := 0
		for _, p := range a.Peers() {
			if p.ClockKnown {
				known++
			}
		}
		return known == 3
	})
	if off, warn := a.ClockOff(); warn || off.Abs() > time.Minute {
		t.Errorf("%v, %v", off, warn)
	}
}

// A round of its own reconciles what was stored meanwhile.
func TestRoundsReconcile(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false, func(n *node) { n.every = 200 * time.Millisecond }), m.node("b", true, func(n *node) { n.every = time.Hour })
	m.connect(a, b)
	a.settled(b, time.Time{})
	late := spread(t, 5)
	b.keep(late)
	a.has(late)
}

// A member that lost its store, or went back to an old one, and comes back with the same
// key does not count any more for what it shows to lack; it does when it has it again.
func TestLostCustodyDoesNotCount(t *testing.T) {
	for name, room := range map[string]int64{"it takes all again": 0, "it has no room any more": 1} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t)
			a, b := m.node("a", false), m.node("b", true)
			m.connect(a, b)
			all := mail(t, 0, 10)
			a.submit(all)
			a.heldBy("b counts", all, 1)
			b.stop()
			m.bell.until(t, "b is gone", func() bool { return !a.connected(b) })
			if err := b.store.Close(); err != nil {
				t.Fatal(err)
			}
			var err error
			if b.store, err = store.Open(t.TempDir(), store.Options{Quotas: store.Quotas{Small: room, Large: room}}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { b.store.Close() })
			b.start(true)
			if room != 0 {
				a.heldBy("b does not count", all, 0)
				return
			}
			b.has(all)
			a.heldBy("b counts again", all, 1)
		})
	}
}
