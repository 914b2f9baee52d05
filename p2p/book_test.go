package p2p

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
)

var start = time.Unix(1_800_000_000, 0)

// A peer that does not answer is dialled after 1 s, later after a twentieth of the time that it is
// away up to 5 min, less up to half of it.
func TestBackoff(t *testing.T) {
	b, now, k := newBook(), start, key(1)
	b.learn(k, []string{"a:1"}, true, now)
	for now.Sub(start) < 24*time.Hour {
		keys, _ := b.due(now, 3)
		if !slices.Equal(keys, []noise.PublicKey{k}) {
			t.Fatalf("after %v nobody is due", now.Sub(start))
		}
		if again, _ := b.due(now, 3); len(again) != 0 {
			t.Fatal("dialled twice at once")
		}
		b.failed(k, now)
		keys, next := b.due(now, 3)
		want := min(max(now.Sub(start)/20, time.Second), 5*time.Minute)
		if pause := next.Sub(now); len(keys) != 0 || pause < want/2 || pause > want {
			t.Fatalf("pause of %v, want about %v", pause, want)
		}
		now = next
	}
	// Something new about it makes it due at once, and begin anew.
	if b.learn(k, []string{"a:1"}, false, now) {
		t.Error("a known address counts as new")
	}
	b.failed(k, now)
	if !b.learn(k, []string{"b:1"}, false, now) {
		t.Error("a new address does not count")
	}
	if keys, _ := b.due(now, 3); len(keys) != 1 {
		t.Fatal("not due after a new address")
	}
	b.failed(k, now)
	if _, next := b.due(now, 3); next.Sub(now) > time.Second {
		t.Errorf("pause of %v after a new address", next.Sub(now))
	}
}

// A connection that lasts ends the backoff, one that does not leaves it.
func TestBackoffEndsWithALastingConnection(t *testing.T) {
	for lasted, long := range map[time.Duration]bool{time.Second: true, time.Hour: false} {
		b, now, k := newBook(), start, key(1)
		b.learn(k, []string{"a:1"}, true, now)
		b.failed(k, now)
		now = now.Add(time.Hour)
		b.failed(k, now)
		b.connected(k, now)
		now = now.Add(lasted)
		b.disconnected(k, now)
		if _, next := b.due(now, 3); (next.Sub(now) > time.Minute) != long {
			t.Errorf("pause of %v after a connection of %v", next.Sub(now), lasted)
		}
	}
}

// In a small mesh a node dials all, in a large one it stops at six neighbours.
func TestTargetDegree(t *testing.T) {
	for members, want := range map[int]int{8: 8, 9: 6, 100: 6} {
		b := newBook()
		for i := range members {
			b.learn(key(byte(i+1)), []string{"a:1"}, true, start)
		}
		b.learn(key(200), nil, true, start) // nobody knows where it is
		b.connected(key(1), start)
		keys, _ := b.due(start, members)
		if len(keys)+1 != want {
			t.Errorf("%d members: %d neighbours, want %d", members, len(keys)+1, want)
		}
	}
}

// What a peer says of itself stays, however much others say of it.
func TestHearsayDoesNotPushOut(t *testing.T) {
	b, k := newBook(), key(1)
	b.learn(k, []string{"old:1"}, false, start)
	b.learn(k, []string{"own:1", "own:2"}, true, start)
	for i := range 100 {
		b.learn(k, []string{"lie:" + string(rune('a'+i%26))}, false, start)
	}
	addresses := b.addresses(k)
	if len(addresses) != maxPerPeer || !slices.Equal(addresses[:2], []string{"own:1", "own:2"}) {
		t.Errorf("addresses %v", addresses)
	}
	b.learn(k, []string{"moved:1"}, true, start)
	if addresses := b.addresses(k); addresses[0] != "moved:1" || len(addresses) != maxPerPeer {
		t.Errorf("after a move %v", addresses)
	}
}

// The book has a bound, whoever fills it.
func TestBookIsBounded(t *testing.T) {
	b := newBook()
	for i := range 2 * maxContacts {
		var k noise.PublicKey
		binary.BigEndian.PutUint32(k[:], uint32(i))
		b.learn(k, []string{"a:1"}, false, start)
		b.version(k, "v")
		b.connected(k, start)
	}
	if n := len(b.peers()); n != maxContacts {
		t.Errorf("%d contacts", n)
	}
}

func number(i int) (id envelope.ID) {
	binary.BigEndian.PutUint32(id[:], uint32(i))
	return id
}

// Small classes are offered first, in offers that ask for no more than 1 MiB.
func TestOffersSmallFirst(t *testing.T) {
	o := newOffers()
	for i := range 1000 {
		o.add(offered{number(i), i % 4})
	}
	o.add(offered{number(0), 0}) // known
	o.remove([]envelope.ID{number(4), number(5)})
	class, count := 0, 0
	for batch := o.take(); len(batch) > 0; batch = o.take() {
		size := 0
		for _, item := range batch {
			if item.class < class || item.id == number(4) {
				t.Fatalf("%v after class %d", item, class)
			}
			class = item.class
			size += envelope.Sizes[class]
		}
		if len(batch) > maxOffer || size > maxBatchBytes {
			t.Fatalf("offer of %d ids, %d bytes", len(batch), size)
		}
		count += len(batch)
	}
	if count != 998 {
		t.Errorf("%d ids offered, want 998", count)
	}
}

// Beyond a bound ids are not kept but a reconciliation has to find them, once.
func TestOffersOverflowIntoAReconciliation(t *testing.T) {
	o := newOffers()
	for i := range maxPending {
		o.add(offered{number(i), 0})
	}
	if o.forgot() {
		t.Fatal("reconciliation without a reason")
	}
	o.add(offered{number(maxPending), 0})
	if len(o.pending) != maxPending {
		t.Errorf("%d ids wait", len(o.pending))
	}
	if !o.forgot() || o.forgot() {
		t.Error("not exactly one reconciliation")
	}
}

// An envelope that one neighbour is asked for can be claimed again when that took too
// long or failed, by others first; no neighbour, and not all, claim without a bound.
func TestClaims(t *testing.T) {
	now := start
	c := newClaims(func() time.Time { return now })
	if !c.claim(key(1), number(1)) || c.claim(key(1), number(1)) || c.claim(key(2), number(1)) {
		t.Fatal("claimed twice")
	}
	now = now.Add(claimTime)
	if !c.claim(key(2), number(1)) {
		t.Error("still claimed after its time")
	}
	if c.release(key(1), true, number(1)); c.claim(key(1), number(1)) { // which puts 1 off
		t.Error("released by another one")
	}
	if c.release(key(2), false, number(1)); c.claim(key(2), number(1)) || !c.claim(key(3), number(1)) {
		t.Error("who failed is not the only one that is not asked again")
	}
	if c.release(key(3), false, number(1)); !c.claim(key(3), number(1)) {
		t.Error("who failed is not asked again, though nobody else offers it")
	}
	c.release(key(3), true, number(1))
	for i := range maxClaimsOf {
		c.claim(key(1), number(2+i))
	}
	if c.claim(key(1), number(1)) || !c.claim(key(2), number(1)) {
		t.Error("no bound of one neighbour, or one that is others' too")
	}
	for i := range 2 * maxClaims {
		c.claim(key(byte(2+i/maxClaimsOf)), number(1<<16+i))
	}
	if len(c.of) != maxClaims || c.claim(key(250), number(0)) {
		t.Errorf("%d claims", len(c.of))
	}
	now = now.Add(claimTime)
	if !c.claim(key(250), number(0)) || len(c.of) != 1 || len(c.count) != 1 {
		t.Errorf("%d claims of %d neighbours when all have ended", len(c.of), len(c.count))
	}
	now = now.Add(-24 * time.Hour)
	if !c.claim(key(2), number(0)) {
		t.Error("a clock that was set back keeps a claim")
	}
}
