package bench_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/reconcile"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/passport"
)

// differences is in how many envelopes two nodes differ, half on each side.
const differences = 100

// BenchmarkReconcile finds out in what two sets differ, with the sums of both sides made
// anew as in every session, and compares that with the plain way: one side sends all its
// ids, both sort. 1,000 and 1,000,000 ids lie in memory, 100,000 also in two stores on
// disk, from which both sides read their ids first.
func BenchmarkReconcile(b *testing.B) {
	for range b.N {
		t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(t, "\n%d differences; %d rounds; median (smallest..largest)\n", differences, rounds)
		fmt.Fprintln(t, "\tround trips\tbytes\t/ all ids\tms, both sides\t/ plain way\t")
		for _, n := range []int{1000, 100_000, 1_000_000} {
			for i, name := range []string{"newest", "spread"} {
				ours, theirs := apart(n, i == 0)
				row(b, t, fmt.Sprintf("%d, %s", n, name), n, func() (*reconcile.Set, *reconcile.Set) { return ours, theirs })
			}
		}
		ours, theirs := storesApart(b, 100_000)
		row(b, t, "100000 in stores, spread", 100_000, func() (*reconcile.Set, *reconcile.Set) {
			return readSet(b, ours), readSet(b, theirs)
		})
		t.Flush()
	}
}

// row measures ten rounds of one pair of sets.
func row(b *testing.B, t *tabwriter.Writer, name string, n int, sets func() (a, b *reconcile.Set)) {
	var size, took, times []float64
	trips := 0
	for range rounds {
		start := time.Now()
		x, y := sets()
		read := time.Since(start)
		start = time.Now()
		s := session(b, x, y)
		ours := time.Since(start)
		start = time.Now()
		if got := plainWay(x, y); got != differences {
			b.Fatalf("the plain way found %d differences", got)
		}
		plain := time.Since(start)
		trips, size = s.trips, append(size, float64(s.bytes))
		took = append(took, float64(ours+read)/1e6)
		times = append(times, float64(ours+read)/float64(plain+read))
	}
	m, _, _ := spread(size)
	fmt.Fprintf(t, "%s\t%d\t%.0f\t%.4f\t%s\t%s\t\n", name, trips, m, m/float64(32*n), spreadText(took, "%.1f"), spreadText(times, "%.2f"))
	b.ReportMetric(m, "bytes:"+metric(name))
}

// meeting is what a session cost.
type meeting struct{ trips, bytes int }

func session(b *testing.B, x, y *reconcile.Set) (m meeting) {
	b.Helper()
	var secret [reconcile.KeySize]byte
	rand.Read(secret[:])
	i := reconcile.NewInitiator(reconcile.NewView(x, 0, math.MaxUint32, secret), reconcile.Limits{})
	r := reconcile.NewResponder(reconcile.NewView(y, 0, math.MaxUint32, secret), reconcile.Limits{})
	for {
		frame, err := i.Frame()
		if err != nil {
			b.Fatal(err)
		}
		if frame == nil {
			break
		}
		answer, err := r.Answer(frame)
		if err != nil {
			b.Fatal(err)
		}
		if err := i.Take(answer); err != nil {
			b.Fatal(err)
		}
		m.trips, m.bytes = m.trips+1, m.bytes+len(frame)+len(answer)
	}
	if len(i.Lacking()) != differences/2 || len(i.Missing()) != differences/2 {
		b.Fatalf("found %d and %d", len(i.Lacking()), len(i.Missing()))
	}
	return m
}

// plainWay walks through both sets side by side, one of them sent as a whole.
func plainWay(x, y *reconcile.Set) (found int) {
	sent := make([]reconcile.Item, 0, x.Len())
	for i := range x.Len() {
		sent = append(sent, x.At(i))
	}
	slices.SortFunc(sent, reconcile.Item.Compare)
	i, j := 0, 0
	for i < len(sent) || j < y.Len() {
		switch c := compareAt(sent, i, y, j); {
		case c < 0:
			i, found = i+1, found+1
		case c > 0:
			j, found = j+1, found+1
		default:
			i, j = i+1, j+1
		}
	}
	return found
}

func compareAt(x []reconcile.Item, i int, y *reconcile.Set, j int) int {
	switch {
	case i == len(x):
		return 1
	case j == y.Len():
		return -1
	case x[i].Expires != y.At(j).Expires:
		return x[i].Compare(y.At(j))
	}
	id := y.At(j).ID
	return bytes.Compare(x[i].ID[:], id[:])
}

// apart makes two sets of n ids that differ in those with the last ends, or anywhere.
func apart(n int, newest bool) (x, y *reconcile.Set) {
	r := storetest.Random(uint64(n))
	all := make([]reconcile.Item, n+differences/2)
	for i := range all {
		all[i].Expires = uint32(storetest.Hour(24 + r.IntN(300)))
		for j := range all[i].ID {
			all[i].ID[j] = byte(r.Uint32())
		}
	}
	if newest {
		slices.SortFunc(all, reconcile.Item.Compare)
	}
	common, own := all[:n-differences/2], all[n-differences/2:]
	return reconcile.SetOf(slices.Concat(common, own[:differences/2])), reconcile.SetOf(slices.Concat(common, own[differences/2:]))
}

// storesApart fills two stores with the same envelopes but for some of each.
func storesApart(b *testing.B, n int) (x, y *store.Store) {
	b.Helper()
	dir := b.TempDir()
	x, y = openStore(b, filepath.Join(dir, "x")), openStore(b, filepath.Join(dir, "y"))
	for seed, s := range map[uint64]*store.Store{1: x, 2: y} {
		b.Cleanup(func() { s.Close() })
		fill(b, s, 100, n-differences/2)
		fill(b, s, seed, differences/2)
	}
	return x, y
}

// readSet reads the ids of a store in the order of their ends, as a session does.
func readSet(b *testing.B, s *store.Store) *reconcile.Set {
	b.Helper()
	set := new(reconcile.Set)
	err := s.Window(0, math.MaxUint32, func(expires passport.Time, id envelope.ID) bool {
		if err := set.Add(reconcile.Item{Expires: uint32(expires), ID: id}); err != nil {
			b.Error(err)
			return false
		}
		return true
	})
	if err != nil {
		b.Fatal(err)
	}
	return set
}
