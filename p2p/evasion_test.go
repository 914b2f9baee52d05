package p2p_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/reconcile"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/p2p"
)

// claiming has a node say that it stores all that it is offered, and that it lacks all that
// it is asked for; to a challenge it answers what prove returns, or ends the stream if that
// is nothing.
func (n *node) claiming(offered func(ids []byte), prove func(questions []byte) []byte) {
	n.Handle(p2p.CustodyProtocol, func(s network.Stream) {
		for {
			kind, body, err := p2p.ReadMessage(s)
			if err != nil {
				return
			}
			count := len(body[2:]) / 32
			switch kind {
			case 1:
				if offered != nil {
					offered(body[2:])
				}
				err = p2p.WriteMessage(s, 2, u16(count, make([]byte, count)))
			case 6:
				answer := prove(body)
				if answer == nil {
					return
				}
				err = p2p.WriteMessage(s, 7, answer)
			case 5:
				for ids := body[2:]; len(ids) > 0 && err == nil; ids = ids[32:] {
					err = p2p.WriteMessage(s, 4, ids[:32])
				}
			}
			if err != nil {
				return
			}
		}
	})
}

// tell sends one message to a neighbour and returns the answers to it.
func (n *node) tell(o *node, kind byte, body []byte, answers int) (got [][]byte) {
	s, err := n.OpenStream(n.m.t.Context(), o.key.Public(), p2p.CustodyProtocol)
	if err != nil {
		return nil
	}
	defer s.Reset()
	if p2p.WriteMessage(s, kind, body) != nil {
		return nil
	}
	for range answers {
		kind, b, err := p2p.ReadMessage(s)
		if err != nil {
			return nil
		}
		if kind == 4 {
			b = nil
		}
		got = append(got, b)
	}
	return got
}

// A neighbour that says to store everything and keeps nothing does not count for long,
// whatever it does instead of proving it.
func TestProofsOfOthersDoNotCount(t *testing.T) {
	for name, prove := range map[string]func(evil, a, c *node, questions []byte) []byte{
		"it hands the question on to who stores it": func(evil, _, c *node, questions []byte) []byte {
			if got := evil.tell(c, 6, questions, 1); got != nil {
				return got[0]
			}
			return nil
		},
		"it gets the envelope from who asks": func(evil, a, _ *node, questions []byte) []byte {
			proofs := []byte{questions[0], questions[1]}
			for at := 2; at < len(questions); at += 48 {
				got := evil.tell(a, 5, u16(1, questions[at+16:][:32]), 1)
				if got == nil || got[0] == nil {
					return nil
				}
				self := evil.key.Public()
				hash := noise.H32(questions[at:][:16], self[:], got[0])
				proofs = append(append(proofs, 0), hash[:]...)
			}
			return proofs
		},
		"it ends the stream": func(_, _, _ *node, _ []byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t)
			a, c := m.node("a", false, fast), m.node("c", true)
			evil := m.node("evil", false)
			evil.claiming(nil, func(questions []byte) []byte { return prove(evil, a, c, questions) })
			m.connect(a, evil)
			m.connect(a, c)
			m.connect(evil, c)
			all := farApart(t, 3, 6)
			a.submit(all)
			m.bell.until(t, "evil is caught with all", func() bool { return a.Doubted(evil.key.Public()) == len(all) })
			m.bell.until(t, "c alone counts", func() bool {
				return !slices.ContainsFunc(all, func(e *envelope.Envelope) bool {
					holders, _ := a.store.Holders(e.ID())
					return len(holders) != 1 || holders[0] != c.key.Public()
				})
			})
		})
	}
}

// A neighbour that answers to every question that it does not have the envelope, to see
// which of them matter to who asks, sees the same for all: each is offered again.
func TestFailedProofsShowNothing(t *testing.T) {
	m := newMesh(t)
	a, evil := m.node("a", false, fast), m.node("evil", true)
	var mu sync.Mutex
	failed, again := map[reconcile.ID]bool{}, map[reconcile.ID]bool{}
	evil.claiming(func(ids []byte) {
		mu.Lock()
		defer mu.Unlock()
		for ; len(ids) > 0; ids = ids[32:] {
			if id := reconcile.ID(ids); failed[id] {
				again[id] = true
			}
		}
		m.bell.ring()
	}, func(questions []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for at := 2; at < len(questions); at += 48 {
			failed[reconcile.ID(questions[at+16:])] = true
			n++
		}
		proofs := make([]byte, n*33)
		for at := 0; at < len(proofs); at += 33 {
			proofs[at] = 1
		}
		return u16(n, proofs)
	})
	all := farApart(t, 3, 12)
	own, foreign := all[:6], all[6:]
	a.submit(own)
	a.keep(foreign)
	m.connect(a, evil)
	m.bell.until(t, "all that it failed for is offered again", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range all {
			if !again[e.ID()] {
				return false
			}
		}
		return true
	})
	a.heldBy("it does not count", own, 0)
	if n := a.Doubted(evil.key.Public()); n != 12 {
		t.Errorf("its word does not count for %d of 12", n)
	}
}

// What holders are asked for says little about whose mail it is: none is asked for again
// and again.
func TestOwnMailIsNotAskedForAgainAndAgain(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false, fast), m.node("b", true)
	own, foreign := mail(t, 0, 3), mail(t, 0, 200)
	a.keep(foreign)
	a.submit(own)
	m.connect(a, b)
	b.has(slices.Concat(own, foreign))
	a.heldBy("b counts", own, 1)
	var mu sync.Mutex
	asked, total := map[reconcile.ID]int{}, 0
	self := b.key.Public()
	b.claiming(nil, func(questions []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		proofs := questions[:2:2]
		for at := 2; at < len(questions); at += 48 {
			id := reconcile.ID(questions[at+16:])
			asked[id]++
			total++
			bytes, err := b.spool.Envelope(id)
			if err != nil {
				t.Error(err)
			}
			hash := noise.H32(questions[at:][:16], self[:], bytes)
			proofs = append(append(proofs, 0), hash[:]...)
		}
		return proofs
	})
	eventually(t, "b was asked often", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return total >= 800
	})
	mu.Lock()
	defer mu.Unlock()
	for _, e := range own {
		if n := asked[e.ID()]; n > 45 { // of any the mean is 4, and as many as 6 times that is rare
			t.Errorf("asked %d times of %d for one of 203", n, total)
		}
	}
	a.heldBy("b counts still", own, 1)
}
