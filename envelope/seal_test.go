package envelope_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/topic"
)

// The whole envelope, seal included, as testdata/golden.py makes it.
func TestSealGolden(t *testing.T) {
	p := split(t, []byte("hello, mesh"))[0]
	copy(p.SenderTip[:], bytes.Repeat([]byte{0xd4}, 16))
	copy(p.RecipientTip[:], bytes.Repeat([]byte{0xe5}, 16))
	ephemeral := unhex(t, "c8cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e768")
	e, err := newPair(t).alice.Seal(bytes.NewReader(ephemeral), expires, p)
	if err != nil {
		t.Fatal(err)
	}
	b := e.Bytes()
	const head = "020cdfe6001ff1bf031ad742dd08cb1aa38d183ed64c29f4996985e80d247e80b70303824592ff9fbad74904ea7c3d2bda24e51c120cf3d941ba193a26325111"
	if got := hex.EncodeToString(b[:64]); got != head {
		t.Errorf("envelope begins %s, want %s", got, head)
	}
	sum := sha256.Sum256(b)
	if got, want := hex.EncodeToString(sum[:]), "8ef85f17187be931529769fdbefc535bce02f69be1dfe431c5d888e1ae688642"; got != want {
		t.Errorf("SHA-256 of the envelope = %s, want %s", got, want)
	}
	if got, want := e.ID().String(), "8c90a91c6c87ba45743f9ce5e52031863db687f57d690d7ebe8cbdfb36cae89a"; got != want {
		t.Errorf("id = %s, want %s", got, want)
	}
}

func TestOpenGivesWhatWasSealed(t *testing.T) {
	p := newPair(t)
	for class := range envelope.Sizes {
		for _, n := range []int{envelope.Capacity(class), envelope.Capacity(class) - 1} {
			part := split(t, text(n))[0]
			part.Kind, part.Flags = envelope.KindOwnState, envelope.FlagCompressed
			e, err := p.alice.Seal(nil, expires, part)
			if err != nil {
				t.Fatal(err)
			}
			if e.Class() != class {
				t.Errorf("%d bytes of body are of class %d, want %d", n, e.Class(), class)
			}
			sent, err := envelope.Parse(e.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.bob.Open(sent, p.toBob)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", part) {
				t.Errorf("opened %+v", got)
			}
		}
	}
}

func TestOpenAmongOwnDevices(t *testing.T) {
	p := newPair(t)
	self := topic.Party{ID: p.alice.OwnID, Key: p.alice.Own.Public()}
	out := secret(t, topic.Derive(self.Key, self.Key), p.alice.Own, self, self)
	s := &envelope.Sealer{Own: p.alice.Own, OwnID: self.ID, PeerID: self.ID, PeerKey: self.Key, Out: out}
	e, err := s.Seal(nil, expires, split(t, text(10))[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(e, out); err != nil {
		t.Error(err)
	}
}

// Every byte matters: the header through the tag and the prologue, the tag and the
// seal by themselves.
func TestOpenRefusesAnyChangedByte(t *testing.T) {
	p := newPair(t)
	e, err := p.alice.Seal(nil, expires, split(t, text(10))[0])
	if err != nil {
		t.Fatal(err)
	}
	b := e.Bytes()
	for i := range b {
		changed, err := envelope.Parse(with(b, i, b[i]^0x10))
		if err != nil {
			continue // not even an envelope
		}
		if _, err := p.bob.Open(changed, p.toBob); err == nil {
			t.Fatalf("opens with byte %d changed", i)
		}
		if changed.ID() == e.ID() {
			t.Fatalf("has the same id with byte %d changed", i)
		}
	}
}

func TestOpenSaysWhyNot(t *testing.T) {
	p := newPair(t)
	part := split(t, text(10))[0]
	e, err := p.alice.Seal(nil, expires, part)
	if err != nil {
		t.Fatal(err)
	}
	retagged := func(e *envelope.Envelope, in topic.PairSecret) *envelope.Envelope {
		c := &envelope.Envelope{Expires: e.Expires, Sealed: e.Sealed}
		c.Tag = in.TagKey(c.Epoch()).Tag(c.SealHash())
		return c
	}
	later := retagged(&envelope.Envelope{Expires: expires + envelope.ExpiresStep, Sealed: e.Sealed}, p.toBob)
	mallory, err := noise.GenerateShared(nil)
	if err != nil {
		t.Fatal(err)
	}
	forged := *p.alice
	forged.Own = mallory
	fromMallory, err := forged.Seal(nil, expires, part)
	if err != nil {
		t.Fatal(err)
	}
	otherID := *p.bob
	otherID.PeerID[0] ^= 1
	for _, tt := range []struct {
		name string
		by   *envelope.Sealer
		e    *envelope.Envelope
		in   topic.PairSecret
		want error
	}{
		{"tag of another direction", p.bob, e, p.toAlice, envelope.ErrTag},
		{"tag key of another epoch", p.bob, retagged(&envelope.Envelope{Expires: expires + topic.EpochSeconds, Sealed: e.Sealed}, p.toBob), p.toBob, noise.ErrOpen},
		{"moved in time", p.bob, later, p.toBob, noise.ErrOpen},
		{"for another passport", &otherID, e, p.toBob, noise.ErrOpen},
		{"own mail opened as the peer's", p.alice, retagged(e, p.toAlice), p.toAlice, noise.ErrOpen},
		{"by another sender", p.bob, fromMallory, p.toBob, envelope.ErrNotPeer},
		{"no envelope", p.bob, &envelope.Envelope{Expires: expires, Sealed: e.Sealed[1:]}, p.toBob, envelope.ErrEnvelope},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.by.Open(tt.e, tt.in); !errors.Is(err, tt.want) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestOpenTellsNewerFromJunk(t *testing.T) {
	p := newPair(t)
	for name, tt := range map[string]struct {
		change func([]byte) []byte
		want   error
	}{
		"newer version": {func(b []byte) []byte { return with(b, atVersion, 2) }, envelope.ErrNewer},
		"newer kind":    {func(b []byte) []byte { return with(b, atKind, 77) }, envelope.ErrNewer},
		"junk":          {func(b []byte) []byte { return with(b, len(b)-1, 1) }, envelope.ErrPart},
	} {
		b := tt.change(plain(t, split(t, text(10))[0]))
		e := sealRaw(t, p, b)
		if _, err := p.bob.Open(e, p.toBob); !errors.Is(err, tt.want) {
			t.Errorf("%s: error = %v, want %v", name, err, tt.want)
		}
	}
}

// sealRaw seals bytes from Alice to Bob that Seal would refuse. The prologue is
// written down here once more.
func sealRaw(tb testing.TB, p pair, b []byte) *envelope.Envelope {
	tb.Helper()
	prologue := "asmtp/2 part\x01" + string(p.alice.OwnID[:]) + string(p.bob.OwnID[:]) + "\x02\x0c\xdf\xe6\x00"
	sealed, err := noise.SealX(nil, []byte(prologue), p.alice.Own, p.bob.Own.Public(), b)
	if err != nil {
		tb.Fatal(err)
	}
	e := &envelope.Envelope{Expires: expires, Sealed: sealed}
	e.Tag = p.toBob.TagKey(e.Epoch()).Tag(e.SealHash())
	return e
}

func TestSealRefuses(t *testing.T) {
	p := newPair(t)
	good := split(t, text(10))[0]
	if _, err := p.alice.Seal(nil, expires+1, good); err == nil {
		t.Error("a crooked time of expiry is sealed")
	}
	if _, err := p.alice.Seal(nil, expires, &envelope.Part{Count: 1, Body: text(61268), Total: 61268}); !errors.Is(err, envelope.ErrTooLarge) {
		t.Errorf("a part that fits no class: %v", err)
	}
	if _, err := p.alice.Seal(bytes.NewReader(nil), expires, good); err == nil {
		t.Error("seals without random bytes")
	}
}

// Two envelopes of one part share nothing but the time of expiry.
func TestSealingTwiceCannotBeLinked(t *testing.T) {
	p := newPair(t)
	part := split(t, text(10))[0]
	one, err := p.alice.Seal(nil, expires, part)
	if err != nil {
		t.Fatal(err)
	}
	two, err := p.alice.Seal(nil, expires, part)
	if err != nil {
		t.Fatal(err)
	}
	if one.Tag == two.Tag || one.ID() == two.ID() || bytes.Equal(one.Sealed[:32], two.Sealed[:32]) {
		t.Error("two envelopes of one part are alike")
	}
}

func BenchmarkSeal(b *testing.B) {
	p := newPair(b)
	for class := range envelope.Sizes {
		part := split(b, text(envelope.Capacity(class)))[0]
		b.Run(fmt.Sprintf("sealed=%d", envelope.Sizes[class]), func(b *testing.B) {
			b.SetBytes(int64(envelope.Sizes[class]))
			for b.Loop() {
				if _, err := p.alice.Seal(nil, expires, part); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	p := newPair(b)
	for class := range envelope.Sizes {
		e, err := p.alice.Seal(nil, expires, split(b, text(envelope.Capacity(class)))[0])
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("sealed=%d", envelope.Sizes[class]), func(b *testing.B) {
			b.SetBytes(int64(envelope.Sizes[class]))
			for b.Loop() {
				if _, err := p.bob.Open(e, p.toBob); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for class := range envelope.Sizes {
		e := encoded(class)
		b.Run(fmt.Sprintf("sealed=%d", envelope.Sizes[class]), func(b *testing.B) {
			b.SetBytes(int64(len(e)))
			for b.Loop() {
				if _, err := envelope.Parse(e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
