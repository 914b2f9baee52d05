package noise_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/asmtp/asmtp/noise"
)

// What a reader accepts is exactly what the peer's connection would have sent, and
// nothing is accepted behind what it refuses.
func FuzzFrames(f *testing.F) {
	f.Add(stockFrames(keyBA, []byte("one"), nil, []byte("three")))
	f.Add(stockFrames(keyBA, make([]byte, 1000))[:500])
	f.Add([]byte{0xff, 0xff, 0})
	f.Add([]byte{0, 15, 0})
	f.Add(append([]byte{0, 16}, make([]byte, 16)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := noise.NewTestConn(newWire(bytes.Clone(in)), keyAB, keyBA)
		w := newWire(nil)
		again := noise.NewTestConn(w, keyBA, keyAB)
		for {
			m, err := c.ReadMessage()
			if err != nil {
				break
			}
			if err := again.WriteMessage(m); err != nil {
				t.Fatal(err)
			}
		}
		if out := w.take(); !bytes.HasPrefix(in, out) {
			t.Errorf("accepted %x, which is sent as %x", in, out)
		}
		if m, err := c.ReadMessage(); err == nil {
			t.Errorf("message %x after the end", m)
		}
	})
}

// Frames in any cutting into pieces arrive the same.
func FuzzStream(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint16(1))
	f.Add(make([]byte, 5000), uint16(999))
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		n := int(piece)%1000 + 1
		var messages [][]byte
		for rest := data; len(rest) > 0; rest = rest[min(n, len(rest)):] {
			messages = append(messages, rest[:min(n, len(rest))])
		}
		c := noise.NewTestConn(newWire(stockFrames(keyBA, messages...)), keyAB, keyBA)
		var got []byte
		buf := make([]byte, int(piece)>>10+1)
		for {
			k, err := c.Read(buf)
			got = append(got, buf[:k]...)
			if err != nil {
				break
			}
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%d bytes arrive of %d", len(got), len(data))
		}
	})
}

func fixedShared(n byte) *noise.SharedPrivate {
	k, err := noise.GenerateShared(noise.NewStream([32]byte{n}))
	if err != nil {
		panic(err)
	}
	return k
}

// The ephemeral secret of a message is not known, so it cannot be sealed again:
// the property is that only what was sealed here opens.
func FuzzOpenX(f *testing.F) {
	from, to := fixedShared(1), fixedShared(2)
	good, err := noise.SealX(noise.NewStream([32]byte{3}), []byte("p"), from, to.Public(), []byte("payload"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:95])
	f.Add(append(bytes.Clone(good), 0))
	f.Add(make([]byte, 96))
	f.Fuzz(func(t *testing.T, message []byte) {
		payload, sender, err := noise.OpenX([]byte("p"), to, message)
		if err != nil {
			if !errors.Is(err, noise.ErrOpen) {
				t.Error(err)
			}
			return
		}
		again, err := noise.SealX(noise.NewStream([32]byte{3}), []byte("p"), from, to.Public(), payload)
		if err != nil || !bytes.Equal(again, message) || sender != from.Public() {
			t.Errorf("opens: %x", message)
		}
	})
}

func FuzzOpenN(f *testing.F) {
	psk := &[32]byte{9}
	good, err := noise.SealN(noise.NewStream([32]byte{3}), psk, bob.Public(), []byte("payload"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:47])
	f.Add(append(bytes.Clone(good), 0))
	f.Add(make([]byte, 48))
	f.Fuzz(func(t *testing.T, message []byte) {
		payload, err := noise.OpenN(psk, bob, message)
		if err != nil {
			if !errors.Is(err, noise.ErrOpen) {
				t.Error(err)
			}
			return
		}
		again, err := noise.SealN(noise.NewStream([32]byte{3}), psk, bob.Public(), payload)
		if err != nil || !bytes.Equal(again, message) {
			t.Errorf("opens: %x", message)
		}
	})
}

// No bytes but those of the one client are answered, and those by a reply of fixed length.
func FuzzServer(f *testing.F) {
	p := params["IKpsk0"]
	p.PayloadA, p.PayloadB = 12, 20
	good := request(f, p, alice, bob.Public(), make([]byte, 12))
	f.Add(good[len(p.Prefix):])
	f.Add(good[len(p.Prefix) : len(good)-1])
	f.Add(make([]byte, len(good)))
	f.Fuzz(func(t *testing.T, in []byte) {
		c, answer, err := serve(p, bob, append(bytes.Clone(p.Prefix), in...), admit(p))
		switch {
		case err != nil && (len(answer) > 0 || c != nil):
			t.Errorf("%d bytes of answer although %v", len(answer), err)
		case err == nil && (len(answer) != p.ResponseSize() || !bytes.HasPrefix(in, good[len(p.Prefix):])):
			t.Errorf("accepted: %x", in)
		}
	})
}

// What passes Check is the one encoding of a point: text and bytes come back the same,
// and no other key has the same secrets with others.
func FuzzParsePublicKey(f *testing.F) {
	f.Add(bob.Public().String())
	f.Add("00")
	f.Add("0100000000000000000000000000000000000000000000000000000000000000")
	f.Add("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")
	f.Add("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := noise.ParsePublicKey(text)
		if err != nil {
			if !errors.Is(err, noise.ErrKey) {
				t.Error(err)
			}
			return
		}
		if again, err := noise.ParsePublicKey(k.String()); err != nil || again != k {
			t.Errorf("%s comes back as %s, %v", text, again, err)
		}
		if k.Check() != nil {
			return
		}
		if _, err := alice.DH(k); err != nil {
			t.Errorf("%s passes and gives %v", text, err)
		}
		if y := binary.LittleEndian.Uint64(k[:]); y >= 1<<64-19 && k[31]&0x7f == 0x7f && bytes.Count(k[8:31], []byte{0xff}) == 23 {
			t.Errorf("%s is not below p", text)
		}
	})
}
