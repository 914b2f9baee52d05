package spool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/spool"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	ctx     = context.Background()
	alice   = passport.ID{1}
	bob     = passport.ID{2}
	nobody  noise.PublicKey
	someone = noise.PublicKey{5}
)

func openStore(t testing.TB) *store.Store {
	t.Helper()
	st, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Verify(ctx, func(p string) { t.Errorf("verify: %s", p) }); err != nil {
			t.Error(err)
		}
		st.Close()
	})
	return st
}

func newSpool(t testing.TB, st spool.Store, o spool.Options) *spool.Spool {
	t.Helper()
	s, err := spool.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func epoch(at passport.Time) uint32 { return topic.Epoch(uint32(at)) }

// newKey returns a random key for the epoch of an end.
func newKey(r *rand.Rand, end passport.Time) envelope.TagKey {
	k := envelope.TagKey{Epoch: epoch(end)}
	for i := range k.Key {
		k.Key[i] = byte(r.Uint32())
	}
	for i := range k.Handle {
		k.Handle[i] = byte(r.Uint32())
	}
	return k
}

// tagged returns an envelope that k fits.
func tagged(r *rand.Rand, k envelope.TagKey, end passport.Time) *envelope.Envelope {
	e := storetest.NewEnvelope(r, 0, end)
	e.Tag = k.Key.Tag(e.SealHash())
	return e
}

func put(t testing.TB, s *spool.Spool, envs ...*envelope.Envelope) []spool.Result {
	t.Helper()
	results, err := s.Put(ctx, nobody, envs)
	ok(t, err)
	return results
}

// inbox returns how often each envelope is in a mailbox.
func inbox(t testing.TB, s *spool.Spool, user passport.ID) map[envelope.ID]int {
	t.Helper()
	list, err := s.Deliveries(user, 0, 1_000_000)
	ok(t, err)
	n := map[envelope.ID]int{}
	for _, d := range list {
		e, err := envelope.Parse(d.Envelope)
		ok(t, err)
		n[e.ID()]++
	}
	return n
}

func wantInbox(t testing.TB, s *spool.Spool, user passport.ID, envs ...*envelope.Envelope) {
	t.Helper()
	got := inbox(t, s, user)
	for _, e := range envs {
		if n := got[e.ID()]; n != 1 {
			t.Errorf("envelope %s is %d times in the mailbox", e.ID().Short(), n)
		}
	}
	if len(got) != len(envs) {
		t.Errorf("%d envelopes in the mailbox, want %d", len(got), len(envs))
	}
}

func TestPutRefusesWhatCannotTravel(t *testing.T) {
	s := newSpool(t, openStore(t), spool.Options{})
	r := storetest.Random(1)
	crooked := storetest.NewEnvelope(r, 0, storetest.Hour(5)+1)
	short := storetest.NewEnvelope(r, 0, storetest.Hour(5))
	short.Sealed = short.Sealed[1:]
	for _, tt := range []struct {
		name string
		e    *envelope.Envelope
		want error
	}{
		{"end past", storetest.NewEnvelope(r, 0, storetest.Hour(0)), spool.ErrExpired},
		{"end in the next hour", storetest.NewEnvelope(r, 0, storetest.Hour(1)), nil},
		{"end after the retention, within the slack", storetest.NewEnvelope(r, 3, storetest.Hour(14*24+2)), nil},
		{"end after the retention", storetest.NewEnvelope(r, 0, storetest.Hour(14*24+4)), spool.ErrTooFar},
		{"end not a full hour", crooked, spool.ErrMalformed},
		{"no size class", short, spool.ErrMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			good := storetest.NewEnvelope(r, 1, storetest.Hour(9)) // goes in whatever the other does
			res := put(t, s, tt.e, good)
			if !errors.Is(res[0].Err, tt.want) || res[0].Fresh != (tt.want == nil) || res[0].ID != tt.e.ID() {
				t.Errorf("result %+v, want error %v", res[0], tt.want)
			}
			if stored := len(s.Missing([]envelope.ID{tt.e.ID()})) == 0; stored != (tt.want == nil) {
				t.Errorf("stored: %v", stored)
			}
			if res[1].Err != nil || !res[1].Fresh {
				t.Errorf("the other one: %+v", res[1])
			}
		})
	}
}

func TestOnlyWhatIsNewIsPassedOn(t *testing.T) {
	s := newSpool(t, openStore(t), spool.Options{})
	var passed []envelope.ID
	s.OnStored(func(from noise.PublicKey, e *envelope.Envelope) {
		if from != someone || len(s.Missing([]envelope.ID{e.ID()})) != 0 {
			t.Errorf("passed on from %s before it is stored", from.Short())
		}
		passed = append(passed, e.ID())
	})
	r := storetest.Random(2)
	a, b, late := storetest.NewEnvelope(r, 0, storetest.Hour(5)), storetest.NewEnvelope(r, 1, storetest.Hour(5)), storetest.NewEnvelope(r, 0, storetest.Hour(-1))
	for range 2 {
		_, err := s.Put(ctx, someone, []*envelope.Envelope{a, late, b, a})
		ok(t, err)
	}
	if !slices.Equal(passed, []envelope.ID{a.ID(), b.ID()}) {
		t.Errorf("passed on %v", passed)
	}
}

// An own user's envelope is told of while it is being synced, once; what came from a
// neighbour is not.
func TestOwnAreToldOfBeforeTheSync(t *testing.T) {
	s := newSpool(t, openStore(t), spool.Options{})
	var told []envelope.ID
	s.OnAdmitted(func(e *envelope.Envelope) {
		if len(s.Missing([]envelope.ID{e.ID()})) == 0 {
			t.Error("told of after it was stored")
		}
		told = append(told, e.ID())
	})
	r := storetest.Random(2)
	a, b, late, foreign := storetest.NewEnvelope(r, 0, storetest.Hour(5)), storetest.NewEnvelope(r, 3, storetest.Hour(5)), storetest.NewEnvelope(r, 0, storetest.Hour(-1)), storetest.NewEnvelope(r, 0, storetest.Hour(5))
	_, err := s.Put(ctx, someone, []*envelope.Envelope{foreign})
	ok(t, err)
	for range 2 {
		_, err := s.Put(ctx, noise.PublicKey{}, []*envelope.Envelope{a, late, b, a, foreign})
		ok(t, err)
	}
	if !slices.Equal(told, []envelope.ID{a.ID(), b.ID()}) {
		t.Errorf("told of %v", told)
	}
}

func TestKeysMatchWhatCameBeforeAndAfter(t *testing.T) {
	st := openStore(t)
	s := newSpool(t, st, spool.Options{})
	r := storetest.Random(3)
	end := storetest.Hour(20)
	k, other := newKey(r, end), newKey(r, end)
	before, after, foreign := tagged(r, k, end), tagged(r, k, end), tagged(r, newKey(r, end), end)
	put(t, s, before, foreign)
	ok(t, s.RegisterTagKeys(ctx, alice, []envelope.TagKey{k, other}))
	ok(t, s.RegisterTagKeys(ctx, alice, []envelope.TagKey{k}))
	ok(t, s.RegisterTagKeys(ctx, bob, []envelope.TagKey{other}))
	put(t, s, after)
	shared := tagged(r, other, end)
	put(t, s, shared)
	wantInbox(t, s, alice, before, after, shared)
	wantInbox(t, s, bob, shared)

	s = newSpool(t, st, spool.Options{}) // keys come back with the store
	again := tagged(r, k, end)
	put(t, s, again)
	wantInbox(t, s, alice, before, after, shared, again)
	ok(t, s.DeregisterTagKeys(ctx, alice, []envelope.Handle{k.Handle}))
	put(t, s, tagged(r, k, end))
	wantInbox(t, s, alice, before, after, shared, again)
	if n := s.Keys(); n != 2 {
		t.Errorf("%d keys, want 2", n)
	}
}

func TestLimitsOfTagKeys(t *testing.T) {
	s := newSpool(t, openStore(t), spool.Options{MaxKeys: 3})
	r := storetest.Random(4)
	now := storetest.Hour(0)
	keys := []envelope.TagKey{newKey(r, now), newKey(r, now), newKey(r, now), newKey(r, now)}
	ok(t, s.RegisterTagKeys(ctx, alice, keys[:2]))
	if err := s.RegisterTagKeys(ctx, bob, keys[2:]); !errors.Is(err, spool.ErrTooManyKeys) {
		t.Errorf("fourth key: %v", err)
	}
	ok(t, s.RegisterTagKeys(ctx, alice, keys[:3])) // two of them are there
	next := newKey(r, now.Add(14*24*time.Hour))
	ok(t, s.RegisterTagKeys(ctx, bob, []envelope.TagKey{next})) // another epoch
	past := newKey(r, now.Add(-15*24*time.Hour))
	ok(t, s.RegisterTagKeys(ctx, bob, []envelope.TagKey{past}))
	if n := s.Keys(); n != 4 {
		t.Errorf("%d keys, want 4: three, one of the next epoch, none of a past one", n)
	}
	far := newKey(r, now.Add(8*14*24*time.Hour))
	if err := s.RegisterTagKeys(ctx, bob, []envelope.TagKey{far}); !errors.Is(err, spool.ErrEpoch) {
		t.Errorf("key of an epoch far ahead: %v", err)
	}
	ok(t, s.DeregisterTagKeys(ctx, alice, []envelope.Handle{keys[0].Handle}))
	ok(t, s.RegisterTagKeys(ctx, bob, keys[3:]))
}

// slowStore holds PutEnvelopes until a scan has ended, or for a moment if there is none.
type slowStore struct {
	*store.Store
	putting, scanned chan struct{}
}

func (s *slowStore) PutEnvelopes(ctx context.Context, a []envelope.Arrival) ([]envelope.Outcome, error) {
	close(s.putting)
	select {
	case <-s.scanned:
	case <-time.After(100 * time.Millisecond): // the scan waits for us, as it should
	}
	return s.Store.PutEnvelopes(ctx, a)
}

func (s *slowStore) Envelopes(after envelope.ID, fn func(envelope.Meta) bool) error {
	defer close(s.scanned)
	return s.Store.Envelopes(after, fn)
}

// TestRegisterWaitsForPutsThatMatchedBefore: an envelope that was matched before its
// key was known, and is stored after the scan has passed, would be lost.
func TestRegisterWaitsForPutsThatMatchedBefore(t *testing.T) {
	st := &slowStore{openStore(t), make(chan struct{}), make(chan struct{})}
	s := newSpool(t, st, spool.Options{})
	r := storetest.Random(5)
	k := newKey(r, storetest.Hour(9))
	e := tagged(r, k, storetest.Hour(9))
	done := make(chan error)
	go func() {
		_, err := s.Put(ctx, nobody, []*envelope.Envelope{e})
		done <- err
	}()
	<-st.putting
	ok(t, s.RegisterTagKeys(ctx, alice, []envelope.TagKey{k}))
	ok(t, <-done)
	wantInbox(t, s, alice, e)
}

// TestEveryMatchIsInTheMailboxOnce, whatever the order of keys and envelopes.
func TestEveryMatchIsInTheMailboxOnce(t *testing.T) {
	seed := rand.Uint64()
	r := storetest.Random(seed)
	s := newSpool(t, openStore(t), spool.Options{})
	end := storetest.Hour(30)
	users := []passport.ID{alice, bob}
	want := map[passport.ID][]*envelope.Envelope{}
	var work []func()
	for i := range 60 {
		k, user := newKey(r, end), users[i%2]
		for range 2 {
			work = append(work, func() { ok(t, s.RegisterTagKeys(ctx, user, []envelope.TagKey{k})) })
		}
		for range 5 {
			e := tagged(r, k, end)
			want[user] = append(want[user], e)
			for range 2 {
				work = append(work, func() { put(t, s, e) })
			}
		}
		work = append(work, func() { put(t, s, storetest.NewEnvelope(rand.New(rand.NewPCG(seed, uint64(i))), 0, end)) })
	}
	r.Shuffle(len(work), func(i, j int) { work[i], work[j] = work[j], work[i] })
	queue := make(chan func())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for f := range queue {
				f()
			}
		})
	}
	for _, f := range work {
		queue <- f
	}
	close(queue)
	wg.Wait()
	for _, u := range users {
		wantInbox(t, s, u, want[u]...)
	}
	if t.Failed() {
		t.Logf("seed %d", seed)
	}
}

// TestNoDeliveryIsSleptThrough: a reader that waits, reads and waits again gets all.
func TestNoDeliveryIsSleptThrough(t *testing.T) {
	s := newSpool(t, openStore(t), spool.Options{})
	r := storetest.Random(6)
	end := storetest.Hour(9)
	k := newKey(r, end)
	ok(t, s.RegisterTagKeys(ctx, alice, []envelope.TagKey{k}))
	const n = 200
	envs := make([]*envelope.Envelope, n)
	for i := range envs {
		envs[i] = tagged(r, k, end)
	}
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for last := uint64(0); last < n; {
				wake := s.Wait(alice)
				list, err := s.Deliveries(alice, last, 10)
				ok(t, err)
				for _, d := range list {
					if d.Number != last+1 {
						t.Errorf("number %d after %d", d.Number, last)
					}
					last = d.Number
				}
				if len(list) > 0 {
					continue
				}
				select {
				case <-wake:
				case <-limit.Done():
					t.Errorf("asleep after number %d", last)
					return
				}
			}
		})
	}
	for _, e := range envs {
		put(t, s, e)
	}
	wg.Wait()
}

// fakeEnds is a store of which Run needs to see the calls only.
type fakeEnds struct {
	spool.Store

	mu   sync.Mutex
	log  []string
	left int
}

func (f *fakeEnds) ExpireEnvelopes(_ context.Context, now passport.Time, limit int) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(f.left, limit)
	f.left -= n
	f.log = append(f.log, fmt.Sprint("expire ", n))
	return n, nil
}

func (f *fakeEnds) Compact(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, "compact")
	return nil
}

// take returns the calls so far and begins anew, with left envelopes to remove.
func (f *fakeEnds) take(left int) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	log := f.log
	f.log, f.left = nil, left
	return log
}

// TestRunRemovesEveryHour: all that is due, in pieces.
func TestRunRemovesEveryHour(t *testing.T) {
	st := openStore(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		fake := &fakeEnds{Store: st, left: 2500}
		s := newSpool(t, fake, spool.Options{})
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		if got, want := fake.take(1), []string{"expire 1000", "expire 1000", "expire 500", "compact"}; !slices.Equal(got, want) {
			t.Errorf("at the start: %q", got)
		}
		time.Sleep(time.Hour) // of the bubble's clock
		synctest.Wait()
		if got, want := fake.take(0), []string{"expire 1", "compact"}; !slices.Equal(got, want) {
			t.Errorf("after an hour: %q", got)
		}
		cancel()
		ok(t, <-done)
	})
}

// TestKeysGoFourHoursAfterTheirEpoch, from memory and from the store.
func TestKeysGoFourHoursAfterTheirEpoch(t *testing.T) {
	st := openStore(t)
	r := storetest.Random(7)
	var now passport.Time = 100 * topic.EpochSeconds
	s := newSpool(t, st, spool.Options{Now: func() time.Time { return now.Time() }})
	for _, n := range []uint32{100, 101} {
		k := newKey(r, 0)
		k.Epoch = n
		ok(t, s.RegisterTagKeys(ctx, alice, []envelope.TagKey{k}))
	}
	for _, tt := range []struct {
		now  passport.Time
		want int
	}{
		{101*topic.EpochSeconds + 4*3600 - 1, 2},
		{101*topic.EpochSeconds + 4*3600, 1},
	} {
		now = tt.now
		ok(t, spool.Expire(s, ctx))
		stored := 0
		ok(t, st.TagKeys(func(passport.ID, envelope.TagKey) bool { stored++; return true }))
		if s.Keys() != tt.want || stored != tt.want {
			t.Errorf("%d keys, %d stored, want %d", s.Keys(), stored, tt.want)
		}
	}
}
