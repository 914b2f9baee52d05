package storetest

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/passport"
)

// model is what the store must hold, kept in the simplest way. It knows envelopes and
// mailboxes, which depend on one another; the rest is plain records.
type model struct {
	envelopes map[envelope.ID]*envelope.Envelope
	mailboxes map[passport.ID]*mailbox
}

type mailbox struct {
	last    uint64
	entries map[uint64]*modelEntry
}

type modelEntry struct {
	id           envelope.ID
	acknowledged bool
}

func (m *model) mailbox(u passport.ID) *mailbox {
	if m.mailboxes[u] == nil {
		m.mailboxes[u] = &mailbox{entries: map[uint64]*modelEntry{}}
	}
	return m.mailboxes[u]
}

func (m *model) deliver(id envelope.ID, matches []envelope.Match) {
	if m.envelopes[id] == nil {
		return
	}
	for _, x := range matches {
		b := m.mailbox(x.User)
		known := false
		for _, e := range b.entries {
			known = known || e.id == id
		}
		if !known {
			b.last++
			b.entries[b.last] = &modelEntry{id: id}
		}
	}
}

// expire is the rule of ExpireEnvelopes, with acknowledgement at about the hour 0.
func (m *model) expire(hour int) {
	held := map[envelope.ID]bool{}
	for _, b := range m.mailboxes {
		maps.DeleteFunc(b.entries, func(_ uint64, e *modelEntry) bool { return e.acknowledged && hour > 30*day })
		for _, e := range b.entries {
			held[e.id] = true
		}
	}
	maps.DeleteFunc(m.envelopes, func(id envelope.ID, e *envelope.Envelope) bool {
		return e.Expires+4*3600 <= Hour(hour) && !held[id]
	})
}

// testModel does random writes to the store and the model, and compares all that can be
// read after each; now and then the store is opened again, closed before or not.
func testModel(t *testing.T, f *fixture) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := Random(seed)
	m := &model{envelopes: map[envelope.ID]*envelope.Envelope{}, mailboxes: map[passport.ID]*mailbox{}}
	var all []*envelope.Envelope
	for step := range 300 {
		m.step(f, r, &all)
		if step%60 == 59 {
			if r.IntN(2) == 0 {
				f.reopen()
			} else {
				f.crash()
			}
			f.verify()
		}
		m.compare(f)
		if t.Failed() {
			t.Fatalf("seed %d, step %d", seed, step)
		}
	}
}

func (m *model) step(f *fixture, r *rand.Rand, all *[]*envelope.Envelope) {
	switch n := r.IntN(10); {
	case n < 5 || len(*all) == 0:
		m.put(f, r, all)
	case n < 7:
		e := (*all)[r.IntN(len(*all))]
		x := matches(r)
		ok(f.t, f.AddMatches(ctx, ids(e), [][]envelope.Match{x}))
		m.deliver(e.ID(), x)
	case n < 9:
		u := user(byte(r.IntN(3)))
		number := r.Uint64N(m.mailbox(u).last + 2)
		ok(f.t, f.Acknowledge(ctx, u, device(byte(r.IntN(2))), []uint64{number}))
		if e := m.mailbox(u).entries[number]; e != nil {
			e.acknowledged = true
		}
	default:
		hour := []int{2, 5, 8, 29 * day, 30*day + 1}[r.IntN(5)]
		f.expire(Hour(hour))
		m.expire(hour)
	}
}

func (m *model) put(f *fixture, r *rand.Rand, all *[]*envelope.Envelope) {
	f.t.Helper()
	var arrivals []envelope.Arrival
	var want []bool
	for range 1 + r.IntN(4) {
		var e *envelope.Envelope
		if len(*all) > 0 && r.IntN(3) == 0 {
			e = (*all)[r.IntN(len(*all))]
		} else {
			e = NewEnvelope(r, r.IntN(4), Hour(1+r.IntN(5)))
			*all = append(*all, e)
		}
		a := envelope.Arrival{Envelope: e, From: device(byte(r.IntN(3))), Matches: matches(r)}
		arrivals = append(arrivals, a)
		want = append(want, m.envelopes[e.ID()] == nil)
		m.envelopes[e.ID()] = e
		m.deliver(e.ID(), a.Matches)
	}
	if got := f.put(arrivals...); !slices.Equal(got, want) {
		f.t.Errorf("fresh %v, want %v", got, want)
	}
}

func matches(r *rand.Rand) (list []envelope.Match) {
	for range max(0, r.IntN(5)-2) {
		list = append(list, match(byte(r.IntN(3)), byte(r.IntN(3))))
	}
	return list
}

func (m *model) compare(f *fixture) {
	f.t.Helper()
	want := slices.SortedFunc(maps.Keys(m.envelopes), func(a, b envelope.ID) int { return bytes.Compare(a[:], b[:]) })
	if got := f.listed(); !slices.Equal(got, want) {
		f.t.Errorf("%d envelopes, want %d", len(got), len(want))
	}
	for u, b := range m.mailboxes {
		if n, err := f.LastNumber(u); n != b.last || err != nil {
			f.t.Errorf("mailbox of %s: last number %d (%v), want %d", u.Short(), n, err, b.last)
		}
		deliveries, err := f.Deliveries(u, 0, 10000)
		ok(f.t, err)
		if len(deliveries) != len(b.entries) {
			f.t.Errorf("mailbox of %s: %d entries, want %d", u.Short(), len(deliveries), len(b.entries))
		}
		for _, d := range deliveries {
			e := b.entries[d.Number]
			if e == nil || m.envelopes[e.id] == nil || !bytes.Equal(d.Envelope, m.envelopes[e.id].Bytes()) {
				f.t.Errorf("mailbox of %s: number %d holds another envelope", u.Short(), d.Number)
			}
		}
	}
}
