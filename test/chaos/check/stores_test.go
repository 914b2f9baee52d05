package check_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/test/chaos/check"
)

// clock is what the clocks of these tests' nodes show, end is when their envelopes end.
var (
	clock = passport.TimeOf(begin)
	end   = clock.Add(24 * time.Hour)
)

func id(n byte) envelope.ID { return envelope.ID{n} }

// holding is a store of that node with these envelopes.
func holding(node string, ids ...byte) *check.Store {
	s := &check.Store{Node: node, At: 10 * time.Second, Clock: clock, Envelopes: map[envelope.ID]passport.Time{}, Holders: map[envelope.ID][]string{}}
	for _, n := range ids {
		s.Envelopes[id(n)] = end
	}
	return s
}

func world(list ...*check.Store) map[string]*check.Store {
	m := map[string]*check.Store{}
	for _, s := range list {
		m[s.Node] = s
	}
	return m
}

// Each rule about stores is violated by the stores that break it, and by no other.
func TestStoreRules(t *testing.T) {
	told := func(holder string, s *check.Store) *check.Store { s.Holders[id(1)] = []string{holder}; return s }
	at := func(c passport.Time, s *check.Store) *check.Store { s.Clock = c; return s }
	unsound := func(s *check.Store) *check.Store { s.Problems = []string{"two numbers"}; return s }
	ack := check.Ack{Node: "a", ID: id(1), Expires: end, At: 5 * time.Second, By: "alice"}
	either := ack
	either.Nodes = []string{"a", "b"}
	early := ack
	early.At = 20 * time.Second // told after the look
	for _, tt := range []struct {
		name        string
		before, now map[string]*check.Store
		acks        []check.Ack
		want        []string
	}{
		{"all is there", world(holding("a", 1), holding("b")), world(told("b", holding("a", 1, 2)), holding("b", 1)), []check.Ack{ack}, nil},
		{"removed", world(holding("a", 1)), world(holding("a")), nil, []string{"removed before its end"}},
		{"ended, but not for four hours", world(holding("a", 1)), world(at(end.Add(4*time.Hour-time.Second), holding("a"))), nil, []string{"removed before its end"}},
		{"ended", world(holding("a", 1)), world(at(end.Add(4*time.Hour), holding("a"))), nil, nil},
		{"kept beyond its end", world(holding("a", 1)), world(at(end.Add(40*time.Hour), holding("a", 1))), nil, nil},
		{"custody that is not kept", nil, world(told("b", holding("a", 1)), holding("b", 2)), nil, []string{"custody without envelope"}},
		{"custody that has ended", nil, world(told("b", holding("a", 1)), at(end.Add(5*time.Hour), holding("b"))), nil, nil},
		{"custody of a store that was not looked into", nil, world(told("b", holding("a", 1))), nil, nil},
		{"acknowledged and gone", nil, world(holding("a")), []check.Ack{ack}, []string{"acknowledged, but not stored"}},
		{"acknowledged and ended", nil, world(at(end.Add(5*time.Hour), holding("a"))), []check.Ack{ack}, nil},
		{"acknowledged after the look", nil, world(holding("a")), []check.Ack{early}, nil},
		{"acknowledged by one of two", nil, world(holding("a"), holding("b", 1)), []check.Ack{either}, nil},
		{"acknowledged by one of two and gone", nil, world(holding("a"), holding("b", 2)), []check.Ack{either}, []string{"acknowledged, but not stored"}},
		{"unsound", nil, world(unsound(holding("a", 1))), nil, []string{"store does not verify"}},
	} {
		rules := map[string]bool{}
		list := check.Stores(tt.before, tt.now, tt.acks)
		for _, v := range list {
			rules[v.Rule] = true
		}
		if got := slices.Sorted(maps.Keys(rules)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: violated %q, want %q\n%v", tt.name, got, tt.want, list)
		}
	}
}

// A mail is held by as many others as its sender says if that many stores and that of
// its node have every part.
func TestHolders(t *testing.T) {
	all := world(holding("a", 1, 2), holding("b", 1, 2), holding("c", 1), holding("d"))
	gone := world(holding("a", 1, 2), holding("b"))
	gone["b"].Clock = end.Add(5 * time.Hour)
	for _, tt := range []struct {
		name   string
		stores map[string]*check.Store
		count  int
		good   bool
	}{
		{"as told", all, 1, true},
		{"one has only a part of it", all, 2, false},
		{"fewer were told", all, 0, true},
		{"one may have forgotten it", gone, 1, true},
		{"more than there are", gone, 2, false},
	} {
		list := check.Holders(tt.stores, []check.Held{{Mail: "m", By: "alice", Count: tt.count, Parts: []envelope.ID{id(1), id(2)}, Expires: end}})
		if (len(list) == 0) != tt.good {
			t.Errorf("%s: %v", tt.name, list)
		}
	}
}
