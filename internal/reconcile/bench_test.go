package reconcile_test

import (
	"fmt"
	"math"
	"runtime"
	"testing"

	"github.com/asmtp/asmtp/internal/reconcile"
)

// BenchmarkReconcile reconciles two sets that differ in 100 spread over history, both
// sides in one process, views made anew as in every session.
func BenchmarkReconcile(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		x, y := apart(n, 100, false)
		sx, sy := reconcile.SetOf(x), reconcile.SetOf(y)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var o outcome
			for b.Loop() {
				o = run(b, sx, sy, reconcile.Limits{})
			}
			b.ReportMetric(float64(o.up+o.down), "bytes")
			b.ReportMetric(float64(o.trips), "roundtrips")
			if len(o.Lacking()) != 50 || len(o.Missing()) != 50 {
				b.Fatalf("found %d and %d", len(o.Lacking()), len(o.Missing()))
			}
		})
	}
}

// BenchmarkSnapshot makes a set and a view of 1,000,000 items, and says what they take.
func BenchmarkSnapshot(b *testing.B) {
	x, _ := apart(1_000_000, 0, true)
	sorted := reconcile.SetOf(x)
	for b.Loop() {
		before := heap()
		s := new(reconcile.Set)
		for i := range sorted.Len() {
			if err := s.Add(sorted.At(i)); err != nil {
				b.Fatal(err)
			}
		}
		after := heap()
		v := reconcile.NewView(s, 0, math.MaxUint32, secret)
		b.ReportMetric(float64(after-before)/1e6, "MB/set")
		b.ReportMetric(float64(heap()-after)/1e6, "MB/view")
		runtime.KeepAlive(s)
		runtime.KeepAlive(v)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
