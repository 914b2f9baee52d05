package store_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/internal/store/storetest"
)

// BenchmarkSubmit stores envelopes of 1 KiB, one per call, from several goroutines, and
// in turns writes records of the same sizes with one synced transaction each, as Badger
// does by itself. "ratio" compares the two within one run on one disk.
func BenchmarkSubmit(b *testing.B) {
	for _, bb := range []struct {
		name    string
		putters int
	}{{"1", 1}, {"16", 16}, {"256", 256}} {
		b.Run(bb.name, func(b *testing.B) {
			s, bare := open(b, b.TempDir(), store.Options{}), store.OpenBare(b, b.TempDir())
			defer s.Close()
			var ours, theirs time.Duration
			r := storetest.Random(uint64(b.N))
			b.ResetTimer()
			for left := b.N; left > 0; {
				n := min(left, 2000)
				left -= n
				b.StopTimer()
				envs := make([]*envelope.Envelope, n)
				for i := range envs {
					envs[i] = storetest.NewEnvelope(r, 0, storetest.Hour(9))
				}
				b.StartTimer()
				ours += each(bb.putters, envs, func(e *envelope.Envelope) error {
					_, err := s.PutEnvelopes(ctx, []envelope.Arrival{{Envelope: e}})
					return err
				}, b)
				b.StopTimer()
				theirs += each(bb.putters, envs, bare.Put, b)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N)/ours.Seconds(), "envelopes/s")
			b.ReportMetric(float64(b.N)/theirs.Seconds(), "bare/s")
			b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
		})
	}
}

// each calls f for every envelope from n goroutines and returns how long it took.
func each(n int, envs []*envelope.Envelope, f func(*envelope.Envelope) error, b *testing.B) time.Duration {
	start := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(envs); i = next.Add(1) - 1 {
				if err := f(envs[i]); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}
