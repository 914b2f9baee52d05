package message_test

import (
	"bufio"
	"bytes"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/message"
)

var notices = flag.String("notices", "", "a folder to write the notices of TestNotice into, to read them with other programs")

func failure(change func(*message.Failure)) message.Failure {
	f := message.Failure{To: message.Address{Name: "alice", Addr: aliceID}, Recipient: message.Address{Name: "bob", Addr: bobID},
		Action: "failed", Status: "4.4.7", Reason: "no answer", Subject: "Hello", OrigID: "orig@asmtp", Sent: date.Add(-time.Hour), Date: date, MessageID: "n@asmtp"}
	change(&f)
	return f
}

// A notice is the report of RFC 3464: another library finds in it the fields that its
// section 2 wants, and people can read it.
func TestNotice(t *testing.T) {
	const arrivalDate = "Wed, 04 Mar 2026 04:06:07 +0000"
	for name, test := range map[string]struct {
		change func(*message.Failure)
		title  string
		text   []string
		mail   [][2]string // fields of the mail
		to     [][2]string // fields of the recipient
	}{
		"failed": {func(f *message.Failure) {}, "Not delivered: Hello",
			[]string{`Your mail "Hello" of 2026-03-04 04:06 UTC`, "could not be delivered to bob", "no answer"},
			[][2]string{{"Original-Envelope-Id", ""}, {"Reporting-Mta", "dns; asmtp"}, {"Arrival-Date", arrivalDate}},
			[][2]string{{"Final-Recipient", "rfc822; " + bobID}, {"Action", "failed"}, {"Status", "4.4.7"}, {"Diagnostic-Code", "x-asmtp; no answer"}, {"Will-Retry-Until", ""}}},
		"delayed": {func(f *message.Failure) {
			f.Action, f.Status, f.RetryUntil = "delayed", "4.0.0", date.Add(time.Hour)
		}, "Not delivered yet: Hello", []string{"was not delivered to bob yet", "until 2026-03-04 06:06 UTC"}, nil,
			[][2]string{{"Action", "delayed"}, {"Status", "4.0.0"}, {"Will-Retry-Until", "Wed, 04 Mar 2026 06:06:07 +0000"}}},
		"delivered": {func(f *message.Failure) {
			f.Action, f.Status, f.EnvID, f.ORCPT = "delivered", "2.0.0", "QQ314159", "rfc822;Bob@asmtp"
		}, "Delivered: Hello", []string{"was delivered to bob"}, [][2]string{{"Original-Envelope-Id", "QQ314159"}},
			[][2]string{{"Original-Recipient", "rfc822;Bob@asmtp"}, {"Action", "delivered"}, {"Status", "2.0.0"}}},
		"uncertain": {func(f *message.Failure) { f.Uncertain = true }, "Not confirmed: Hello", []string{"was not confirmed by bob", "before you send it again"}, nil,
			[][2]string{{"Action", "failed"}}},
		"odd": {func(f *message.Failure) {
			f.Subject, f.Reason, f.EnvID, f.ORCPT, f.Recipient.Name = "Grüße\r\nX-Evil: y "+strings.Repeat("lang ", 60), "nö\r\n\r\nX-Evil: y\x00"+strings.Repeat("z", 2000), "e\r\nX-Evil: y", "utf-8;bö@x\n\nX-Evil: y", "b\nX-Evil: y"
		}, "Not delivered: Grüße  X-Evil: y " + strings.TrimSpace(strings.Repeat("lang ", 60)), []string{"nö", "b X-Evil: y"}, [][2]string{{"Original-Envelope-Id", "e  X-Evil: y"}, {"X-Evil", ""}},
			[][2]string{{"Original-Recipient", "utf-8;b?@x  X-Evil: y"}, {"X-Evil", ""}}},
		"nothing": {func(f *message.Failure) {
			*f = message.Failure{Action: "failed", Status: "5.0.0", Recipient: message.Address{Addr: bobID}, Date: date, MessageID: "n@asmtp"}
		}, "Not delivered:", []string{bobID}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := failure(test.change)
			var b bytes.Buffer
			if err := message.Notice(&b, f); err != nil {
				t.Fatal(err)
			}
			if *notices != "" {
				if err := os.WriteFile(filepath.Join(*notices, name+".eml"), b.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			m, err := mail.ReadMessage(bytes.NewReader(b.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
			if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" || m.Header.Get("Auto-Submitted") != "auto-replied" || m.Header.Get("Message-Id") != "<n@asmtp>" {
				t.Errorf("header is %v, %v", m.Header, err)
			}
			if title, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil || strings.TrimSpace(title) != test.title {
				t.Errorf("title is %q, %v", title, err)
			}
			if f.OrigID != "" && (m.Header.Get("In-Reply-To") != "<orig@asmtp>" || m.Header.Get("References") != "<orig@asmtp>") {
				t.Errorf("it does not thread: %v", m.Header)
			}
			parts := multipart.NewReader(m.Body, params["boundary"])
			text := nextPart(t, parts, "text/plain")
			for _, want := range test.text {
				if !strings.Contains(text, want) {
					t.Errorf("text lacks %q: %s", want, text)
				}
			}
			status := textproto.NewReader(bufio.NewReader(strings.NewReader(nextPart(t, parts, "message/delivery-status") + "\r\n\r\n")))
			for _, fields := range [][][2]string{test.mail, test.to} {
				got, err := status.ReadMIMEHeader()
				if err != nil {
					t.Fatalf("%v of\n%s", err, b.Bytes())
				}
				for _, want := range fields {
					if got.Get(want[0]) != want[1] {
						t.Errorf("%s is %q, want %q", want[0], got.Get(want[0]), want[1])
					}
				}
			}
			if more, err := status.ReadMIMEHeader(); err == nil && len(more) > 0 {
				t.Errorf("more groups of fields: %v", more)
			}
			about := nextPart(t, parts, "text/rfc822-headers")
			if f.OrigID != "" && !strings.Contains(about, "Message-Id: <orig@asmtp>\r\n") || strings.Contains(about, "\nX-Evil") {
				t.Errorf("about the mail: %q", about)
			}
			for line := range bytes.Lines(b.Bytes()) {
				if len(line) > 1000 || !bytes.HasSuffix(line, []byte("\r\n")) {
					t.Errorf("line %q", line)
				}
			}
		})
	}
}

func nextPart(t *testing.T, r *multipart.Reader, kind string) string {
	t.Helper()
	p, err := r.NextPart()
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
	if err != nil || got != kind {
		t.Fatalf("part is %q, %v; want %s", p.Header, err, kind)
	}
	b, err := io.ReadAll(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
