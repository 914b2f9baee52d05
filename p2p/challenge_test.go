package p2p_test

import (
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
)

// fast has a node ask often.
func fast(n *node) { n.challenge = 100 * time.Millisecond }

// heldBy waits until n counts want holders of all.
func (n *node) heldBy(what string, all []*envelope.Envelope, want int) {
	n.m.t.Helper()
	n.m.bell.until(n.m.t, what, func() bool {
		for _, e := range all {
			if n.store.Custody(e.ID()) != want {
				return false
			}
		}
		return true
	})
}

// A neighbour that says to store what it does not keep is found out, does not count any
// more however often it says so again, and counts when it has proved that it stores it.
func TestForgottenCustodyIsFoundOut(t *testing.T) {
	m := newMesh(t)
	a, b, c := m.node("a", false, fast), m.node("b", true), m.node("c", true)
	b.forgets.Store(true)
	m.connect(a, b)
	m.connect(a, c)
	all := farApart(t, 0, 12)
	a.submit(all)
	m.bell.until(t, "b is caught with all", func() bool { return a.Doubted(b.key.Public()) == len(all) })
	a.heldBy("only c counts", all, 1)
	// It goes on saying so: a offers again, and asks, and asks; each time rings.
	for range 20 {
		select {
		case <-m.bell.next():
		case <-time.After(patience):
			t.Fatal("nothing happens any more")
		}
		for _, e := range all {
			if holders, _ := a.store.Holders(e.ID()); len(holders) != 1 || holders[0] != c.key.Public() {
				t.Fatalf("%d holders after b was caught", len(holders))
			}
		}
	}
	b.forgets.Store(false)
	b.keep(all)
	a.Reconcile(b.key.Public())
	a.heldBy("b counts again, after a proof", all, 2)
	m.bell.until(t, "b is not doubted any more", func() bool { return a.Doubted(b.key.Public()) == 0 })
	if !a.connected(b) {
		t.Error("b was dropped")
	}
}

// Who keeps what it stores passes every challenge.
func TestHonestHoldersPass(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false, fast), m.node("b", true, fast)
	m.connect(a, b)
	own, foreign := mail(t, 0, 10), mail(t, 1, 10)
	a.submit(own)
	b.submit(foreign)
	a.heldBy("b holds all", own, 1)
	b.heldBy("a holds all", foreign, 1)
	eventually(t, "each was asked for", func() bool { return a.Asked() == 10 && b.Asked() == 10 })
	a.heldBy("b holds all still", own, 1)
	b.heldBy("a holds all still", foreign, 1)
}
