package message_test

import (
	"bytes"
	"errors"
	"io"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/asmtp/asmtp/internal/message"
)

var date = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func compose(t *testing.T, l message.Letter) []byte {
	t.Helper()
	var b bytes.Buffer
	if l.Date.IsZero() {
		l.Date = date
	}
	if err := message.Compose(&b, l); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func parse(t *testing.T, b []byte) *message.View {
	t.Helper()
	v, err := message.Parse(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What was composed reads as what was meant, and the standard library agrees on the
// header.
func TestComposeAndParse(t *testing.T) {
	texts := map[string]string{
		"none": "", "plain": "Hello\nthere\n", "utf-8": "Grüße 😀\n", "long line": strings.Repeat("word ", 1000), "no end": "x",
		"dots": ".\n..\n.x\n", "from": "From here\n", "blank end": "trailing  \n\n\n", "tabs": "a\tb\n", "only breaks": "\n\n",
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			l := message.Letter{
				From: message.Address{Name: "Älice \"A\" O'Neil", Addr: "00@asmtp"}, To: []message.Address{{Addr: "11@asmtp"}, {Name: "B, C", Addr: "22@asmtp"}},
				Cc: []message.Address{{Addr: "33@asmtp"}}, Subject: "Grüße: " + strings.Repeat("lang ", 30), MessageID: "id@asmtp",
				InReplyTo: "old@asmtp", References: []string{"older@asmtp", "old@asmtp"}, Text: text,
			}
			b := compose(t, l)
			v := parse(t, b)
			if v.Text != text {
				t.Errorf("text is %q, want %q", v.Text, text)
			}
			if v.From != l.From || len(v.To) != 2 || v.To[1] != l.To[1] || len(v.Cc) != 1 || v.Subject != strings.TrimSpace(l.Subject) ||
				!v.Date.Equal(date) || v.MessageID != l.MessageID || v.InReplyTo != l.InReplyTo || len(v.References) != 2 {
				t.Errorf("view is %+v", v)
			}
			m, err := mail.ReadMessage(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if from, err := m.Header.AddressList("From"); err != nil || from[0].Name != l.From.Name {
				t.Errorf("net/mail reads From %v, %v", from, err)
			}
			for line := range bytes.Lines(b) {
				if len(line) > 1000 || !bytes.HasSuffix(line, []byte("\r\n")) && len(text) > 0 && !bytes.HasSuffix(b, line) {
					t.Errorf("line of %d bytes ends in %q", len(line), line[max(0, len(line)-2):])
				}
			}
		})
	}
}

// No value of a letter can add a field or a body.
func TestNoHeaderInjection(t *testing.T) {
	evil := "x\r\nBcc: victim@example.org\r\n\r\nbody\n\x00"
	b := compose(t, message.Letter{
		From: message.Address{Name: evil, Addr: "00@asmtp"}, To: []message.Address{{Name: evil, Addr: "11@asmtp" + evil}}, Subject: evil,
		MessageID: evil, InReplyTo: evil, References: []string{evil, "a b"}, Text: "text",
		Attachments: []message.Attachment{{Name: evil, Type: "text/plain\r\nBcc: x", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("f")), nil }}},
	})
	head, _, _ := bytes.Cut(b, []byte("\r\n\r\n"))
	m, err := mail.ReadMessage(bytes.NewReader(append(head, "\r\n\r\n"...)))
	if err != nil {
		t.Fatal(err)
	}
	if m.Header.Get("Bcc") != "" || bytes.Contains(b, []byte("\nBcc:")) || bytes.Contains(head, []byte{0}) {
		t.Errorf("a field was injected:\n%s", b)
	}
	if v := parse(t, b); v.Text != "text" || len(v.Attachments) != 1 {
		t.Errorf("view is %+v", v)
	}
}

// An attachment that cannot be read is an error, not a short mail.
func TestAttachmentFails(t *testing.T) {
	broken := errors.New("disk gone")
	for name, open := range map[string]func() (io.ReadCloser, error){
		"open": func() (io.ReadCloser, error) { return nil, broken },
		"read": func() (io.ReadCloser, error) { return io.NopCloser(iotest.ErrReader(broken)), nil },
	} {
		err := message.Compose(io.Discard, message.Letter{Date: date, Attachments: []message.Attachment{{Name: "f", Open: open}}})
		if !errors.Is(err, broken) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	_, err := message.Parse(iotest.ErrReader(broken))
	if !errors.Is(err, broken) {
		t.Errorf("parse: error is %v", err)
	}
}

// What strangers send is shown as well as it can be.
func TestParseForeign(t *testing.T) {
	for name, tt := range map[string]struct{ in, text, subject string }{
		"latin-1":       {"Subject: =?iso-8859-1?q?Gr=FC=DFe?=\nContent-Type: text/plain; charset=iso-8859-1\n\nGr\xfc\xdfe", "Grüße", "Grüße"},
		"unknown set":   {"Subject: =?x-klingon?q?abc?=\nContent-Type: text/plain; charset=x-klingon\n\nab\xffc", "ab�c", "=?x-klingon?q?abc?="},
		"html":          {"Content-Type: text/html\n\n<style>x{}</style><h1>T</h1><p>a &amp; <b>b</b><br>c<script>evil()</script>", "T\n\na & b\nc", ""},
		"alternative":   {"Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/html\n\n<p>h\n--b\nContent-Type: text/plain\n\nplain\n--b--\n", "plain", ""},
		"escape":        {"Subject: a\x1b[2Jb\x07\n\nx\x1b]0;title\x07y\u202ez", "xyz", "ab"},
		"no header":     {"just text", "just text", ""},
		"cut base64":    {"Content-Transfer-Encoding: base64\n\naGVsbG8", "hel", ""},
		"odd encoding":  {"Content-Transfer-Encoding: x-odd\n\nhi", "hi", ""},
		"no boundary":   {"Content-Type: multipart/mixed\n\nhi", "", ""},
		"cut multipart": {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nfirst\n--b\nContent-", "first", ""},
	} {
		t.Run(name, func(t *testing.T) {
			v := parse(t, []byte(strings.ReplaceAll(tt.in, "\n", "\r\n")))
			if strings.TrimSpace(v.Text) != tt.text || v.Subject != tt.subject {
				t.Errorf("text %q, subject %q; want %q, %q", v.Text, v.Subject, tt.text, tt.subject)
			}
		})
	}
}

// Depth, number and size of what is nested are bounded.
func TestParseBounded(t *testing.T) {
	var deep strings.Builder
	for range 1000 {
		deep.WriteString("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n")
	}
	many := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\nContent-Disposition: attachment\r\n\r\nx\r\n", 10_000)
	for name, in := range map[string]string{
		"deep": deep.String(), "many": many, "large header": "X: " + strings.Repeat("y", 10<<20),
		"many addresses": "To: " + strings.Repeat("a@b, ", 10_000) + "a@b\r\n\r\n", "large text": "\r\n" + strings.Repeat("x", 10<<20),
	} {
		t.Run(name, func(t *testing.T) {
			v := parse(t, []byte(in))
			if len(v.Attachments) > 500 || len(v.To) > 1000 || len(v.Text) > 2<<20 {
				t.Errorf("%d attachments, %d recipients, %d bytes of text", len(v.Attachments), len(v.To), len(v.Text))
			}
		})
	}
}

func TestSafeName(t *testing.T) {
	for in, want := range map[string]string{
		"letter.pdf": "letter.pdf", "../../etc/passwd": "passwd", `C:\boot.ini`: "boot.ini", "/": "attachment", "..": "attachment", "": "attachment",
		".bashrc": "bashrc", "CON": "_CON", "com1.txt": "_com1.txt", "a<b>.txt": "a_b_.txt", "a\x00b\x1b[31mc": "abc", "x. ": "x", "-rf": "rf",
		"invoice\u202efdp.exe": "invoicefdp.exe", "Grüße.txt": "Grüße.txt", "a:b": "a_b",
	} {
		if got := message.SafeName(in); got != want {
			t.Errorf("SafeName(%q) = %q, want %q", in, got, want)
		}
	}
	if got := message.SafeName(strings.Repeat("ü", 500) + ".pdf"); len(got) > 200 || !strings.HasSuffix(got, ".pdf") {
		t.Errorf("a long name becomes %q", got)
	}
}

// Saving neither leaves the directory nor overwrites or follows what is there.
func TestSaveAttachments(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	out := filepath.Join(dir, "out")
	for _, err := range []error{os.WriteFile(victim, []byte("safe"), 0o600), os.Mkdir(out, 0o700), os.Symlink(victim, filepath.Join(out, "link"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	file := func(name string) message.Attachment {
		return message.Attachment{Name: name, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("evil")), nil }}
	}
	b := compose(t, message.Letter{Attachments: []message.Attachment{file("a"), file("a"), file("link"), file("b")}})
	b = bytes.ReplaceAll(b, []byte("filename=b"), []byte(`filename="../victim"`))
	paths, err := message.SaveAttachments(bytes.NewReader(b), out)
	if err != nil || len(paths) != 4 {
		t.Fatalf("saved %v, %v", paths, err)
	}
	for _, p := range paths {
		if filepath.Dir(p) != out {
			t.Errorf("%s is outside", p)
		}
		if got, err := os.ReadFile(p); err != nil || string(got) != "evil" {
			t.Errorf("%s holds %q, %v", p, got, err)
		}
	}
	if got, err := os.ReadFile(victim); err != nil || string(got) != "safe" {
		t.Errorf("the file outside holds %q, %v", got, err)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"a\r\nb\rc\n": "a\nb\nc\n", "\x1b[31mred\x1b[0m": "red", "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\": "link", "\u009b2Jx": "x",
		"a\x08\x7fb": "ab", "\u2066x\u2069\ufeff": "x", "bad\xffutf": "bad�utf", "\x1b": "", "\x1bPq": "q", "👩\u200d🚀": "👩\u200d🚀", "a\tb": "a\tb",
	} {
		if got := message.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
		if got := message.Clean(message.Clean(in)); got != want {
			t.Errorf("Clean twice of %q = %q", in, got)
		}
	}
	if got := message.CleanLine(" a\r\nb\tc "); got != "a b c" {
		t.Errorf("CleanLine gives %q", got)
	}
}

// Rewriting changes addresses, takes out Bcc, and leaves everything else byte for byte.
func TestRewrite(t *testing.T) {
	in := "X-A: 1\r\nTo: Bob <bob@asmtp>, other@example.org\r\nBcc: secret@asmtp\r\nSubject: =?utf-8?q?=C3=BC?=\r\n  folded\r\nX-A: 2\r\n\r\nbody\nodd\r\r\n.\r\n\xff"
	c := message.Changes{From: message.Address{Name: "Me", Addr: "00@asmtp"}, Date: date, MessageID: "new@asmtp",
		Address: func(a message.Address) (message.Address, error) {
			if a.Addr == "bob@asmtp" {
				return message.Address{Addr: "11@asmtp"}, nil
			}
			return a, nil
		}}
	var out bytes.Buffer
	if err := message.Rewrite(&out, strings.NewReader(in), c); err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(out.String(), "\r\n\r\n")
	if _, want, _ := strings.Cut(in, "\r\n\r\n"); body != want {
		t.Errorf("body is %q, want %q", body, want)
	}
	for _, want := range []string{"X-A: 1\r\n", "X-A: 2", "Subject: =?utf-8?q?=C3=BC?=\r\n  folded", "11@asmtp", "other@example.org", "00@asmtp", "<new@asmtp>", "Date: "} {
		if !strings.Contains(head, want) {
			t.Errorf("header lacks %q:\n%s", want, head)
		}
	}
	for _, never := range []string{"Bob", "bob", "Bcc", "secret"} {
		if strings.Contains(head, never) {
			t.Errorf("header has %q:\n%s", never, head)
		}
	}
	refuse := errors.New("refused")
	c.Address = func(message.Address) (message.Address, error) { return message.Address{}, refuse }
	if err := message.Rewrite(io.Discard, strings.NewReader(in), c); !errors.Is(err, refuse) {
		t.Errorf("error is %v", err)
	}
}

func BenchmarkParse(b *testing.B) {
	in := []byte("From: \"Alice\" <" + aliceID + ">\r\nTo: <" + bobID + ">\r\nSubject: Hello there\r\n" + both +
		"Mime-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + strings.Repeat("Some words of text that stand in a line of a mail.\r\n", 35))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := message.Parse(bytes.NewReader(in)); err != nil {
			b.Fatal(err)
		}
	}
}
