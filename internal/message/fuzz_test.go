package message_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/asmtp/asmtp/internal/message"
)

var seeds = []string{
	"", "x", "\r\n\r\n", "Subject: a\r\n\r\nb", "From: a@b\r\nTo: c@d, \"e\" <f@g>\r\n\r\n",
	"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html; charset=utf-16\r\n\r\n<p>x\r\n--b\r\nContent-Disposition: attachment; filename*=utf-8''%2e%2e%2fx\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\n",
	"Content-Type: text/plain; charset=gb18030\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C4=E3=",
	"Content-Type: multipart/alternative; boundary=\"\"\r\n\r\n--\r\n", "Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nx",
}

// Whatever a stranger sends: no panic, a view within its limits, nothing in it that
// a terminal obeys, and file names that stay in their directory.
func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := message.Parse(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("error without one of the reader: %v", err)
		}
		lines := []string{v.Subject, v.MessageID, v.From.Name, v.From.Addr}
		for _, a := range append(v.To, v.Cc...) {
			lines = append(lines, a.Name, a.Addr)
		}
		for _, a := range v.Attachments {
			lines = append(lines, a.Name, a.Type)
			if a.Name != message.SafeName(a.Name) || strings.ContainsAny(a.Name, `/\`) || a.Size < 0 {
				t.Fatalf("attachment %+v", a)
			}
		}
		for _, l := range lines {
			if !utf8.ValidString(l) || strings.ContainsFunc(l, unicode.IsControl) {
				t.Fatalf("line %q", l)
			}
		}
		if !utf8.ValidString(v.Text) || strings.ContainsFunc(v.Text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
			t.Fatalf("text %q", v.Text)
		}
	})
}

// Rewriting any message gives one with the same body, without Bcc and without a petname,
// which is not changed again, or a clear error.
func FuzzRewrite(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Add([]byte("Bcc: a@b\r\nbcc : c@d\r\n\r\nbody"))
	f.Add([]byte("From x\nTo: g: \"x\" <petname@asmtp> (y), petname;\r\n\tz@w\r\n\nbody"))
	c := message.Changes{From: message.Address{Name: "Me", Addr: "me@asmtp"}, Date: date, MessageID: "m@asmtp",
		Address: func(a message.Address) (message.Address, error) {
			if strings.HasSuffix(a.Addr, "@example") {
				return a, nil
			}
			return message.Address{Addr: "to@example"}, nil
		}}
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		if err := message.Rewrite(&out, bytes.NewReader(b), c); err != nil {
			if e, ok := errors.AsType[*message.HeaderError](err); !ok || len(e.Error()) > 1000 || !utf8.ValidString(e.Error()) {
				t.Fatalf("error is %v", err)
			}
			return
		}
		body := b[message.HeaderLength(b, true):]
		head := message.HeaderLength(out.Bytes(), true)
		if !bytes.Equal(out.Bytes()[head:], body) {
			t.Fatalf("body %q became %q", body, out.Bytes()[head:])
		}
		h, err := message.ReadHeader(bytes.NewReader(out.Bytes()))
		if err != nil || len(h.Bcc) != 0 {
			t.Fatalf("header %+v, %v", h, err)
		}
		for _, a := range append(h.To, h.Cc...) {
			if !strings.HasSuffix(a.Addr, "@example") {
				t.Fatalf("%q of %q has %+v", out.Bytes(), b, a)
			}
		}
		var again bytes.Buffer
		if err := message.Rewrite(&again, bytes.NewReader(out.Bytes()), c); err != nil || !bytes.Equal(again.Bytes(), out.Bytes()) {
			t.Fatalf("%q became %q, %v", out.Bytes(), again.Bytes(), err)
		}
	})
}

// What is composed of any strings reads as those strings.
func FuzzCompose(f *testing.F) {
	f.Add("subject", "text\n", "name.txt", []byte("content"))
	f.Add("ü\r\nX: y", ".\r\n\x00", "../\x1b", []byte{0, 255})
	f.Fuzz(func(t *testing.T, subject, text, name string, content []byte) {
		var b bytes.Buffer
		err := message.Compose(&b, message.Letter{From: message.Address{Name: subject, Addr: "a@asmtp"}, Subject: subject, Date: date, Text: text,
			Attachments: []message.Attachment{{Name: name, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }}}})
		if err != nil {
			t.Fatal(err)
		}
		v, err := message.Parse(bytes.NewReader(b.Bytes()))
		if err != nil || len(v.Attachments) != 1 || v.Attachments[0].Size != int64(len(content)) || v.Attachments[0].Name != message.SafeName(name) || v.From.Addr != "a@asmtp" {
			t.Fatalf("view %+v, %v of\n%s", v, err, b.Bytes())
		}
	})
}
