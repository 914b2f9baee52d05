package bench_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

// plenty are quotas that no benchmark fills.
var plenty = store.Quotas{Small: 64 << 30, Large: 64 << 30}

func someUser() passport.ID { return passport.ID{15: 1} }

// tagKeys returns tag keys of the epoch in which the envelopes of a source end.
func tagKeys(n int) []envelope.TagKey {
	r := rand.New(rand.NewPCG(1, 1))
	list := make([]envelope.TagKey, n)
	for i := range list {
		list[i].Epoch = topic.Epoch(uint32(storetest.Hour(48)))
		for j := range list[i].Handle {
			list[i].Handle[j] = byte(r.Uint32())
		}
		for j := range list[i].Key {
			list[i].Key[j] = byte(r.Uint32())
		}
	}
	return list
}

// openStore opens a store in dir that takes whatever comes.
func openStore(b *testing.B, dir string) *store.Store {
	b.Helper()
	s, err := store.Open(dir, store.Options{Quotas: plenty})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// fill puts n envelopes of 1 KiB into a store, their ends spread over two weeks. The
// same seed gives the same envelopes.
func fill(b *testing.B, s *store.Store, seed uint64, n int) {
	b.Helper()
	r := storetest.Random(seed)
	arrivals := make([]envelope.Arrival, 0, 2000)
	for i := range n {
		e := storetest.NewEnvelope(r, 0, storetest.Hour(24+i%300))
		arrivals = append(arrivals, envelope.Arrival{Envelope: e})
		if len(arrivals) < cap(arrivals) && i+1 < n {
			continue
		}
		outcomes, err := s.PutEnvelopes(context.Background(), arrivals)
		if err == nil && outcomes[0].Full != envelope.NotFull {
			err = fmt.Errorf("no room: %v", outcomes[0].Full)
		}
		if err != nil {
			b.Fatal(err)
		}
		arrivals = arrivals[:0]
	}
}
