package oracle

import (
	"encoding/hex"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/nbd-wtf/go-nostr"
	"github.com/nbd-wtf/go-nostr/nip77/negentropy"
	"github.com/nbd-wtf/go-nostr/nip77/negentropy/storage/vector"

	"github.com/asmtp/asmtp/internal/reconcile"
)

// found is what an initiator learned and what that cost.
type found struct {
	haves, needs []string
	bytes, trips int
}

func (f *found) sort() {
	slices.Sort(f.haves)
	slices.Sort(f.needs)
}

// theirs reconciles with go-nostr's package on both sides. Its messages are hexadecimal.
func theirs(t *testing.T, a, b []reconcile.Item, limit int) (f found) {
	t.Helper()
	client, server := negentropy.New(storage(a), limit), negentropy.New(storage(b), limit)
	var wg sync.WaitGroup // its channels block when nobody reads them
	for ch, list := range map[chan string]*[]string{client.Haves: &f.haves, client.HaveNots: &f.needs} {
		wg.Go(func() {
			for id := range ch {
				*list = append(*list, id)
			}
		})
	}
	for message := client.Start(); message != ""; f.trips++ {
		answer, err := server.Reconcile(message)
		if err != nil {
			t.Fatal(err)
		}
		f.bytes += (len(message) + len(answer)) / 2
		if message, err = client.Reconcile(answer); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	f.sort()
	return f
}

func storage(items []reconcile.Item) *vector.Vector {
	v := vector.New()
	for _, it := range items {
		v.Insert(nostr.Timestamp(it.Expires), hex.EncodeToString(it.ID[:]))
	}
	v.Seal()
	return v
}

// ours reconciles with our package on both sides.
func ours(t *testing.T, a, b []reconcile.Item, limit int) (f found) {
	t.Helper()
	secret := [reconcile.KeySize]byte{1}
	l := reconcile.Limits{Frame: limit, Rounds: 10_000}
	i := reconcile.NewInitiator(reconcile.NewView(reconcile.SetOf(a), 0, math.MaxUint32, secret), l)
	r := reconcile.NewResponder(reconcile.NewView(reconcile.SetOf(b), 0, math.MaxUint32, secret), l)
	for {
		frame, err := i.Frame()
		if err != nil {
			t.Fatal(err)
		}
		if frame == nil {
			break
		}
		answer, err := r.Answer(frame)
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Take(answer); err != nil {
			t.Fatal(err)
		}
		f.bytes += len(frame) + len(answer)
		f.trips++
	}
	for _, it := range i.Lacking() {
		f.haves = append(f.haves, hex.EncodeToString(it.ID[:]))
	}
	for _, id := range i.Missing() {
		f.needs = append(f.needs, hex.EncodeToString(id[:]))
	}
	f.sort()
	return f
}

func items(r *rand.Rand, n int) []reconcile.Item {
	all := make([]reconcile.Item, n)
	for i := range all {
		all[i].Expires = 3600 * uint32(1+r.IntN(14*24))
		for j := range all[i].ID {
			all[i].ID[j] = byte(r.Uint32())
		}
	}
	return all
}

// Both implementations find the same differences, with large and with small frames.
func TestSameDifferences(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 100 {
		common := items(r, r.IntN(4000))
		a, b := slices.Concat(common, items(r, r.IntN(1<<r.IntN(10)))), slices.Concat(common, items(r, r.IntN(1<<r.IntN(10))))
		limit := 60_000
		if n%3 == 0 {
			limit = 8000
		}
		o, want := ours(t, a, b, limit), theirs(t, a, b, limit)
		if !slices.Equal(o.haves, want.haves) || !slices.Equal(o.needs, want.needs) {
			t.Fatalf("sets of %d and %d: %d and %d differences, the oracle finds %d and %d",
				len(a), len(b), len(o.haves), len(o.needs), len(want.haves), len(want.needs))
		}
	}
}

// Ours needs no more round trips, and no more bytes but those that prove agreement.
func TestCostsNoMore(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	common := items(r, 20_000)
	for _, differ := range []int{0, 1, 10, 100, 1000} {
		a, b := slices.Concat(common, items(r, differ)), slices.Concat(common, items(r, differ))
		o, want := ours(t, a, b, 500_000), theirs(t, a, b, 500_000)
		t.Logf("%d differ: %d round trips and %d bytes, the oracle %d and %d", 2*differ, o.trips, o.bytes, want.trips, want.bytes)
		if o.trips > want.trips+1 || o.bytes > want.bytes*11/10+500 {
			t.Errorf("%d differ: %d round trips and %d bytes, the oracle needs %d and %d", 2*differ, o.trips, o.bytes, want.trips, want.bytes)
		}
	}
}
