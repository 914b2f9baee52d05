package reconcile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
)

// ID names an item.
type ID = [32]byte

// Item is an element of a set. An id has one end only, on both sides.
type Item struct {
	Expires uint32
	ID      ID
}

// Compare orders items by their ends, then by their ids.
func (i Item) Compare(o Item) int {
	if c := cmp.Compare(i.Expires, o.Expires); c != 0 {
		return c
	}
	return bytes.Compare(i.ID[:], o.ID[:])
}

// ErrOrder is wrapped by the error of [Set.Add] for an item that is not behind the last.
var ErrOrder = errors.New("items out of order")

// chunkSize is how many items are allocated at a time, so that a large set does not
// have to be copied when it grows.
const chunkSize = 4096

// Set is an ordered set of items, 36 bytes each. The zero value is empty. Once views
// were made of it nothing may be added; then any number of goroutines may read it.
type Set struct {
	chunks [][]Item
	n      int
}

// Add puts an item behind all others.
func (s *Set) Add(it Item) error {
	if s.n > 0 && s.At(s.n-1).Compare(it) >= 0 {
		return fmt.Errorf("%w: item %d", ErrOrder, s.n)
	}
	if s.n%chunkSize == 0 {
		s.chunks = append(s.chunks, make([]Item, 0, chunkSize))
	}
	last := &s.chunks[len(s.chunks)-1]
	*last = append(*last, it)
	s.n++
	return nil
}

// SetOf makes a set of items in any order. Items that stand there twice count once.
func SetOf(items []Item) *Set {
	items = slices.Clone(items)
	slices.SortFunc(items, Item.Compare)
	s := new(Set)
	for _, it := range slices.Compact(items) {
		if err := s.Add(it); err != nil {
			continue // cannot be: sorted, and no two are equal
		}
	}
	return s
}

// Len returns how many items there are.
func (s *Set) Len() int { return s.n }

// At returns the item at a place from 0.
func (s *Set) At(i int) Item { return s.chunks[i/chunkSize][i%chunkSize] }

// at is At without the copy.
func (s *Set) at(i int) *Item { return &s.chunks[i/chunkSize][i%chunkSize] }

// search returns the place of the first item in [lo, hi) that is not below b, hi if
// there is none.
func (s *Set) search(lo, hi int, b bound) int {
	if b.inf {
		return hi
	}
	return lo + sort.Search(hi-lo, func(i int) bool { return s.at(lo+i).Compare(b.Item) >= 0 })
}
