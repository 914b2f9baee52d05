package envelope_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

// expires is a full hour of the year 2026.
const expires passport.Time = 216_000_000

// pair is both ends of one conversation, with the keys of testdata/golden.py.
type pair struct {
	alice, bob *envelope.Sealer
	toBob      topic.PairSecret
	toAlice    topic.PairSecret
}

func newPair(tb testing.TB) pair {
	tb.Helper()
	alice := shared(tb, "0002030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f60")
	bob := shared(tb, "60666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f8081828344")
	a := topic.Party{ID: [16]byte(bytes.Repeat([]byte{0xa1}, 16)), Key: alice.Public()}
	b := topic.Party{ID: [16]byte(bytes.Repeat([]byte{0xb2}, 16)), Key: bob.Public()}
	name := topic.Derive(a.Key, b.Key)
	p := pair{toBob: secret(tb, name, alice, a, b), toAlice: secret(tb, name, bob, b, a)}
	p.alice = &envelope.Sealer{Own: alice, OwnID: a.ID, PeerID: b.ID, PeerKey: b.Key, Out: p.toBob}
	p.bob = &envelope.Sealer{Own: bob, OwnID: b.ID, PeerID: a.ID, PeerKey: a.Key, Out: p.toAlice}
	return p
}

func secret(tb testing.TB, name topic.Topic, own *noise.SharedPrivate, from, to topic.Party) topic.PairSecret {
	tb.Helper()
	s, err := topic.NewPairSecret(name, own, from, to)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func shared(tb testing.TB, text string) *noise.SharedPrivate {
	tb.Helper()
	k, err := noise.NewSharedPrivate(unhex(tb, text))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func unhex(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// text returns n bytes that repeat after a prime number of them, so that a part in
// the wrong place shows.
func text(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func split(tb testing.TB, body []byte) []*envelope.Part {
	tb.Helper()
	id := envelope.MailID(bytes.Repeat([]byte{0xc3}, 16))
	parts, err := envelope.Split(envelope.KindMail, 0, id, body, passport.Hash{0xd4}, passport.Hash{0xe5})
	if err != nil {
		tb.Fatal(err)
	}
	return parts
}

// plain returns the smallest encoding of p.
func plain(tb testing.TB, p *envelope.Part) []byte {
	tb.Helper()
	for class := range envelope.Sizes {
		if len(p.Body) <= envelope.Capacity(class) {
			b, err := p.Encode(envelope.PartSize(class))
			if err != nil {
				tb.Fatal(err)
			}
			return b
		}
	}
	tb.Fatalf("body of %d bytes fits no class", len(p.Body))
	return nil
}
