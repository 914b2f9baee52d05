package bridge

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const dataTestLimit = 1 << 20

// readData reads a mail as DATA sends it, in pieces of every kind, and returns what is
// left after it.
func readData(t testing.TB, wire string, limit int64) (text, rest string, err error) {
	t.Helper()
	for i, r := range []io.Reader{strings.NewReader(wire), iotest.OneByteReader(strings.NewReader(wire)), iotest.HalfReader(strings.NewReader(wire))} {
		in := bufio.NewReaderSize(r, 16)
		got, gotErr := io.ReadAll(newSMTPData(in, limit))
		left, _ := io.ReadAll(in)
		if i > 0 && (string(got) != text || string(left) != rest && gotErr == nil || !errors.Is(gotErr, err)) {
			t.Fatalf("%q: in pieces it is %q, %q, %v, at once %q, %q, %v", wire, got, left, gotErr, text, rest, err)
		}
		text, rest, err = string(got), string(left), gotErr
	}
	return text, rest, err
}

// Only CR LF dot CR LF ends a mail, only a dot that begins a line is taken out, and
// everything else stays.
func TestDataKeepsEveryByte(t *testing.T) {
	for _, tt := range []struct{ wire, want string }{
		{".\r\n", ""},
		{"\r\n.\r\n", "\r\n"},
		{"a\r\n.\r\n", "a\r\n"},
		{"a.b.\r\n.\r\n", "a.b.\r\n"},
		{"..\r\n.\r\n", ".\r\n"},
		{"...\r\n.\r\n", "..\r\n"},
		{".a\r\n.\r\n", "a\r\n"},
		{"a\r\n..\r\n.\r\n", "a\r\n.\r\n"},
		{"a\n..\n.x\nb\r\n.\r\n", "a\n..\n.x\nb\r\n"},
		{"a\r.x\r..\r\n.\r\n", "a\r.x\r..\r\n"},
		{"a\r\r\n.\r\n", "a\r\r\n"}, // go-smtp waits for ever
		{"a\n\r\n.\r\n", "a\n\r\n"},
		{"a\x00\xff\r\n.\r\n", "a\x00\xff\r\n"},
		{strings.Repeat("x", 100<<10) + "\r\n.\r\n", strings.Repeat("x", 100<<10) + "\r\n"},
		{"\r\n.\r\n", "\r\n"},
		{"....\r\n.\r\n", "...\r\n"},
	} {
		got, rest, err := readData(t, tt.wire+"NOOP\r\n", dataTestLimit)
		if err != nil || got != tt.want || rest != "NOOP\r\n" {
			t.Errorf("%.60q: %.60q, %.60q, %v; want %.60q", tt.wire, got, rest, err, tt.want)
		}
	}
}

// What some take for the end of a mail and others do not is refused, and what follows is
// not read as commands: the end of the mail is looked for.
func TestDataRefusesSmuggling(t *testing.T) {
	for _, end := range []string{
		"\n.\n", "\r.\r", "\n.\r\n", "\r.\r\n", "\n.\r", "\r.\n", "\r\n.\n", "\r\n.\r", "\r\n.\rx", "\n\n.\r\n", "\r\r.\r\n",
	} {
		wire := "a" + end + "MAIL FROM:<x@asmtp>\r\n" + end + "more\r\n.\r\n"
		text, _, err := readData(t, wire, dataTestLimit)
		if !errors.Is(err, errSmuggling) {
			t.Errorf("%q: %q, %v; want a refusal", end, text, err)
		}
		in := bufio.NewReader(strings.NewReader(wire + "NOOP\r\n"))
		d := newSMTPData(in, dataTestLimit)
		io.ReadAll(d)
		found := d.drain(dataTestLimit)
		if rest, _ := io.ReadAll(in); !found || string(rest) != "NOOP\r\n" {
			t.Errorf("%q: after the end there is %q, %v", end, rest, found)
		}
	}
	if _, _, err := readData(t, ".\nx\r\n.\r\n", dataTestLimit); !errors.Is(err, errSmuggling) {
		t.Errorf("at the beginning: %v", err)
	}
}

// The limit is that of the text, without the dots that are taken out, to the byte. The
// rest of a mail that is too large is read, but not for ever.
func TestDataHasALimit(t *testing.T) {
	if got, _, err := readData(t, "..234\r\n.\r\n", 6); err != nil || got != ".234\r\n" {
		t.Errorf("at the limit: %q, %v", got, err)
	}
	if _, _, err := readData(t, "..234\r\n.\r\n", 5); !errors.Is(err, errSMTPTooLarge) {
		t.Errorf("beyond the limit: %v", err)
	}
	for _, tt := range []struct {
		size int
		end  bool
	}{{1500, true}, {100_000, false}} {
		in := bufio.NewReader(strings.NewReader(strings.Repeat("x", tt.size) + "\r\n.\r\nNOOP\r\n"))
		d := newSMTPData(in, 1000)
		if _, err := io.ReadAll(d); !errors.Is(err, errSMTPTooLarge) {
			t.Fatal(err)
		}
		if got := d.drain(1000); got != tt.end {
			t.Errorf("of %d bytes the end was found: %v", tt.size, got)
		}
	}
}

// A connection that ends in the middle of a mail is no end of the mail.
func TestDataNeedsItsEnd(t *testing.T) {
	for _, wire := range []string{"", "a", "a\r\n", "a\r\n.", "a\r\n.\r", "a\r\n..", ".\r"} {
		if _, _, err := readData(t, wire, dataTestLimit); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v", wire, err)
		}
	}
}

// stuff is the other side: how a program sends a mail (RFC 5321, 4.5.2).
func stuff(text []byte) string {
	var b strings.Builder
	line := true
	for i, c := range text {
		if line && c == '.' {
			b.WriteByte('.')
		}
		b.WriteByte(c)
		line = c == '\n' && i > 0 && text[i-1] == '\r'
	}
	if !line {
		b.WriteString("\r\n")
	}
	return b.String() + ".\r\n"
}

// What a program sends arrives byte for byte, or is refused because others would see an
// end in it.
func FuzzData(f *testing.F) {
	for _, s := range []string{"", "a", ".\r\n", "\r.\r", "..", "a\r\n.\r\n.\n", "\r\r\n.", "x\n.\ny", "\r\n\r\n....\r\n", "\n..\n", "\r\n..\n", "."} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, rest, err := readData(t, stuff(text)+"QUIT\r\n", dataTestLimit)
		want := string(text)
		if !strings.HasSuffix(want, "\r\n") && want != "" {
			want += "\r\n"
		}
		if ambiguous := ambiguousEnd(stuff(text)); ambiguous != errors.Is(err, errSmuggling) {
			t.Fatalf("%q: %v, ambiguous %v", text, err, ambiguous)
		} else if ambiguous {
			return
		}
		if err != nil || got != want || rest != "QUIT\r\n" {
			t.Fatalf("%q arrives as %q, %q, %v", text, got, rest, err)
		}
	})
}

// ambiguousEnd says the same as errSmuggling in another way: a dot alone between line ends
// before the end of the mail.
func ambiguousEnd(wire string) bool {
	body := []byte("\r\n" + strings.TrimSuffix(wire, ".\r\n") + ".\r\n")
	for i := 2; i+1 < len(body)-1; i++ {
		if body[i] == '.' && bytes.IndexByte([]byte("\r\n"), body[i-1]) >= 0 && bytes.IndexByte([]byte("\r\n"), body[i+1]) >= 0 {
			if i == len(body)-3 && string(body[i-2:i]) == "\r\n" {
				return false // the end
			}
			return true
		}
	}
	return false
}

func BenchmarkData(b *testing.B) {
	wire := stuff(bytes.Repeat([]byte(strings.Repeat("x", 76)+"\r\n"), 10000))
	b.SetBytes(int64(len(wire)))
	buf := make([]byte, 32<<10)
	in := bufio.NewReaderSize(nil, 16<<10)
	for b.Loop() {
		in.Reset(strings.NewReader(wire))
		d := newSMTPData(in, 1<<30)
		for {
			if _, err := d.Read(buf); err != nil {
				break
			}
		}
	}
}
