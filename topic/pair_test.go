package topic_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/topic"
)

// The values of this file come out of ../envelope/testdata/golden.py (Python's
// hashlib and hmac, the openssl program, X25519 in plain integers), not out of this
// package.
const (
	aliceSecret = "0002030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f60"
	bobSecret   = "60666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f8081828344"
	pairTopic   = "86aa230041e82924171f4e2ca9635f43daa24c132332c4d548555c9a1eeb7628"
	aliceToBob  = "ee66c4c46e28320bf09e29b76f2e36216b92d0e877813e0e566cb026c1bcf9fb"
	bobToAlice  = "638e39ee635d43673be6bc1e67df7bd4c1ca116807324a27e3a56a270b254657"
	aliceToSelf = "8e1369f8aef0225f264a41c418bc0f42e2ed8e2868794d5fd61fda9f239635ee"
	tagKey178   = "ac716f235089fabc42a4d913b780a49627bc690c88830b16770f9f24b0768536"
	tagKey0     = "3fa72ee758cabe362db1adbeab2fba18123b47a719b0038b6af8cd2152515cac"
)

type fixture struct {
	alice, bob *noise.SharedPrivate
	a, b       topic.Party
	topic      topic.Topic
}

func newFixture(tb testing.TB) fixture {
	tb.Helper()
	f := fixture{alice: shared(tb, aliceSecret), bob: shared(tb, bobSecret)}
	f.a = topic.Party{ID: [16]byte(bytes.Repeat([]byte{0xa1}, 16)), Key: f.alice.Public()}
	f.b = topic.Party{ID: [16]byte(bytes.Repeat([]byte{0xb2}, 16)), Key: f.bob.Public()}
	f.topic = topic.Derive(f.a.Key, f.b.Key)
	return f
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

func TestPairSecretGolden(t *testing.T) {
	f := newFixture(t)
	if f.topic.String() != pairTopic {
		t.Errorf("topic = %v, want %s", f.topic, pairTopic)
	}
	for _, tt := range []struct {
		name     string
		topic    topic.Topic
		own      *noise.SharedPrivate
		from, to topic.Party
		want     string
	}{
		{"alice to bob, by alice", f.topic, f.alice, f.a, f.b, aliceToBob},
		{"alice to bob, by bob", f.topic, f.bob, f.a, f.b, aliceToBob},
		{"bob to alice, by alice", f.topic, f.alice, f.b, f.a, bobToAlice},
		{"bob to alice, by bob", f.topic, f.bob, f.b, f.a, bobToAlice},
		{"among alice's devices", topic.Derive(f.a.Key, f.a.Key), f.alice, f.a, f.a, aliceToSelf},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := topic.NewPairSecret(tt.topic, tt.own, tt.from, tt.to)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(s.Bytes()); got != tt.want {
				t.Errorf("secret = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestTagKeyGolden(t *testing.T) {
	s := secret(t, aliceToBob)
	for epoch, want := range map[uint32]string{0: tagKey0, 178: tagKey178} {
		k := s.TagKey(epoch)
		if got := hex.EncodeToString(k[:]); got != want {
			t.Errorf("tag key of epoch %d = %s, want %s", epoch, got, want)
		}
	}
	if got := topic.Epoch(216_000_000); got != 178 {
		t.Errorf("epoch = %d, want 178", got)
	}
}

func TestTagGolden(t *testing.T) {
	k := topic.TagKey(unhex(t, tagKey178))
	hash := [32]byte(unhex(t, "e1c1f89ac56ec3de8dade58063ad8fe72d377b80a89ef1800aabca3e01792120"))
	tag := k.Tag(hash)
	if want := "586cc13c116ef723f61a4afccf31bc10"; tag.String() != want {
		t.Errorf("tag = %v, want %s", tag, want)
	}
	if !k.Fits(hash, tag) {
		t.Error("the tag does not fit")
	}
	for i := range tag {
		changed := tag
		changed[i] ^= 1
		if k.Fits(hash, changed) {
			t.Errorf("a tag changed in byte %d fits", i)
		}
	}
}

func TestEpochChangesEveryFortnight(t *testing.T) {
	for expires, want := range map[uint32]uint32{
		0: 0, topic.EpochSeconds - 1: 0, topic.EpochSeconds: 1, 1<<32 - 1: 3550,
	} {
		if got := topic.Epoch(expires); got != want {
			t.Errorf("Epoch(%d) = %d, want %d", expires, got, want)
		}
	}
}

func TestNewPairSecretRefuses(t *testing.T) {
	f := newFixture(t)
	stranger := shared(t, "0802030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f60")
	zero := topic.Party{ID: f.b.ID}
	crooked := topic.Party{ID: f.b.ID, Key: highBit(f.b.Key)}
	for _, tt := range []struct {
		name     string
		own      *noise.SharedPrivate
		from, to topic.Party
		want     error
	}{
		{"third person's key", stranger, f.a, f.b, topic.ErrNotParty},
		{"own key under another id", f.alice, f.a, topic.Party{ID: f.b.ID, Key: f.a.Key}, topic.ErrOwnKey},
		{"zero key", f.alice, f.a, zero, noise.ErrZeroDH},
		{"zero key sends", f.alice, zero, f.a, topic.ErrBadKey},
		{"not canonical", f.alice, f.a, crooked, noise.ErrKey},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := topic.NewPairSecret(f.topic, tt.own, tt.from, tt.to)
			if !errors.Is(err, tt.want) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
			if !s.Equal(topic.PairSecret{}) {
				t.Error("a secret came with the error")
			}
		})
	}
}

func TestCheckContactNamesTheReason(t *testing.T) {
	f := newFixture(t)
	other := shared(t, "0802030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f60").Public()
	own, others := []noise.SharedPublic{other, f.a.Key}, []noise.SharedPublic{f.b.Key}
	one := noise.SharedPublic{1} // of order 4
	for _, tt := range []struct {
		name string
		key  noise.SharedPublic
		want error
	}{
		{"own", f.a.Key, topic.ErrOwnKey},
		{"own, of the past", other, topic.ErrOwnKey},
		{"another contact's", f.b.Key, topic.ErrTakenKey},
		{"zero", noise.SharedPublic{}, topic.ErrBadKey},
		{"small order", one, topic.ErrBadKey},
		{"not canonical", highBit(f.b.Key), topic.ErrBadKey},
	} {
		if err := topic.CheckContact(tt.key, own, others); !errors.Is(err, tt.want) {
			t.Errorf("%s: error = %v, want %v", tt.name, err, tt.want)
		}
	}
	if err := topic.CheckContact(f.b.Key, own, nil); err != nil {
		t.Errorf("good key: %v", err)
	}
}

// highBit returns the same u coordinate in an encoding that is not canonical.
func highBit(k noise.SharedPublic) noise.SharedPublic {
	k[31] |= 0x80
	return k
}

func TestSecretsAreNotPrinted(t *testing.T) {
	s := secret(t, aliceToBob)
	k := s.TagKey(178)
	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("secrets", "s", s, "k", k, "ps", &s, "in", struct{ K topic.TagKey }{k})
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d", "%q"} {
		fmt.Fprintf(&out, verb+verb+verb, s, k, &k)
	}
	for _, leak := range []string{aliceToBob[:8], tagKey178[:8], fmt.Sprint(k[0], " ", k[1]), "0xac, 0x71"} {
		if strings.Contains(strings.ToLower(out.String()), leak) {
			t.Errorf("%q is printed in %s", leak, out.String())
		}
	}
}

func TestParsePairSecretWantsItsLength(t *testing.T) {
	for _, n := range []int{0, 31, 33} {
		if _, err := topic.ParsePairSecret(make([]byte, n)); err == nil {
			t.Errorf("%d bytes are accepted", n)
		}
	}
}

func secret(tb testing.TB, text string) topic.PairSecret {
	tb.Helper()
	s, err := topic.ParsePairSecret(unhex(tb, text))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}
