package p2p_test

import (
	"context"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/p2p"
	"github.com/asmtp/asmtp/passport"
)

// Gossip alone brings envelopes of every class: here the sender does not offer them.
func TestGossipCarriesEnvelopes(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false), m.node("b", true)
	m.connect(a, b)
	for class := range envelope.Sizes {
		// The first ones may go nowhere: gossip is for grafted neighbours.
		var sent []*envelope.Envelope
		tick := time.NewTicker(50 * time.Millisecond)
		deadline, stop := context.WithTimeout(t.Context(), patience)
		for arrived := false; !arrived; {
			e := mail(t, class, 1)[0]
			sent = append(sent, e)
			// Behind the spool's back, so that nothing is offered.
			if _, err := a.store.PutEnvelopes(t.Context(), []envelope.Arrival{{Envelope: e}}); err != nil {
				t.Fatal(err)
			}
			if err := a.Publish(t.Context(), p2p.EncodeGossip(e)); err != nil {
				t.Fatal(err)
			}
			select {
			case <-tick.C:
			case <-deadline.Done():
				t.Fatalf("class %d: none of %d arrived", class, len(sent))
			}
			arrived = len(b.spool.Missing(ids(sent))) < len(sent)
		}
		tick.Stop()
		stop()
	}
}

// A gossiped envelope that is too old or too new is passed over, and its sender stays.
func TestGossipOfTheWrongTimeIsIgnored(t *testing.T) {
	m := newMesh(t)
	a, b, c := m.line()
	began := b.since(a)
	good := mail(t, 0, 40)
	for i := range good {
		for _, days := range []int{-1, 40} {
			bad := *mail(t, 2, 1)[0]
			bad.Expires = passport.TimeOf(time.Now().AddDate(0, 0, days)) / 3600 * 3600
			wrong, err := envelope.Parse(bad.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Publish(t.Context(), p2p.EncodeGossip(wrong)); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if len(b.spool.Missing(ids([]*envelope.Envelope{wrong}))) == 0 {
					t.Error("an envelope of the wrong time is stored")
				}
			}()
		}
		a.submit(good[i : i+1])
	}
	c.has(good)
	if !b.since(a).Equal(began) {
		t.Error("the sender was dropped")
	}
}
