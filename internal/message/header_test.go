package message_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/asmtp/asmtp/internal/message"
)

func TestSplitHeader(t *testing.T) {
	huge := strings.Repeat("X-Long: "+strings.Repeat("y", 1000)+"\r\n", 300)
	fits := 256 << 10 / 1010 * 1010
	for _, test := range []struct {
		name, in string
		want     int
	}{
		{"nothing", "", 0}, {"empty line", "\r\n", 2}, {"empty line, text", "\n\nx", 1}, {"common", "A: b\r\n\r\nx", 8},
		{"lf", "A: b\n\nx", 6}, {"mixed", "A: b\r\nC: d\n\r\nx", 13}, {"ends in a field", "A: b", 4}, {"ends in a fold", "A: b\r\n ", 7},
		{"text only", "just text\r\n\r\nmore\r\n", 0}, {"a line that is no field later", "A: b\r\ntext\r\n\r\nx", 14}, {"mbox", "From x Mon Jan  1 10:00:00 2024\nA: b\n\nx", 38},
		{"CR CR LF is not empty", "A: b\r\r\n\r\r\n\r\nx", 12}, {"only CR", "A: b\rB: c\r\rtext", 15}, {"blank line of blanks", "A: b\r\n \r\n\r\nx", 11},
		{"space before the colon", "A : b\n\nx", 7}, {"name with a blank", "A B: c\n\nx", 0}, {"8 bit name", "\xc3\xa4: c\n\nx", 0}, {"NUL", "\x00\r\n\r\n", 0},
		{"huge, many fields", huge + "\r\nbody", fits}, {"huge, one field", "X: " + strings.Repeat("y", 300<<10) + "\r\n\r\nbody", 0},
		{"huge, folded", "A: b\r\nX: y\r\n" + strings.Repeat(" "+strings.Repeat("y", 99)+"\r\n", 3000) + "\r\nbody", 6},
		{"largest", strings.Repeat("X-Long: "+strings.Repeat("y", 1014)+"\r\n", 255) + "X-Long: " + strings.Repeat("y", 1012) + "\r\n\r\nbody", 256 << 10},
	} {
		for way, r := range map[string]io.Reader{"whole": strings.NewReader(test.in), "halves": iotest.HalfReader(strings.NewReader(test.in)),
			"with EOF": iotest.DataErrReader(strings.NewReader(test.in))} {
			head, rest, err := message.SplitHeader(r)
			if err != nil {
				t.Fatal(err)
			}
			tail, err := io.ReadAll(rest)
			if err != nil || string(head) != test.in[:test.want] || string(tail) != test.in[test.want:] {
				t.Errorf("%s, %s: header of %d bytes, want %d; %d bytes follow; %v", test.name, way, len(head), test.want, len(tail), err)
			}
		}
		if got := message.HeaderLength([]byte(test.in), true); got != test.want {
			t.Errorf("%s: HeaderLength is %d, want %d", test.name, got, test.want)
		}
	}
	broken := errors.New("broken")
	if _, _, err := message.SplitHeader(io.MultiReader(strings.NewReader("A: b\r\n"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
}

// No byte is lost, and what is a header once is one again.
func FuzzSplitHeader(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Add([]byte("From x\nA: b\r\r\n\tc\n \n\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		head, rest, err := message.SplitHeader(iotest.OneByteReader(bytes.NewReader(in)))
		if err != nil {
			t.Fatal(err)
		}
		tail, err := io.ReadAll(rest)
		if err != nil || !bytes.Equal(append(bytes.Clone(head), tail...), in) || len(head) != message.HeaderLength(in, true) {
			t.Fatalf("%q and %q of %q, %v", head, tail, in, err)
		}
		if n := message.HeaderLength(head, true); n != len(head) {
			t.Fatalf("of the header %q %d bytes are header", head, n)
		}
	})
}

// pattern gives n bytes, in no order.
type pattern struct{ n, at int }

func (p *pattern) Read(b []byte) (int, error) {
	if p.n == 0 {
		return 0, io.EOF
	}
	n := min(p.n, len(b))
	for i := range b[:n] {
		p.at = p.at*1103515245 + 12345
		b[i] = byte(p.at >> 16)
	}
	p.n -= n
	return n, nil
}

// A large message goes through in little memory, its body unchanged.
func TestLargeMessageInLittleMemory(t *testing.T) {
	const size = 50 << 20
	const head = "From: a@asmtp\r\nTo: b@asmtp\r\nContent-Type: application/octet-stream\r\n\r\n"
	var before, after runtime.MemStats
	want := sha256.New()
	if _, err := io.Copy(want, &pattern{n: size}); err != nil {
		t.Fatal(err)
	}
	got := sha256.New()
	runtime.ReadMemStats(&before)
	if err := message.Rewrite(&skipHeader{w: got}, io.MultiReader(strings.NewReader(head), &pattern{n: size}), same()); err != nil {
		t.Fatal(err)
	}
	v, err := message.Parse(io.MultiReader(strings.NewReader(head), &pattern{n: size}))
	if err != nil || len(v.Attachments) != 1 || v.Attachments[0].Size != size {
		t.Errorf("view %+v, %v", v, err)
	}
	runtime.ReadMemStats(&after)
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Error("the body is another one")
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
		t.Errorf("%d KiB were allocated", used>>10)
	}
}

// skipHeader passes on what follows the first empty line.
type skipHeader struct {
	w    io.Writer
	head []byte
	body bool
}

func (s *skipHeader) Write(p []byte) (int, error) {
	if s.body {
		return s.w.Write(p)
	}
	s.head = append(s.head, p...)
	if i := bytes.Index(s.head, []byte("\r\n\r\n")); i >= 0 {
		s.body = true
		if _, err := s.w.Write(s.head[i+4:]); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// same are changes that leave addresses as they are.
func same() message.Changes {
	return message.Changes{From: message.Address{Name: "Me", Addr: "me@asmtp"}, Date: date, MessageID: "m@asmtp",
		Address: func(a message.Address) (message.Address, error) { return a, nil }}
}

// The time for a header grows with its length and no faster, whatever it is made of.
func TestHeaderTakesLinearTime(t *testing.T) {
	take := func(name, piece string, n int) time.Duration {
		in := []byte(name + strings.Repeat(piece, n/len(piece)) + "\r\n\r\n")
		start := time.Now()
		message.Arrived(in, arrival())
		message.Sent(in, message.SentBy{Show: show, To: []string{aliceID}})
		if err := message.Rewrite(io.Discard, bytes.NewReader(in), same()); err != nil && len(err.Error()) > 1000 {
			t.Errorf("error has %d bytes", len(err.Error()))
		}
		parse(t, in)
		if _, _, err := message.SplitHeader(iotest.OneByteReader(bytes.NewReader(in))); err != nil {
			t.Error(err)
		}
		return time.Since(start)
	}
	for _, piece := range []string{"[", "(", "<", "\"", "@", "a@b,", "a@b", "\\", ":", ";", ",", " ", "=?utf-8?q?x?= ", "=?", "\r", "\rFrom:", "\r\n ", "\r\nFrom: a@b", "\r\nTo: a@b", "(\"<[", "a:", "<a@b> ", ".", "\r\n", "\x00", "\xff"} {
		for _, name := range []string{"To: ", "From: ", "References: ", "Content-Type: a/b; x=", ""} {
			// Ten times as much may take forty times as long: the machine may be busy.
			for try := 1; ; try++ {
				short, long := take(name, piece, 25_000), take(name, piece, 250_000)
				if long < 100*time.Millisecond || long < 40*short {
					break
				}
				if try == 3 {
					t.Errorf("%q of %q takes %v, and %v for ten times as much", name, piece, short, long)
					break
				}
			}
		}
	}
}
