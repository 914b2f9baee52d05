package message_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/message"
)

const (
	aliceID = "00112233445566778899aabbccddeeff@asmtp"
	bobID   = "ffeeddccbbaa99887766554433221100@asmtp"
)

func show(a message.Address) message.Address {
	if a.Addr == aliceID {
		a.Addr = "alice@asmtp"
	}
	return a
}

func arrival() message.Arrival {
	return message.Arrival{From: message.Address{Addr: aliceID}, Certain: true, Show: show,
		Received: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), MessageID: "made@asmtp"}
}

const (
	pass  = "Authentication-Results: asmtp; passport=pass (00112233445566778899aabbccddeeff)\r\n"
	added = "Date: Fri, 02 Jan 2026 03:04:05 +0000\r\nMessage-ID: <made@asmtp>\r\n"
	both  = "Date: d\r\nMessage-ID: <i@x>\r\n"
)

func TestArrived(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"common", "From: \"Alice\" <" + aliceID + ">\r\nTo: <" + bobID + ">\r\n" + both + "\r\n",
			pass + "From: \"Alice\" <alice@asmtp>\r\nTo: <" + bobID + ">\r\n" + both + "\r\n"},
		{"reply to all", "From: <" + aliceID + ">\r\nTo: <" + bobID + ">,\r\n <" + aliceID + ">\r\n" + both + "\r\n",
			pass + "From: <alice@asmtp>\r\nTo: <" + bobID + ">,\r\n <alice@asmtp>\r\n" + both + "\r\n"},
		{"forged", "From: \"The bank\" <service@bank.example>\r\n" + both + "\r\n",
			pass + "From: \"The bank\" <alice@asmtp>\r\nX-ASMTP-Claimed-From: \"The bank\" <service@bank.example>\r\n" + both + "\r\n"},
		{"two mailboxes", "From: <" + aliceID + ">, <" + bobID + ">\r\n" + both + "\r\n",
			pass + "From: <alice@asmtp>\r\nX-ASMTP-Claimed-From: <" + aliceID + ">, <" + bobID + ">\r\n" + both + "\r\n"},
		{"two fields", "FROM: <" + aliceID + ">\r\nFrom: <x@y>\r\n" + both + "\r\n", pass + "From: <alice@asmtp>\r\nX-ASMTP-Claimed-From: <" + aliceID + ">, <x@y>\r\n" + both + "\r\n"},
		{"claims", "Authentication-Results: asmtp;\r\n passport=pass\r\nAUTHENTICATION-RESULTS : x\r\nX-Asmtp-Claimed-From: x\r\nFrom: <" + aliceID + ">\r\n" + both + "\r\n",
			pass + "From: <alice@asmtp>\r\n" + both + "\r\n"},
		{"nothing", "", pass + "From: <alice@asmtp>\r\n" + added + "\r\n"},
		{"empty line", "\r\n", pass + "From: <alice@asmtp>\r\n" + added + "\r\n"},
		{"odd bytes", "From: <" + aliceID + ">\nX: \x00\x80\n\todd\r\nno field\xff\n:\n" + both + "\n",
			pass + "From: <alice@asmtp>\nX: \x00\x80\n\todd\r\nX-ASMTP-Unnamed: no field\xff\nX-ASMTP-Unnamed: :\n" + both + "\n"},
		{"unreadable", "From: =?x?\r\nTo: a@b@c <\r\n" + both, pass + "From: <alice@asmtp>\r\nX-ASMTP-Claimed-From: =?x?\r\nTo: a@b@c <\r\n" + both + "\r\n"},
		{"folded from nothing", " ; passport=pass (x)\r\nFrom: <" + aliceID + ">\r\n" + both + "\r\n",
			pass + "X-ASMTP-Unnamed: ; passport=pass (x)\r\nFrom: <alice@asmtp>\r\n" + both + "\r\n"},
		{"ends in a field", "From: <" + aliceID + ">\r\n" + both + "Subject: x", pass + "From: <alice@asmtp>\r\n" + both + "Subject: x\r\n\r\n"},
	} {
		if got := message.Arrived([]byte(test.in), arrival()); string(got) != test.want {
			t.Errorf("%s:\n%q\nwant\n%q", test.name, got, test.want)
		}
	}
	a := arrival()
	a.Certain = false
	if got := message.Arrived(nil, a); !strings.Contains(string(got), "passport=none (sealed with a key that a removed device knows)") {
		t.Errorf("not certain: %q", got)
	}
}

func TestSentShowsNames(t *testing.T) {
	in := "From: <" + bobID + ">\r\nTo: \"A, lice\" <" + aliceID + ">, <x@y>\r\nX: y\r\n\r\n"
	want := "From: <" + bobID + ">\r\nTo: \"A, lice\" <alice@asmtp>, <x@y>\r\nX: y\r\n\r\n"
	if got := message.Sent([]byte(in), message.SentBy{Show: show}); string(got) != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

// claims are the names of fields that only Arrived may write.
var claims = []string{"authentication-results", "from", "x-asmtp-claimed-from", "arc-seal", "return-path"}

// count returns how often each of claims is the name of a field, for a program that ends
// lines at any CR if cr is set, up to the end of the header.
func count(header []byte, cr bool) map[string]int {
	text := strings.ReplaceAll(string(header), "\r\n", "\n")
	if cr {
		text = strings.ReplaceAll(text, "\r", "\n")
	}
	out := make(map[string]int)
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" {
			break
		}
		name, _, _ := strings.Cut(strings.ToLower(line), ":")
		if name = strings.TrimRight(name, " \t"); slices.Contains(claims, name) {
			out[name]++
		}
	}
	return out
}

// Whatever arrives: there is one result, ours, at the top, and one From with the address
// of who sealed it, for every program. What was shown once stays as it is.
func FuzzArrived(f *testing.F) {
	f.Add([]byte("From: a <b@c>\r\nSubject: x\r\n\r\n"))
	f.Add([]byte("Authentication-Results: x\n y\nFrom:\n\n"))
	f.Add([]byte(" folded\nFrom: x@y, z@w\r\nDate:\r\n"))
	f.Add([]byte("X: y\rFrom: z@w\r\rAuthentication-Results: asmtp\r\n\r\n"))
	f.Add([]byte("From me\nTo: a@asmtp\r, b\rFrom: (x\n\n"))
	f.Add([]byte("From: \"x\rFrom: y\"\r\n <" + aliceID + ">\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		in = in[:message.HeaderLength(in, true)]
		a := arrival()
		a.Show = nil
		once := message.Arrived(in, a)
		if !bytes.HasPrefix(once, []byte(pass)) || once[len(pass)] == ' ' || once[len(pass)] == '\t' {
			t.Fatalf("%q", once)
		}
		for _, cr := range []bool{false, true} {
			n := count(once, cr)
			if n["authentication-results"] != 1 || n["from"] != 1 || n["x-asmtp-claimed-from"] > 1 || n["arc-seal"]+n["return-path"] > 0 {
				t.Fatalf("%v in %q", n, once)
			}
		}
		if v, err := message.Parse(bytes.NewReader(once)); err != nil || v.From.Addr != aliceID || v.Date.IsZero() && !bytes.Contains(bytes.ToLower(in), []byte("date")) {
			t.Fatalf("%+v, %v of %q", v, err, once)
		}
		if n := message.HeaderLength(once, true); n != len(once) && len(once) < 200<<10 {
			t.Fatalf("of %q %d bytes are the header", once, n)
		}
		twice := message.Arrived(once, a)
		var same []string
		for line := range strings.Lines(string(once)) {
			if !strings.HasPrefix(line, "X-ASMTP-Claimed-From: ") {
				same = append(same, line)
			}
		}
		if string(twice) != strings.Join(same, "") {
			t.Fatalf("%q\nbecame\n%q", once, twice)
		}
	})
}

// What was sent keeps its fields, and its own copy is one message still.
func FuzzSent(f *testing.F) {
	f.Add([]byte("From: a <b@c>\r\nTo: x@asmtp, g: y@asmtp (z);\r\n\r\n"))
	f.Add([]byte("To: \"x\n <" + aliceID + ">"))
	f.Fuzz(func(t *testing.T, in []byte) {
		in = in[:message.HeaderLength(in, true)]
		out := message.Sent(in, message.SentBy{Show: show, To: []string{bobID}})
		if n := message.HeaderLength(out, true); n != len(out) && len(out) < 200<<10 {
			t.Fatalf("of %q %d bytes are the header", out, n)
		}
		plain := message.Sent(in, message.SentBy{})
		if ended := append(bytes.TrimRight(in, "\r"), "\r\n\r\n"...); !bytes.HasPrefix(plain, in) && !bytes.HasPrefix(ended, plain) {
			t.Fatalf("%q became %q", in, plain)
		}
	})
}

func BenchmarkArrived(b *testing.B) {
	in := []byte("From: \"Alice\" <" + aliceID + ">\r\nTo: <" + bobID + ">\r\nSubject: Hello there\r\n" + both + "Mime-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n")
	a := arrival()
	for b.Loop() {
		message.Arrived(in, a)
	}
}

func BenchmarkSent(b *testing.B) {
	in := []byte("From: \"Bob\" <" + bobID + ">\r\nTo: <" + aliceID + ">\r\nSubject: Hello there\r\n" + both + "Mime-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n")
	by := message.SentBy{Show: show, To: []string{aliceID}}
	b.ReportAllocs()
	for b.Loop() {
		message.Sent(in, by)
	}
}
