package message_test

import (
	"bytes"
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

// Whatever arrives: there is one result, ours, at the top, one From, and what is shown of
// what was shown already says nothing else.
func FuzzArrived(f *testing.F) {
	f.Add([]byte("From: a <b@c>\r\nSubject: x\r\n\r\n"))
	f.Add([]byte("Authentication-Results: x\n y\nFrom:\n\n"))
	f.Add([]byte(" folded\nFrom: x@y, z@w\r\nDate:\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		a := arrival()
		a.Show = nil
		once := message.Arrived(in, a)
		if !bytes.HasPrefix(once, []byte(pass)) || len(once) > len(pass) && (once[len(pass)] == ' ' || once[len(pass)] == '\t') {
			t.Fatalf("%q", once)
		}
		count := 0
		for _, line := range strings.Split(string(once), "\n") {
			if name, _, ok := strings.Cut(strings.ToLower(line), ":"); ok && strings.TrimRight(name, " \t") == "authentication-results" {
				count++
			}
			if strings.TrimRight(line, "\r") == "" {
				break
			}
		}
		if count != 1 {
			t.Errorf("%d results in %q", count, once)
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
