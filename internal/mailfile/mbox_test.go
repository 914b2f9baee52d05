package mailfile_test

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/mailfile"
)

type message struct {
	meta mailfile.Meta
	text string
}

func readMbox(t *testing.T, r io.Reader) (list []message) {
	t.Helper()
	in := mailfile.NewMboxReader(r)
	for {
		body, err := in.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, message{in.Meta(), string(b)})
	}
}

// Messages come back byte for byte with what is kept beside them, in one file or over
// several times that it is opened; what is there is not written again.
func TestMboxKeepsMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mbox")
	var want []message
	for i, name := range slices.Sorted(maps.Keys(bodies)) {
		m, err := mailfile.OpenMboxFile(path)
		if err != nil {
			t.Fatal(name, err)
		}
		meta := mailfile.Meta{ID: id(i + 1), Flags: mailfile.Flags(i % 32), Date: time.Unix(1e9+int64(i), 0).UTC()}
		if i%2 == 0 {
			meta.Keywords = []string{"$Forwarded", "work"}
		}
		for j := range i + 1 {
			if has := m.Has(id(j + 1)); has != (j < i) {
				t.Errorf("message %d is there: %v", j, has)
			}
		}
		if err := m.Add(meta, source(bodies[name])); err != nil {
			t.Fatal(name, err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		want = append(want, message{meta, bodies[name]})
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := readMbox(t, f)
	if len(got) != len(want) {
		t.Fatalf("%d messages, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := got[i], want[i]
		if g.text != w.text || g.meta.ID != w.meta.ID || g.meta.Flags != w.meta.Flags || !g.meta.Date.Equal(w.meta.Date) || !slices.Equal(g.meta.Keywords, w.meta.Keywords) {
			t.Errorf("got %+v %.70q\nwant %+v %.70q", g.meta, g.text, w.meta, w.text)
		}
	}
}

// Files of other programs are read however they part messages and end lines.
func TestMboxOfOthers(t *testing.T) {
	const file = "\n\nFrom a@b Thu Nov  5 01:02:03 2026\nSubject: one\nStatus: RO\nX-Status: AF\n\nbody\n>From x\nFrom y\n\n" +
		"From c Thu Nov 26 13:00:00 2026\r\nX-Keywords: work,\r\n  later\r\nSubject: two\r\n\r\nStatus: no\r\n\r\n\r\n" +
		"From d Thu Nov 26 13:00 2026\n\nno header\n" +
		"From - Thu Nov 26 13:00:00 2026 +0100\nSubject: four\n\nno end"
	got := readMbox(t, strings.NewReader(file))
	want := []string{"Subject: one\r\n\r\nbody\r\nFrom x\r\nFrom y\r\n", "Subject: two\r\n\r\nStatus: no\r\n\r\n", "\r\nno header\r\n", "Subject: four\r\n\r\nno end"}
	if len(got) != len(want) {
		t.Fatalf("%d messages: %q", len(got), got)
	}
	for i, w := range want {
		if got[i].text != w {
			t.Errorf("message %d is %q, want %q", i, got[i].text, w)
		}
	}
	if f := got[0].meta.Flags; f != mailfile.Seen|mailfile.Answered|mailfile.Flagged {
		t.Errorf("flags %v", f)
	}
	if k := got[1].meta.Keywords; !slices.Equal(k, []string{"work"}) {
		t.Errorf("keywords %q", k)
	}
	if len(readMbox(t, strings.NewReader(""))) != 0 {
		t.Error("an empty file has messages")
	}
	if _, err := mailfile.NewMboxReader(strings.NewReader("Subject: a\n\n")).Next(); !errors.Is(err, mailfile.ErrNoMbox) {
		t.Errorf("no mbox: %v", err)
	}
}

// A file that is no mbox is not touched, and what fails to be written leaves one as it was.
func TestMboxStaysWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("a letter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := mailfile.OpenMboxFile(path); !errors.Is(err, mailfile.ErrNoMbox) {
		t.Errorf("opened: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "a letter\n" {
		t.Errorf("it is %q now", b)
	}
	if err := os.WriteFile(path, []byte("From a Thu Nov 26 13:00:00 2026\nx\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := mailfile.OpenMboxFile(path)
	if err != nil {
		t.Fatal(err)
	}
	opened := 0
	err = m.Add(mailfile.Meta{ID: id(1)}, func() (io.ReadCloser, error) {
		if opened++; opened == 2 {
			return io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x", 200_000)), broken{})), nil
		}
		return io.NopCloser(strings.NewReader("x")), nil
	})
	if !errors.Is(err, errBroken) || m.Has(id(1)) {
		t.Errorf("added: %v", err)
	}
	if err := errors.Join(m.Add(mailfile.Meta{ID: id(2)}, source("y")), m.Close()); err != nil {
		t.Fatal(err)
	}
	f, _ := os.Open(path)
	defer f.Close()
	if got := readMbox(t, f); len(got) != 2 || got[0].text != "x\r\n" || got[1].text != "y" {
		t.Errorf("got %q", got)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }

// Whatever bytes a message has, both formats give them back.
func FuzzRoundTrip(f *testing.F) {
	for _, b := range bodies {
		f.Add(b, byte(3))
	}
	f.Add(strings.Repeat(">", 999)+"From x\r\n"+strings.Repeat(">", 1000)+"\r\n"+strings.Repeat(">", 1001)+"From ", byte(0))
	f.Fuzz(func(t *testing.T, text string, flags byte) {
		meta := mailfile.Meta{ID: id(1), Flags: mailfile.Flags(flags) & 31, Date: time.Unix(1e9, 0)}
		dir := t.TempDir()
		m, err := mailfile.CreateMaildir(dir, mailfile.Inbox)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if err := m.Add(meta, source(text)); err != nil {
			t.Fatal(err)
		}
		list, err := m.Messages()
		if err != nil || len(list) != 1 || list[0].Flags != meta.Flags || readAll(t, m, list[0]) != text {
			t.Fatalf("Maildir: %v, %v", list, err)
		}
		path := filepath.Join(dir, "mbox")
		for i := range 2 {
			meta.ID = id(i + 1)
			file, err := mailfile.OpenMboxFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(file.Add(meta, source(text)), file.Close()); err != nil {
				t.Fatal(err)
			}
		}
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		got := readMbox(t, in)
		if len(got) != 2 || got[0].text != text || got[1].text != text || got[1].meta.Flags != meta.Flags {
			t.Fatalf("mbox: %q, want %q", got, text)
		}
	})
}

// No file makes the readers fail in another way than by an error.
func FuzzMboxReader(f *testing.F) {
	f.Add("From a Thu Nov 26 13:00:00 2026\nx: y\n\nFrom b\n\nFrom c Thu Nov 26 13:00:00 2026\n")
	f.Fuzz(func(t *testing.T, text string) {
		in := mailfile.NewMboxReader(strings.NewReader(text))
		for range 100 {
			body, err := in.Next()
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, body); err != nil {
				return
			}
		}
	})
}
