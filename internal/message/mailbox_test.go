package message_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/asmtp/asmtp/internal/message"
)

// The examples of RFC 5322 appendix A, of RFC 2047 section 8 and of RFC 6532, and what
// programs write that no RFC has.
func TestAddressFields(t *testing.T) {
	for _, test := range []struct {
		in   string
		want []message.Address
	}{
		{"Mary Smith <mary@example.net>", []message.Address{{Name: "Mary Smith", Addr: "mary@example.net"}}},
		{`"Joe Q. Public" <john.q.public@example.com>`, []message.Address{{Name: "Joe Q. Public", Addr: "john.q.public@example.com"}}},
		{`Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>`,
			[]message.Address{{Name: "Mary Smith", Addr: "mary@x.test"}, {Addr: "jdoe@example.org"}, {Name: "Who?", Addr: "one@y.test"}}},
		{`<boss@nil.test>, "Giant; \"Big\" Box" <sysservices@example.net>`, []message.Address{{Addr: "boss@nil.test"}, {Name: `Giant; "Big" Box`, Addr: "sysservices@example.net"}}},
		{"A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
			[]message.Address{{Name: "Ed Jones", Addr: "c@a.test"}, {Addr: "joe@where.test"}, {Name: "John", Addr: "jdoe@one.test"}}},
		{"Undisclosed recipients:;", nil},
		{"(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", nil},
		{`Pete(A nice \) chap) <pete(his account)@silly.test(his host)>`, []message.Address{{Name: "Pete", Addr: "pete@silly.test"}}},
		{"A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)public.example>,\r\n         joe@example.org,\r\n  John <jdoe@one.test> (my dear friend); (the end of the group)",
			[]message.Address{{Name: "Chris Jones", Addr: "c@public.example"}, {Addr: "joe@example.org"}, {Name: "John", Addr: "jdoe@one.test"}}},
		{"Joe Q. Public <john.q.public@example.com>", []message.Address{{Name: "Joe Q. Public", Addr: "john.q.public@example.com"}}},
		{"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
			[]message.Address{{Name: "Mary Smith", Addr: "mary@example.net"}, {Addr: "jdoe@test.example"}}},
		{"=?US-ASCII?Q?Keith_Moore?= <moore@cs.utk.edu>", []message.Address{{Name: "Keith Moore", Addr: "moore@cs.utk.edu"}}},
		{"=?ISO-8859-1?Q?Keld_J=F8rn_Simonsen?= <keld@dkuug.dk>", []message.Address{{Name: "Keld Jørn Simonsen", Addr: "keld@dkuug.dk"}}},
		{"=?ISO-8859-1?Q?Andr=E9?= Pirard <PIRARD@vm1.ulg.ac.be>", []message.Address{{Name: "André Pirard", Addr: "PIRARD@vm1.ulg.ac.be"}}},
		{"=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?= <a@b>",
			[]message.Address{{Name: "If you can read this you understand the example.", Addr: "a@b"}}},
		{"Jøran Øygårdvær <jøran@blåbær.example>, 用户@例子.广告", []message.Address{{Name: "Jøran Øygårdvær", Addr: "jøran@blåbær.example"}, {Addr: "用户@例子.广告"}}},
		{`"bob smith"@asmtp, "with \"quote\""@asmtp, bob @ asmtp`, []message.Address{{Addr: "bob smith@asmtp"}, {Addr: `with "quote"@asmtp`}, {Addr: "bob@asmtp"}}},
		{"bob@asmtp (Bob Builder)", []message.Address{{Name: "Bob Builder", Addr: "bob@asmtp"}}},
		{"bob@asmtp <bob@asmtp>; carol", []message.Address{{Name: "bob@asmtp", Addr: "bob@asmtp"}, {Addr: "carol"}}},
		{"x@[127.0.0.1], 'a' <a@b>,", []message.Address{{Addr: "x@[127.0.0.1]"}, {Name: "'a'", Addr: "a@b"}}},
		{"  \r\n ", nil},
	} {
		h, err := message.ReadHeader(strings.NewReader("tO : " + test.in + "\r\n\r\n"))
		if err != nil || !slices.Equal(h.To, test.want) {
			t.Errorf("%q is %+v, %v", test.in, h.To, err)
		}
	}
	for _, bad := range []string{"bob smith", "a@b@c", "<a@b", "a@b <c@d> <e@f>", "@asmtp", "<>", "a@", `"bob`, "(bob", "a b@c", "<a@b> c", "a..b\x00@c", "\xe4@asmtp", "a@b)", "x:y:z@a"} {
		h, err := message.ReadHeader(strings.NewReader("To: " + bad + "\r\n\r\n"))
		if e, ok := errors.AsType[*message.HeaderError](err); !ok || e.Field != "To" {
			t.Errorf("%q is %+v, %v", bad, h.To, err)
		}
	}
}

// Only what changes is new: everything around an address stays.
func TestRewriteIsExact(t *testing.T) {
	change := func(a message.Address) (message.Address, error) {
		if local, ok := strings.CutSuffix(a.Addr, "@asmtp"); ok && len(local) < 30 {
			a.Addr = aliceID
			if a.Name == local {
				a.Name = ""
			}
		}
		return a, nil
	}
	const w = "<" + aliceID + ">"
	for _, test := range []struct{ in, want string }{
		{"tO :\t\"B, ob\"\r\n\t<bob@asmtp> ,x@y\r\n", "tO :\t\"B, ob\"\r\n\t" + w + " ,x@y\r\n"},
		{"To: bob@asmtp,carol@asmtp\n", "To: " + aliceID + "," + aliceID + "\n"},
		{"To: bob <bob@asmtp>, Carol <carol@asmtp>\r\n", "To: " + w + ", Carol " + w + "\r\n"},
		{"To: =?utf-8?q?B=C3=B6b?= <bob@asmtp>\r\n", "To: =?utf-8?q?B=C3=B6b?= " + w + "\r\n"},
		{"To: B\xf6b <bob@asmtp>\r\n", "To: B\xf6b " + w + "\r\n"},
		{"Cc: friends: bob@asmtp,\r\n Carol <carol@asmtp>;, (nobody) x@y\r\n", "Cc: friends: " + aliceID + ",\r\n Carol " + w + ";, (nobody) x@y\r\n"},
		{"To: bob@asmtp (bob)\r\n", "To: " + w + "\r\n"},
		{"To: Bob <bob@asmtp> (really bob)\r\n", "To: \"Bob\" " + w + "\r\n"},
		{"To: undisclosed-recipients:;\r\n", "To: undisclosed-recipients:;\r\n"},
		{"Reply-To: <\"bob\"@asmtp>\r\n", "Reply-To: " + w + "\r\n"},
		{"Resent-To: bob@asmtp\r\nDisposition-Notification-To: me <bob@asmtp>\r\n", "Resent-To: " + aliceID + "\r\nDisposition-Notification-To: me " + w + "\r\n"},
		{"BCC: bob@asmtp,\r\n\tcarol@asmtp\r\nbcc :x\r\nResent-Bcc:\r\n y\r\nX-Bcc: z\r\nSubject: s\r\n", "Subject: s\r\n"},
		{"Authentication-Results: x\r\nARC-Seal: y\r\nReturn-Path: <a@b>\r\nSender: a@b\r\nX-Mozilla-Status: 1\r\nX: y\r\n", "X: y\r\n"},
		{"X-Odd:\x00\xff \r\n\t \r\nx:\r\nY:" + strings.Repeat("z", 100_000) + "\r\n", "X-Odd:\x00\xff \r\n\t \r\nx:\r\nY:" + strings.Repeat("z", 100_000) + "\r\n"},
	} {
		const front, body = "From: <me@asmtp>\r\nDate: d\r\nMESSAGE-ID: <i@x>\r\n", "\r\n\x00\r\n.\r\n\rlast"
		var out bytes.Buffer
		c := same()
		c.Address = change
		c.From.Name = ""
		if err := message.Rewrite(&out, strings.NewReader(front+test.in+body), c); err != nil {
			t.Errorf("%q: %v", test.in, err)
		} else if got, ok := strings.CutPrefix(out.String(), front); !ok || got != test.want+body {
			t.Errorf("%q became\n%q, want\n%q", test.in, got, test.want+body)
		}
	}
}

// From has the sender's address, once, and a name only if the sender wrote it for that.
func TestRewriteFrom(t *testing.T) {
	for in, want := range map[string]string{
		"From: My Name <me@asmtp>\r\n":                        "From: My Name <me@asmtp>\r\n",
		"From: =?utf-8?q?M=C3=A4?=\r\n <alias@asmtp>\r\n":     "From: =?utf-8?q?M=C3=A4?=\r\n <me@asmtp>\r\n",
		"From: me@asmtp\r\n":                                  "From: \"Me\" <me@asmtp>\r\n",
		"From: My Name <other@asmtp>\r\n":                     "From: \"Me\" <me@asmtp>\r\n",
		"From: A <me@asmtp>, B <b@asmtp>\r\n":                 "From: \"Me\" <me@asmtp>\r\n",
		"From: g: A <me@asmtp>;\r\n":                          "From: g: A <me@asmtp>;\r\n",
		"From:\r\nFROM : x\r\n":                               "From: \"Me\" <me@asmtp>\r\n",
		"From: broken <\r\nFrom: B <me@asmtp>\r\n":            "From: \"Me\" <me@asmtp>\r\n",
		"From me Mon Jan  1 10:00:00 2024\r\nFrom: <x@y>\r\n": "From: \"Me\" <me@asmtp>\r\n",
	} {
		c := same()
		c.Address = func(a message.Address) (message.Address, error) {
			if a.Addr == "alias@asmtp" {
				a.Addr = "me@asmtp"
			}
			return a, nil
		}
		var out bytes.Buffer
		err := message.Rewrite(&out, strings.NewReader(in+both+"\r\n"), c)
		if got := out.String(); err != nil || got != want+both+"\r\n" {
			t.Errorf("%q became %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestRewriteRefuses(t *testing.T) {
	many := "To: " + strings.Repeat("a@asmtp, ", 10_000) + "\r\n\r\nx"
	grow := same()
	grow.Address = func(a message.Address) (message.Address, error) { return message.Address{Addr: aliceID}, nil }
	for name, in := range map[string]string{
		"bare CR": "X: a\rBcc: b@asmtp\r\n\r\nx", "CR CR LF": "X: a\r\r\n\r\nx", "only CR": "To: b@asmtp\rBcc: c@asmtp\r\rx", "folded": " Bcc: x@asmtp\r\n\r\n",
		"no field": "X: y\r\nBcc\r\n\r\n", "8 bit name": "X: y\r\nBcc\xa0: z\r\n\r\n", "address": "To: a b\r\n\r\n", "huge": "X: " + strings.Repeat("y", 256<<10) + "\r\n\r\n",
		"huge in all": strings.Repeat("X: y\r\n", 50_000) + "\r\n", "grows": many,
	} {
		var out bytes.Buffer
		err := message.Rewrite(&out, strings.NewReader(in), grow)
		if _, ok := errors.AsType[*message.HeaderError](err); !ok || out.Len() > 0 || len(err.Error()) > 400 {
			t.Errorf("%s: error is %v, %d bytes were written", name, err, out.Len())
		}
	}
	var out bytes.Buffer
	if err := message.Rewrite(&out, strings.NewReader(many), same()); err != nil || !strings.Contains(out.String(), "\r\nTo: "+strings.Repeat("a@asmtp, ", 10_000)+"\r\n\r\nx") {
		t.Errorf("10,000 recipients: %v", err)
	}
	out.Reset()
	if err := message.Rewrite(&out, strings.NewReader("To: "+strings.Repeat("a@asmtp, ", 4_000)+"\r\n\r\nx"), grow); err != nil {
		t.Errorf("4,000 recipients: %v", err)
	}
	for line := range strings.SplitSeq(out.String(), "\r\n") {
		if len(line) > 998 {
			t.Fatalf("a line has %d bytes", len(line))
		}
	}
}

// A message that has no header gets one, and is the body as a whole.
func TestRewriteWithoutHeader(t *testing.T) {
	const front = "From: \"Me\" <me@asmtp>\r\nDate: Wed, 04 Mar 2026 05:06:07 +0000\r\nMessage-ID: <m@asmtp>\r\n"
	for in, want := range map[string]string{
		"": "\r\n", "text": "\r\ntext", "\r\ntext": "\r\ntext", "just text\r\n\r\nmore\r\n": "\r\njust text\r\n\r\nmore\r\n", "\x00\xff\n": "\r\n\x00\xff\n",
		"Subject: x": "Subject: x\r\n\r\n", "Subject: x\r": "Subject: x\r\n\r\n", "Date:\r\nMessage-ID: \r\n\r\n": "\r\n",
	} {
		var out bytes.Buffer
		if err := message.Rewrite(&out, strings.NewReader(in), same()); err != nil && in != "Subject: x\r" || err == nil && out.String() != front+want {
			t.Errorf("%q became %q, %v", in, fmt.Sprint(&out), err)
		}
	}
}
