package topic_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/topic"
)

// numbered returns a tag key that is different for every n.
func numbered(n int) (k topic.TagKey) {
	binary.BigEndian.PutUint64(k[:], uint64(n))
	return k
}

func TestMatchFindsWhoseKeyMadeTheTag(t *testing.T) {
	var m topic.Matcher[string]
	hash := noise.H32([]byte("sealed"))
	m.Add(7, numbered(1), "one")
	m.Add(7, numbered(2), "two")
	m.Add(7, numbered(2), "two, other device")
	m.Add(8, numbered(3), "three")
	for _, tt := range []struct {
		name  string
		epoch uint32
		hash  [32]byte
		tag   topic.Tag
		want  []string
	}{
		{"one", 7, hash, numbered(1).Tag(hash), []string{"one"}},
		{"key held twice", 7, hash, numbered(2).Tag(hash), []string{"two", "two, other device"}},
		{"key of the next epoch", 7, hash, numbered(3).Tag(hash), nil},
		{"same key in its epoch", 8, hash, numbered(3).Tag(hash), []string{"three"}},
		{"unknown epoch", 9, hash, numbered(3).Tag(hash), nil},
		{"tag of another envelope", 7, noise.H32([]byte("other")), numbered(1).Tag(hash), nil},
		{"zero tag", 7, hash, topic.Tag{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := m.Match(tt.epoch, tt.hash, tt.tag); !slices.Equal(got, tt.want) {
				t.Errorf("Match = %q, want %q", got, tt.want)
			}
		})
	}
}

// Keys come and go before and after the first match of their epoch, which expands
// them; afterwards the matcher must know exactly those that a plain map knows.
func TestMatcherAgreesWithAMap(t *testing.T) {
	var m topic.Matcher[int]
	known := map[int]bool{}
	hash := noise.H32([]byte("sealed"))
	for step := range 600 {
		n := step * 7919 % 100
		if known[n] {
			m.Remove(1, numbered(n), n)
		} else {
			m.Add(1, numbered(n), n)
		}
		known[n] = !known[n]
		m.Remove(1, numbered(n), n+1) // another value
		m.Remove(2, numbered(n), n)   // another epoch
		if step < 50 {
			continue
		}
		for n := range 100 {
			got := m.Match(1, hash, numbered(n).Tag(hash))
			if known[n] != slices.Equal(got, []int{n}) || known[n] == (got == nil) {
				t.Fatalf("step %d: key %d found = %v, want %v", step, n, got, known[n])
			}
		}
	}
	count := 0
	for _, there := range known {
		if there {
			count++
		}
	}
	if m.Len() != count || m.LenEpoch(1) != count {
		t.Errorf("Len = %d, LenEpoch = %d, want %d", m.Len(), m.LenEpoch(1), count)
	}
}

func TestRemoveBeforeKeepsTheEpochItself(t *testing.T) {
	var m topic.Matcher[int]
	for epoch := range uint32(10) {
		m.Add(epoch, numbered(1), 1)
	}
	m.RemoveBefore(4)
	for epoch, want := range map[uint32]int{3: 0, 4: 1, 9: 1} {
		if got := m.LenEpoch(epoch); got != want {
			t.Errorf("epoch %d has %d keys, want %d", epoch, got, want)
		}
	}
	if m.Len() != 6 {
		t.Errorf("Len = %d, want 6", m.Len())
	}
}

func TestMatcherIsSafeForConcurrentUse(t *testing.T) {
	var m topic.Matcher[int]
	hash := noise.H32([]byte("sealed"))
	m.Add(1, numbered(0), 0)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 50 {
				n := 1 + g*50 + i
				m.Add(1, numbered(n), n)
				if got := m.Match(1, hash, numbered(n).Tag(hash)); !slices.Equal(got, []int{n}) {
					t.Errorf("key %d: Match = %v", n, got)
				}
				if got := m.Match(1, hash, numbered(0).Tag(hash)); !slices.Equal(got, []int{0}) {
					t.Errorf("key 0: Match = %v", got)
				}
				m.Remove(1, numbered(n), n)
				m.RemoveBefore(1)
			}
		})
	}
	wg.Wait()
	if m.Len() != 1 {
		t.Errorf("Len = %d, want 1", m.Len())
	}
}

// BenchmarkMatch1000 shows what a relayed envelope costs that is for nobody here:
// the hash of its bytes, then 1,000 tag keys. match/hash is the ratio of the two;
// the goal is match-ns below 50,000.
func BenchmarkMatch1000(b *testing.B) {
	const hashRounds = 2000
	m := matcherOf(1000)
	for _, size := range []int{1024, 4096, 16384, 61440} {
		b.Run(fmt.Sprintf("sealed=%d", size), func(b *testing.B) {
			head, sealed := make([]byte, 5), make([]byte, size)
			hash := noise.H32(head, sealed)
			for b.Loop() {
				if m.Match(1, hash, topic.Tag{}) != nil {
					b.Fatal("match")
				}
			}
			match := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
			start := time.Now()
			for range hashRounds {
				noise.H32(head, sealed)
			}
			hashNs := float64(time.Since(start).Nanoseconds()) / hashRounds
			b.ReportMetric(match, "match-ns")
			b.ReportMetric(hashNs, "hash-ns")
			b.ReportMetric(match/hashNs, "match/hash")
		})
	}
}

// BenchmarkMatch100000 is a node at its limit of tag keys for one epoch.
func BenchmarkMatch100000(b *testing.B) {
	m := matcherOf(100_000)
	var hash [32]byte
	m.Match(1, hash, topic.Tag{})
	for b.Loop() {
		m.Match(1, hash, topic.Tag{})
	}
}

// BenchmarkMatcherMemory shows the bytes that a key takes with a value of 32 bytes,
// as it was added and after the first match of its epoch.
func BenchmarkMatcherMemory(b *testing.B) {
	const keys = 10_000
	for b.Loop() {
		var m topic.Matcher[[32]byte]
		before := heap()
		for n := range keys {
			m.Add(1, numbered(n), [32]byte{})
		}
		added := heap()
		m.Match(1, [32]byte{}, topic.Tag{})
		b.ReportMetric(float64(added-before)/keys, "added-B/key")
		b.ReportMetric(float64(heap()-before)/keys, "expanded-B/key")
		runtime.KeepAlive(&m)
	}
}

func heap() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func matcherOf(n int) *topic.Matcher[int] {
	m := new(topic.Matcher[int])
	for i := range n {
		m.Add(1, numbered(i), i)
	}
	return m
}

func BenchmarkTagKey(b *testing.B) {
	s := secret(b, aliceToBob)
	for b.Loop() {
		s.TagKey(1)
	}
}

func BenchmarkNewPairSecret(b *testing.B) {
	f := newFixture(b)
	for b.Loop() {
		if _, err := topic.NewPairSecret(f.topic, f.alice, f.a, f.b); err != nil {
			b.Fatal(err)
		}
	}
}
