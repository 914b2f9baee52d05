package p2p_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/p2p"
	"github.com/asmtp/asmtp/passport"
)

// ask sends one message of the custody protocol to n and returns the answer.
func ask(t *testing.T, from, n *node, kind byte, body []byte) (byte, []byte) {
	t.Helper()
	var s network.Stream
	s, err := from.OpenStream(t.Context(), n.key.Public(), p2p.CustodyProtocol)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	s.SetDeadline(time.Now().Add(patience))
	if err := p2p.WriteMessage(s, kind, body); err != nil {
		t.Fatal(err)
	}
	kind, answer, err := p2p.ReadMessage(s)
	if err != nil {
		t.Fatal(err)
	}
	return kind, answer
}

// Whoever asks for an envelope that has ended long ago hears the same from the node that
// keeps it in the mailbox of its user as from one that never had it.
func TestEndedMailShowsNoRecipient(t *testing.T) {
	m := newMesh(t)
	clock := new(clockwork)
	b := m.node("b", true, func(n *node) { n.now = clock.now })
	evil := m.node("evil", false)
	e := ending(t, 3*time.Hour)
	id := e.ID()
	_, err := b.store.PutEnvelopes(t.Context(), []envelope.Arrival{{
		Envelope: e, From: noise.PublicKey{1}, Matches: []envelope.Match{{User: passport.ID{7}}}}})
	if err != nil {
		t.Fatal(err)
	}
	m.connect(evil, b)
	nonce := make([]byte, 16)
	if _, answer := ask(t, evil, b, 1, u16(1, id[:])); answer[2] != 0 {
		t.Errorf("it is stored before its end, and the answer is %d", answer[2])
	}
	clock.advance(10 * time.Hour)
	if _, err := b.store.ExpireEnvelopes(t.Context(), passport.TimeOf(clock.now()), 1000); err != nil {
		t.Fatal(err)
	}
	if len(b.store.Missing([]envelope.ID{id})) != 0 {
		t.Fatal("it is not in the mailbox any more")
	}
	unknown := ending(t, 3*time.Hour).ID()
	for name, q := range map[string]struct {
		kind byte
		body func(id envelope.ID) []byte
	}{
		"offer":     {1, func(id envelope.ID) []byte { return u16(1, id[:]) }},
		"get":       {5, func(id envelope.ID) []byte { return u16(1, id[:]) }},
		"challenge": {6, func(id envelope.ID) []byte { return u16(1, append(append([]byte{}, nonce...), id[:]...)) }},
	} {
		kind, kept := ask(t, evil, b, q.kind, q.body(id))
		other, none := ask(t, evil, b, q.kind, q.body(unknown))
		kept, none = bytes.ReplaceAll(kept, id[:], nil), bytes.ReplaceAll(none, unknown[:], nil)
		if kind != other || !bytes.Equal(kept, none) {
			t.Errorf("%s: message %d, %x of what is kept; %d, %x of what is not there", name, kind, kept, other, none)
		}
	}
}
