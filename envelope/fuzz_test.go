package envelope_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/passport"
)

func FuzzParseEnvelope(f *testing.F) {
	for class := range envelope.Sizes {
		f.Add(encoded(class))
	}
	f.Add(encoded(0)[:envelope.HeaderSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := envelope.Parse(b)
		if err != nil {
			if !errors.Is(err, envelope.ErrEnvelope) {
				t.Errorf("error %v", err)
			}
			return
		}
		if !bytes.Equal(e.Bytes(), b) {
			t.Error("encodes to other bytes")
		}
		built := envelope.Envelope{Expires: e.Expires, Tag: e.Tag, Sealed: e.Sealed}
		if built.ID() != e.ID() {
			t.Error("the hash that was kept is another one")
		}
	})
}

func FuzzParsePart(f *testing.F) {
	for _, n := range []int{0, 1, 851, 852, 3924, 61267, 61268} {
		for _, p := range split(f, text(n)) {
			f.Add(plain(f, p))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := envelope.ParsePart(b)
		if err != nil {
			if !errors.Is(err, envelope.ErrPart) && !errors.Is(err, envelope.ErrNewer) {
				t.Errorf("error %v", err)
			}
			return
		}
		got, err := p.Encode(len(b))
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("encodes to other bytes, %v", err)
		}
	})
}

func FuzzParseReceipts(f *testing.F) {
	f.Add(envelope.EncodeReceipts([]envelope.Receipt{{Code: 1}}))
	f.Add(envelope.EncodeReceipts([]envelope.Receipt{{Code: 2}, {MailID: envelope.MailID{1}, Code: 3}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := envelope.ParseReceipts(b)
		if err != nil {
			return
		}
		if !bytes.Equal(envelope.EncodeReceipts(list), b) {
			t.Error("encodes to other bytes")
		}
	})
}

// A frame is not canonical, so the property is about limits: never more than the
// limit, and what came out of a frame comes out again of a frame of ours.
func FuzzDecompress(f *testing.F) {
	for _, n := range []int{100, 10_000, 200_000} {
		frame, _ := envelope.Compress(text(n))
		f.Add(frame)
	}
	f.Add(streamed(f, text(1000), 1<<10))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x03, 0xff, 0xff, 0x00}) // one block, a zero byte repeated
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 100_000
		var out bytes.Buffer
		n, err := envelope.DecompressTo(&out, b, limit)
		if n > limit || int64(out.Len()) != n {
			t.Fatalf("%d bytes told, %d written", n, out.Len())
		}
		if err != nil {
			if !errors.Is(err, envelope.ErrCompressed) && !errors.Is(err, envelope.ErrTooLarge) {
				t.Errorf("error %v", err)
			}
			return
		}
		frame, ok := envelope.Compress(out.Bytes())
		if !ok {
			return
		}
		got, err := envelope.Decompress(frame, limit)
		if err != nil || !bytes.Equal(got, out.Bytes()) {
			t.Errorf("%d bytes again, %v", len(got), err)
		}
	})
}

// FuzzCollector gives a client parts of three mails, whole, changed or cut, in the
// order and with the changes that the input says: three bytes for a part. Whatever
// comes, a body that is complete has the hash its parts carry, and honest parts that
// all came make it complete.
func FuzzCollector(f *testing.F) {
	var encoded [][]byte
	for _, body := range [][]byte{text(10), text(3*3923 + 1), text(61267 + 1)} {
		parts := split(f, body)
		if len(body) == 3*3923+1 {
			parts = smallParts(body)
		}
		for _, p := range parts {
			encoded = append(encoded, plain(f, p))
		}
	}
	f.Add([]byte{0, 0, 0, 1, 0, 0, 4, 0, 0, 3, 0, 0, 2, 0, 0, 5, 0, 0, 6, 0, 0})
	f.Add([]byte{1, atTotal + 3, 1, 1, atCount + 1, 1, 1, atIndex + 1, 1, 1, 0, 0})
	f.Add([]byte{1, atBody, 1, 2, 0, 0, 3, 0, 0, 4, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		in, seen := inbox{}, map[byte]bool{}
		lied := map[envelope.MailKey]bool{}
		for ; len(script) >= 3; script = script[3:] {
			n, at, change := script[0]%byte(len(encoded)), int(script[1]), script[2]
			b := with(encoded[n], at, encoded[n][at]^change)
			p, err := envelope.ParsePart(b)
			if err != nil {
				continue
			}
			key := p.Key(passport.ID{})
			lied[key] = lied[key] || change != 0
			if change == 0 {
				seen[n] = true
			}
			body, err := in.add(passport.ID{}, p)
			if err == nil && body != nil && envelope.HashBody(body) != p.BodyHash {
				t.Fatal("complete with another body")
			}
			if err != nil && !lied[key] {
				t.Fatalf("honest parts are refused: %v", err)
			}
		}
		for _, mail := range [][]byte{{0}, {1, 2, 3, 4}, {5, 6}} {
			all := true
			for _, n := range mail {
				all = all && seen[n]
			}
			p, err := envelope.ParsePart(encoded[mail[0]])
			if err != nil {
				t.Fatal(err)
			}
			key := p.Key(passport.ID{})
			if all && !lied[key] && !in[key].group.Complete() {
				t.Errorf("all %d parts came, %d missing", len(mail), len(in[key].group.Missing()))
			}
		}
	})
}

// smallParts cuts a body into parts of the second size class.
func smallParts(body []byte) (parts []*envelope.Part) {
	size := envelope.Capacity(1)
	count := (len(body) + size - 1) / size
	for i := range count {
		parts = append(parts, &envelope.Part{
			BodyHash: envelope.HashBody(body), Total: uint32(len(body)), Index: uint16(i), Count: uint16(count),
			Body: body[i*size : min((i+1)*size, len(body))],
		})
	}
	return parts
}
