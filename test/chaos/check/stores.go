package check

import (
	"fmt"
	"slices"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/passport"
)

// grace is how long a node keeps an envelope after its end, design.md section 6.
const grace = 4 * time.Hour

// Store is what a stopped node's store holds.
type Store struct {
	Node      string
	At        time.Duration // since the start of the run
	Clock     passport.Time // the latest that this node's clock has ever been
	Envelopes map[envelope.ID]passport.Time
	// Holders are the members that said they store an envelope; only nodes of the run.
	Holders  map[envelope.ID][]string
	Problems []string // what the store's own check found
}

// Ack is an envelope that a node told a client to have.
type Ack struct {
	Node    string
	ID      envelope.ID
	Expires passport.Time // or the earliest that it can be
	At      time.Duration // when it was known
	By      string        // which client
	Mail    string        // the mail it is a part of, if it is of one
	// Nodes are all that may have told; nil stands for Node alone.
	Nodes []string
}

// Held is a mail that a client says to be held by some members beside its node.
type Held struct {
	Mail, By string
	Count    int
	Parts    []envelope.ID
	Expires  passport.Time // the earliest that their end can be
}

// Holders checks that as many stores as clients say have every part, beside the node
// that the mail was handed to. The stores of all nodes must be among now.
func Holders(now map[string]*Store, list []Held) (bad []Violation) {
	for _, h := range list {
		have := 0
		for _, s := range now {
			if s.mayForget(h.Expires) || s.hasAll(h.Parts) {
				have++
			}
		}
		if have < h.Count+1 {
			bad = append(bad, Violation{"held by fewer", h.Mail, fmt.Sprintf("%s says %d others hold it; all its %d parts are in %d stores", h.By, h.Count, len(h.Parts), have)})
		}
	}
	return bad
}

func (s *Store) hasAll(ids []envelope.ID) bool {
	for _, id := range ids {
		if _, ok := s.Envelopes[id]; !ok {
			return false
		}
	}
	return true
}

// mayForget reports whether a node may have removed an envelope with this end.
func (s *Store) mayForget(expires passport.Time) bool { return expires.Add(grace) <= s.Clock }

// Stores checks what the stores of all nodes hold after they were stopped at the same
// time: what each held before and has not ended is there; what it told clients to have
// is there; what members said to store, they store; each store is sound in itself.
func Stores(before, now map[string]*Store, acks []Ack) (list []Violation) {
	add := func(rule, mail, format string, args ...any) {
		list = append(list, Violation{rule, mail, fmt.Sprintf(format, args...)})
	}
	for name, s := range now {
		for _, p := range s.Problems {
			add("store does not verify", "", "%s: %s", name, p)
		}
		if old := before[name]; old != nil {
			for id, expires := range old.Envelopes {
				if _, ok := s.Envelopes[id]; !ok && !s.mayForget(expires) {
					add("removed before its end", "", "%s held envelope %s at %.1f s; at %.1f s it does not, it ends at %s, the node's clock was at most %s",
						name, id, old.At.Seconds(), s.At.Seconds(), expires, s.Clock)
				}
			}
		}
		for id, holders := range s.Holders {
			expires, ok := s.Envelopes[id]
			if !ok {
				continue // the store's own check says so
			}
			for _, h := range holders {
				other := now[h]
				if other == nil || other.mayForget(expires) {
					continue
				}
				if _, ok := other.Envelopes[id]; !ok {
					add("custody without envelope", "", "%s was told by %s that it stores envelope %s (ends %s); it does not", name, h, id, expires)
				}
			}
		}
	}
	for _, a := range acks {
		if v, bad := a.check(now); bad {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b Violation) int {
		if a.Rule != b.Rule {
			return compare(a.Rule, b.Rule)
		}
		return compare(a.What, b.What)
	})
	return list
}

// check looks for an acknowledged envelope.
func (a Ack) check(now map[string]*Store) (v Violation, bad bool) {
	nodes := a.Nodes
	if nodes == nil {
		nodes = []string{a.Node}
	}
	for _, n := range nodes {
		s := now[n]
		if s == nil || s.At < a.At || s.mayForget(a.Expires) {
			return v, false // nothing can be said
		}
		if _, ok := s.Envelopes[a.ID]; ok {
			return v, false
		}
	}
	return Violation{"acknowledged, but not stored", a.Mail, fmt.Sprintf("%v told %s by %.2f s to have envelope %s (ends %s); at %.2f s it is not there",
		nodes, a.By, a.At.Seconds(), a.ID, a.Expires, now[nodes[0]].At.Seconds())}, true
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
