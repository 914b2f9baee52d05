package p2p

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

func key(b byte) (k noise.PublicKey) {
	for i := range k {
		k[i] = b
	}
	return k
}

// A length beyond the limit is refused before anything is allocated for it.
func TestLengthIsCheckedBeforeAllocating(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := readMessage(bytes.NewReader([]byte{0x7f, 0xff, 0xff, 0xff, 1}), 1<<20)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, errForeign) {
		t.Fatalf("got %v", err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
		t.Errorf("%d bytes allocated", n)
	}
}

// A message that was cut is no orderly end, and nobody's fault.
func TestCutMessage(t *testing.T) {
	var b bytes.Buffer
	if err := writeMessage(&b, 3, []byte("body")); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	for n := range len(whole) {
		_, err := timed{s: stubStream{bytes.NewReader(whole[:n])}}.read(100)
		if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errForeign) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	m, err := readMessage(bytes.NewReader(whole), 4)
	if err != nil || m.kind != 3 || string(m.body) != "body" {
		t.Errorf("got %v, %v", m, err)
	}
	if _, err := readMessage(bytes.NewReader(whole), 3); !errors.Is(err, errForeign) {
		t.Errorf("one byte too many: %v", err)
	}
}

// stubStream reads from memory; deadlines mean nothing there.
type stubStream struct{ io.Reader }

func (stubStream) Write(p []byte) (int, error)      { return len(p), nil }
func (stubStream) SetReadDeadline(time.Time) error  { return nil }
func (stubStream) SetWriteDeadline(time.Time) error { return nil }

// The messages stand on the wire as the package comment says.
func TestEncodings(t *testing.T) {
	cases := map[string]struct{ got, want []byte }{
		"hello": {hello{version: "v1", hashes: [][16]byte{{1}, {2}}}.encode(),
			append([]byte{2, 'v', '1', 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}, make([]byte, 15)...)},
		"addresses": {encodeAddresses([]told{{key(7), []string{"a:1"}}}),
			append(append([]byte{0, 1}, bytes.Repeat([]byte{7}, 32)...), 1, 3, 'a', ':', '1')},
		"offer":  {encodeIDs([]envelope.ID{envelope.ID(key(9))}), append([]byte{0, 1}, bytes.Repeat([]byte{9}, 32)...)},
		"answer": {encodeAnswer([]byte{0, 1, 2, 3}), []byte{0, 4, 0, 1, 2, 3}},
		"tips": {encodeTips([]tip{{passport.ID{1}, passport.Hash{2}}}),
			append(append([]byte{0, 1, 1}, make([]byte, 15)...), append([]byte{2}, make([]byte, 15)...)...)},
		"opening": {opening{version: 1, set: 2, from: 3, to: 0x01020304, clock: time.UnixMilli(0x050607)}.encode(),
			[]byte{1, 2, 0, 0, 0, 3, 1, 2, 3, 4, 0, 0, 0, 0, 0, 5, 6, 7}},
		"reply":     {reply{code: 1, clock: time.UnixMilli(258)}.encode(), []byte{1, 0, 0, 0, 0, 0, 0, 1, 2}},
		"challenge": {encodeChallenge([]question{{[16]byte{8}, envelope.ID{9}}}), append(append([]byte{0, 1, 8}, make([]byte, 15)...), append([]byte{9}, make([]byte, 31)...)...)},
		"proofs":    {encodeProofs([]proof{{1, [32]byte{}}, {0, [32]byte{7}}}), append(append([]byte{0, 2, 1}, make([]byte, 32)...), append([]byte{0, 7}, make([]byte, 31)...)...)},
		"ask":       {encodeAsk([][32]byte{{5}}), append([]byte{0, 1, 5}, make([]byte, 31)...)},
		"wants": {encodeWants([]want{{wantRest, passport.Hash{3}, 258}}),
			append(append([]byte{0, 1, 2, 3}, make([]byte, 15)...), 0, 0, 1, 2)},
	}
	for name, c := range cases {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s: %x, want %x", name, c.got, c.want)
		}
	}
}

// The largest class is announced by what its id is made of; the others go whole.
func TestGossipNamesTheEnvelope(t *testing.T) {
	for class, size := range envelope.Sizes {
		e := &envelope.Envelope{Expires: 7200, Tag: topic.Tag{5}, Sealed: make([]byte, size)}
		b := encodeGossip(e)
		g, err := parseGossip(b)
		if err != nil || g.id != e.ID() || g.expires != e.Expires {
			t.Errorf("class %d: %v, %v", class, g, err)
		}
		if whole := g.envelope != nil; whole == (class == largest) {
			t.Errorf("class %d: whole is %v in %d bytes", class, whole, len(b))
		}
	}
}

func TestValidAddress(t *testing.T) {
	for s, want := range map[string]bool{
		"127.0.0.1:9800": true, "[2001:db8::1]:1": true, "node.example.org:9800": true, "localhost:1": true,
		"": false, "host": false, "host:": false, "host:0": false, "host:65536": false, ":9800": false, "0.0.0.0:1": false,
		"[::]:1": false, "224.0.0.1:1": false, "[fe80::1%eth0]:1": false, "a b:1": false, "a/b:1": false, "a\x1b:1": false,
	} {
		if validAddress(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
		m, err := multiaddr(s)
		if want && err != nil {
			t.Errorf("%q: %v", s, err)
		}
		if !want {
			continue
		}
		if back, err := hostPort(m); err != nil || back != s {
			t.Errorf("%q came back as %q, %v", s, back, err)
		}
	}
}

// What a peer says of its version cannot touch the terminal that shows it.
func TestVersionIsPrintable(t *testing.T) {
	for _, v := range []string{"a\x1b[2J", "a\nb", "\xff"} {
		if _, err := parseHello(hello{version: v}.encode()); !errors.Is(err, errForeign) {
			t.Errorf("%q: %v", v, err)
		}
	}
	if got := cleanVersion("v1\n\x1b[2J" + string(bytes.Repeat([]byte("x"), 100))); len(got) != maxVersion || got[:6] != "v1[2Jx" {
		t.Errorf("cleaned to %q", got)
	}
}

// same fails the test if accepted bytes are encoded differently.
func same(t *testing.T, in, out []byte) {
	t.Helper()
	if !bytes.Equal(in, out) {
		t.Errorf("%x was read as what encodes to %x", in, out)
	}
}

func FuzzHello(f *testing.F) {
	f.Add(hello{version: "v1", hashes: [][16]byte{{1}}}.encode())
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseHello(b); err == nil {
			same(t, b, h.encode())
		}
	})
}

func FuzzStatements(f *testing.F) {
	_, founding, _, err := mesh.Found(nil, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encodeStatements([]*mesh.Statement{founding, founding})[0])
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		raws, err := parseStatements(b)
		if err != nil {
			return
		}
		out := appendCount(nil, len(raws))
		for _, raw := range raws {
			out = append(appendCount(out, len(raw)), raw...)
		}
		same(t, b, out)
	})
}

func FuzzAddresses(f *testing.F) {
	f.Add(encodeAddresses([]told{{key(1), []string{"127.0.0.1:1", "host:2"}}, {key(2), nil}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if all, err := parseAddresses(b); err == nil {
			same(t, b, encodeAddresses(all))
		}
	})
}

func FuzzIDs(f *testing.F) {
	f.Add(encodeIDs([]envelope.ID{{1}, {2}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if ids, err := parseIDs(b, maxOffer); err == nil {
			same(t, b, encodeIDs(ids))
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(encodeAnswer([]byte{0, 1, 2, 3}), 4)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if codes, err := parseAnswer(b, n); err == nil {
			same(t, b, encodeAnswer(codes))
		}
	})
}

func FuzzGossip(f *testing.F) {
	for _, size := range envelope.Sizes {
		f.Add(encodeGossip(&envelope.Envelope{Expires: 3600, Sealed: make([]byte, size)}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := parseGossip(b)
		if err != nil || g.envelope == nil {
			return
		}
		same(t, b, encodeGossip(g.envelope))
		if g.id != g.envelope.ID() {
			t.Error("another id")
		}
	})
}

func FuzzTips(f *testing.F) {
	f.Add(encodeTips([]tip{{passport.ID{1}, passport.Hash{2}}, {passport.ID{3}, passport.Hash{4}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if tips, err := parseTips(b); err == nil {
			same(t, b, encodeTips(tips))
		}
	})
}

func FuzzWants(f *testing.F) {
	f.Add(encodeWants([]want{{code: wantAll}, {wantRest, passport.Hash{1}, 5}}), 2)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if wants, err := parseWants(b, n); err == nil {
			same(t, b, encodeWants(wants))
		}
	})
}

func FuzzOpening(f *testing.F) {
	f.Add(opening{version: 1, set: 1, from: 5, to: 6, clock: time.UnixMilli(7)}.encode())
	f.Add(bytes.Repeat([]byte{0xff}, openSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := parseOpening(b); err == nil {
			same(t, b, o.encode())
		}
		if r, err := parseReply(b); err == nil {
			same(t, b, r.encode())
		}
	})
}

func FuzzChallenge(f *testing.F) {
	f.Add(encodeChallenge([]question{{[16]byte{1}, envelope.ID{2}}, {}}), 2)
	f.Add(encodeProofs([]proof{{proofNone, [32]byte{}}, {proofGiven, [32]byte{3}}}), 2)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if questions, err := parseChallenge(b); err == nil {
			same(t, b, encodeChallenge(questions))
		}
		if proofs, err := parseProofs(b, n); err == nil {
			same(t, b, encodeProofs(proofs))
		}
	})
}

func FuzzAsk(f *testing.F) {
	f.Add(encodeAsk([][32]byte{{1}, {2}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if names, err := parseAsk(b); err == nil {
			same(t, b, encodeAsk(names))
		}
	})
}

// FuzzMessages reads a stream of messages as a handler does.
func FuzzMessages(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 4, 0, 0, 0, 3, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		r := timed{s: stubStream{bytes.NewReader(b)}}
		for {
			m, err := r.next(1000)
			if err != nil {
				break
			}
			if err := writeMessage(&out, m.kind, m.body); err != nil {
				t.Fatal(err)
			}
		}
		same(t, b[:out.Len()], out.Bytes())
	})
}
