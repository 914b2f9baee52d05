package store_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// accounts is what the quotas must come to, kept in the simplest way.
type accounts struct {
	quotas    store.Quotas
	members   int
	envelopes map[envelope.ID]*counted
}

type counted struct {
	e         *envelope.Envelope
	from      noise.PublicKey
	own, mine bool // brought by an own user; counted to them
	ended     bool
	holders   map[passport.ID]*bool // mailboxes that hold it, and whether it is acknowledged there
}

func (c *counted) size() int64 { return int64(len(c.e.Bytes())) }
func (c *counted) large() bool { return c.e.Class() == 3 }

func (a *accounts) usage() (u store.Usage) {
	for _, c := range a.envelopes {
		s := &u.Relay
		if c.mine {
			s = &u.Own
		}
		n := &s.Small
		if c.large() {
			n = &s.Large
		}
		n.Count++
		n.Bytes += c.size()
	}
	return u
}

func (a *accounts) share(from noise.PublicKey) (n [2]int64) {
	for _, c := range a.envelopes {
		switch {
		case c.mine || c.from != from:
		case c.large():
			n[1] += c.size()
		default:
			n[0] += c.size()
		}
	}
	return n
}

// put says what must become of an arrival.
func (a *accounts) put(x envelope.Arrival) envelope.Outcome {
	c, known := a.envelopes[x.Envelope.ID()]
	if !known {
		c = &counted{e: x.Envelope, from: x.From, own: x.From.IsZero(), holders: map[passport.ID]*bool{}}
		c.mine = c.own || len(x.Matches) > 0
		if full := a.full(c); full != envelope.NotFull {
			return envelope.Outcome{Full: full}
		}
		a.envelopes[x.Envelope.ID()] = c
	}
	c.own = c.own || x.From.IsZero()
	c.hold(x.Matches)
	return envelope.Outcome{Fresh: !known}
}

func (c *counted) hold(matches []envelope.Match) {
	for _, m := range matches {
		if c.holders[m.User] == nil {
			c.holders[m.User] = new(bool)
		}
	}
	c.mine = c.mine || c.own || len(c.holders) > 0
}

func (a *accounts) full(c *counted) envelope.Full {
	u, share := a.usage(), a.share(c.from)
	s := u.Relay
	if c.mine {
		s = u.Own
	}
	used, limit, class, full := s.Small.Bytes, a.quotas.Small, 0, envelope.FullSmall
	if c.large() {
		used, limit, class, full = s.Large.Bytes, a.quotas.Large, 1, envelope.FullLarge
	}
	switch {
	case used+c.size() > limit:
		return full
	case !c.mine && share[class]+c.size() > limit/int64(max(8, a.members)):
		return envelope.FullShare
	}
	return envelope.NotFull
}

func (a *accounts) expire(hour int) {
	now := storetest.Hour(hour)
	for _, c := range a.envelopes {
		maps.DeleteFunc(c.holders, func(_ passport.ID, acknowledged *bool) bool { return *acknowledged && hour > 30*24 })
		c.ended = c.ended || c.e.Expires.Add(4*time.Hour) <= now
	}
	maps.DeleteFunc(a.envelopes, func(_ envelope.ID, c *counted) bool { return c.ended && len(c.holders) == 0 })
}

// TestQuotasAreKeptWhateverHappens does random writes and compares usage, shares, outcomes
// and the indices with the accounts above after each.
func TestQuotasAreKeptWhateverHappens(t *testing.T) {
	seed := rand.Uint64()
	r := storetest.Random(seed)
	m := &accounts{store.Quotas{Small: 300_000, Large: 1_500_000}, 4, map[envelope.ID]*counted{}}
	o := store.Options{Quotas: m.quotas, Members: func() int { return m.members }}
	dir := t.TempDir()
	s := open(t, dir, o)
	defer func() { s.Close() }()
	var all []*envelope.Envelope
	refused := map[envelope.Full]int{}
	for step := range 1500 {
		m.step(t, s, r, &all, refused)
		if step%100 == 99 {
			m.compare(t, s)
			verify(t, s)
		}
		if step%500 == 499 {
			s.Close()
			s = open(t, dir, o)
		}
		if t.Failed() {
			t.Fatalf("seed %d, step %d", seed, step)
		}
	}
	t.Logf("refused %v", refused)
	if refused[envelope.FullShare] == 0 || refused[envelope.FullSmall]+refused[envelope.FullLarge] == 0 {
		t.Errorf("the quotas were never reached: %v", refused)
	}
}

func (m *accounts) step(t *testing.T, s *store.Store, r *rand.Rand, all *[]*envelope.Envelope, refused map[envelope.Full]int) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	switch n := r.IntN(40); {
	case n < 30 || len(*all) == 0:
		var arrivals []envelope.Arrival
		var want []envelope.Outcome
		for range 1 + r.IntN(4)/3*5 {
			e := storetest.NewEnvelope(r, r.IntN(4), storetest.Hour(1+r.IntN(6)))
			if len(*all) > 0 && r.IntN(4) == 0 {
				e = (*all)[r.IntN(len(*all))]
			}
			*all = append(*all, e)
			a := envelope.Arrival{Envelope: e, From: noise.PublicKey{byte(r.IntN(10))}, Matches: randomMatches(r)}
			arrivals = append(arrivals, a)
			want = append(want, m.put(a))
			refused[want[len(want)-1].Full]++
		}
		if got := put(t, s, arrivals...); !slices.Equal(got, want) {
			t.Errorf("outcomes %+v, want %+v", got, want)
		}
	case n < 33:
		id, x := (*all)[r.IntN(len(*all))].ID(), randomMatches(r)
		check(s.AddMatches(ctx, []envelope.ID{id}, [][]envelope.Match{x}))
		if c := m.envelopes[id]; c != nil {
			c.hold(x)
		}
	case n < 38:
		m.acknowledge(t, s, passport.ID{byte(r.IntN(3))})
	default:
		hour := []int{3, 5, 7, 29 * 24, 30*24 + 1}[r.IntN(5)]
		_, err := s.ExpireEnvelopes(ctx, storetest.Hour(hour), 1_000_000)
		check(err)
		m.expire(hour)
	}
}

func (m *accounts) acknowledge(t *testing.T, s *store.Store, user passport.ID) {
	t.Helper()
	list, err := s.Deliveries(user, 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	var numbers []uint64
	for _, d := range list {
		e, err := envelope.Parse(d.Envelope)
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, d.Number)
		*m.envelopes[e.ID()].holders[user] = true
	}
	if err := s.Acknowledge(ctx, user, noise.PublicKey{7}, numbers); err != nil {
		t.Fatal(err)
	}
}

func randomMatches(r *rand.Rand) (list []envelope.Match) {
	for range max(0, r.IntN(8)-6) {
		list = append(list, envelope.Match{User: passport.ID{byte(r.IntN(3))}, Handle: envelope.Handle{byte(r.IntN(3))}})
	}
	return list
}

func (m *accounts) compare(t *testing.T, s *store.Store) {
	t.Helper()
	if u, err := s.Usage(); err != nil || u != m.usage() {
		t.Errorf("usage %+v (%v), want %+v", u, err, m.usage())
	}
	for i := range 10 {
		small, large, err := s.ShareOf(noise.PublicKey{byte(i)})
		if want := m.share(noise.PublicKey{byte(i)}); err != nil || [2]int64{small, large} != want {
			t.Errorf("share of %d: %d and %d (%v), want %v", i, small, large, err, want)
		}
	}
	var own, window []envelope.ID
	from, to := storetest.Hour(2), storetest.Hour(5)
	for id, c := range m.envelopes {
		if c.own && !c.ended {
			own = append(own, id)
		}
		if !c.ended && c.e.Expires >= from && c.e.Expires < to {
			window = append(window, id)
		}
	}
	less := func(a, b envelope.ID) int {
		x, y := m.envelopes[a].e, m.envelopes[b].e
		if x.Expires != y.Expires {
			return int(x.Expires) - int(y.Expires)
		}
		return slices.Compare(a[:], b[:])
	}
	slices.SortFunc(own, less)
	slices.SortFunc(window, less)
	var got []envelope.ID
	add := func(id envelope.ID, end passport.Time) bool {
		if c := m.envelopes[id]; c == nil || c.e.Expires != end {
			t.Errorf("envelope %s ends at %s, want otherwise", id.Short(), end)
		}
		got = append(got, id)
		return true
	}
	if err := s.OwnEnvelopes(add); err != nil || !slices.Equal(got, own) {
		t.Errorf("%d own envelopes (%v), want %d", len(got), err, len(own))
	}
	got = nil
	err := s.Window(from, to, func(end passport.Time, id envelope.ID) bool { return add(id, end) })
	if err != nil || !slices.Equal(got, window) {
		t.Errorf("%d envelopes in the window (%v), want %d", len(got), err, len(window))
	}
}

// TestQuotasAreExactWithManyWriters: what goes in together is what fits, to the envelope.
func TestQuotasAreExactWithManyWriters(t *testing.T) {
	const one = 1024 + envelope.HeaderSize
	s := open(t, t.TempDir(), store.Options{Quotas: store.Quotas{Small: 800*one + 17, Large: 1}, Members: func() int { return 10 }})
	defer s.Close()
	var share, quota, taken, own atomic.Int64
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			r := storetest.Random(uint64(w))
			from := noise.PublicKey{byte(w % 4)} // 0 is an own user
			for range 70 {
				e := storetest.NewEnvelope(r, 0, storetest.Hour(9))
				outcomes, err := s.PutEnvelopes(ctx, []envelope.Arrival{{Envelope: e, From: from}})
				switch {
				case err != nil:
					t.Error(err)
				case outcomes[0].Fresh && from.IsZero():
					own.Add(1)
				case outcomes[0].Fresh:
					taken.Add(1)
				case outcomes[0].Full == envelope.FullShare && !from.IsZero():
					share.Add(1)
				case outcomes[0].Full == envelope.FullSmall && from.IsZero():
					quota.Add(1)
				default:
					t.Errorf("from %v: %+v", from, outcomes[0])
				}
			}
		})
	}
	wg.Wait()
	if own.Load() != 800 || taken.Load() != 3*80 || share.Load() != 48*70-240 || quota.Load() != 16*70-800 {
		t.Errorf("own %d, of neighbours %d; refused %d for the share, %d for the quota", own.Load(), taken.Load(), share.Load(), quota.Load())
	}
	verify(t, s)
}

// TestGrowthIsOfTheLastDay also shows that the records of the hours do not pile up.
func TestGrowthIsOfTheLastDay(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).Truncate(time.Hour)
	o := store.Options{Now: func() time.Time { return now }}
	dir := t.TempDir()
	s := open(t, dir, o)
	defer func() { s.Close() }()
	r := storetest.Random(3)
	for hour := range 60 {
		for i := range 3 { // a relayed one, that soon becomes an own one; a relayed one; a large own one
			e := storetest.NewEnvelope(r, i/2*3, passport.TimeOf(now.Add(5*time.Hour)))
			put(t, s, envelope.Arrival{Envelope: e, From: noise.PublicKey{byte(2 - i)}})
			if i == 0 {
				put(t, s, envelope.Arrival{Envelope: e})
			}
		}
		if _, err := s.ExpireEnvelopes(ctx, passport.TimeOf(now), 100); err != nil {
			t.Fatal(err)
		}
		if hour%7 == 6 {
			s.Close()
			s = open(t, dir, o)
		}
		now = now.Add(time.Hour)
	}
	now = now.Add(-time.Minute)
	g, err := s.Growth()
	if err != nil {
		t.Fatal(err)
	}
	const small, large = 1024 + envelope.HeaderSize, envelope.MaxSize
	day := func(n, size int64) store.Amount { return store.Amount{Count: 24 * n, Bytes: 24 * n * size} }
	in := store.Usage{Own: store.Sizes{Small: day(1, small), Large: day(1, large)}, Relay: store.Sizes{Small: day(2, small)}}
	out := store.Usage{Own: store.Sizes{Small: day(1, small), Large: day(1, large)}, Relay: store.Sizes{Small: day(1, small)}}
	if g.In != in || g.Out != out {
		t.Errorf("in %+v\nwant %+v\nout %+v\nwant %+v", g.In, in, g.Out, out)
	}
	now = now.Add(24 * time.Hour)
	if g, err := s.Growth(); err != nil || g != (store.Growth{}) {
		t.Errorf("after a day without any: %+v (%v)", g, err)
	}
	if n := s.CountKind('z'); n > 26 {
		t.Errorf("%d records of hours", n)
	}
	verify(t, s)
}
