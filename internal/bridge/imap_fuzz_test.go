package bridge

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
)

var fuzzMessages = []string{
	"",
	"\r\n",
	"Subject: x\r\n\r\nbody\r\n",
	"Content-Type: multipart/mixed; boundary=b\r\n\r\npre\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\n\r\ntwo\r\n--b--\r\npost",
	"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nContent-Type: multipart/digest; boundary=c\n\n--c\n\nSubject: d\n\nx\n--b--\n",
	"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nA: b\r\n--b\r\n--b--",
	"Content-Type: multipart/mixed\r\n\r\n--\r\n----\r\n",
	"Content-Type: message/rfc822\r\n\r\n",
	"a\x00b: c\r\r\n\n--x" + strings.Repeat("y", 20000),
}

// The parts of a message lie in each other and after each other, however its bytes come.
func FuzzTree(f *testing.F) {
	for _, m := range fuzzMessages {
		f.Add([]byte(m))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		header := msg[:headerLength(msg)]
		root, err := readTree(header, bytes.NewReader(msg[len(header):]))
		if err != nil {
			t.Fatal(err)
		}
		if root.start != 0 || root.end != int64(len(msg)) {
			t.Errorf("the message is %d to %d of %d", root.start, root.end, len(msg))
		}
		checkTree(t, root, msg)
		other, err := readTree(header, iotest.OneByteReader(bytes.NewReader(msg[len(header):])))
		if err != nil {
			t.Fatal(err)
		}
		a, b := appendStructure(nil, root, true, false), appendStructure(nil, other, true, false)
		if !bytes.Equal(a, b) {
			t.Errorf("%q\nbyte by byte %q", a, b)
		}
		checkResponse(t, a)
	})
}

func checkTree(t *testing.T, p *part, msg []byte) {
	if p.start > p.body || p.body > p.end || p.end > int64(len(msg)) {
		t.Fatalf("part %d %d %d of %d", p.start, p.body, p.end, len(msg))
	}
	at := p.body
	for _, child := range p.children {
		if child.start < at || child.end > p.end {
			t.Fatalf("part %d to %d, with one of %d to %d in it", p.body, p.end, child.start, child.end)
		}
		at = child.end
		checkTree(t, child, msg)
	}
	if n := int64(bytes.Count(msg[p.body:p.end], []byte("\n"))); p.leaf() && p.lines != n {
		t.Fatalf("%d lines in %q", p.lines, msg[p.body:p.end])
	}
}

// checkResponse looks for what would break a response: unbalanced parentheses, and line
// ends or NUL outside of literals.
func checkResponse(t *testing.T, out []byte) {
	t.Helper()
	depth := 0
	for i := 0; i < len(out); i++ {
		switch out[i] {
		case '(':
			depth++
		case ')':
			depth--
		case '\r', '\n', 0:
			t.Fatalf("byte %d in %q", out[i], out)
		case '"':
			for i++; out[i] != '"'; i++ {
				if out[i] == '\\' {
					i++
				}
				if out[i] < ' ' && out[i] != '\t' && (out[i] == 0 || out[i] == '\r' || out[i] == '\n') {
					t.Fatalf("byte %d in %q", out[i], out)
				}
			}
		case '{':
			var n int
			if _, err := fmt.Sscanf(string(out[i:]), "{%d}\r\n", &n); err != nil {
				t.Fatalf("literal: %v in %q", err, out[i:])
			}
			i += bytes.IndexByte(out[i:], '\n') + n
		}
		if depth < 0 {
			t.Fatalf("parentheses in %q", out)
		}
	}
	if depth != 0 {
		t.Fatalf("parentheses in %q", out)
	}
}

// HEADER.FIELDS and HEADER.FIELDS.NOT of the same names share the bytes of the header
// among them, and both end with its blank line.
func FuzzFields(f *testing.F) {
	f.Add([]byte("A: b\r\nSubject: x\r\n y\r\nnonsense\r\n\r\n"), "subject")
	f.Add([]byte("subject : x\n\n"), "subject")
	f.Add([]byte(": x"), "")
	f.Fuzz(func(t *testing.T, header []byte, name string) {
		some := selectFields(header, []string{strings.ToLower(name)}, false)
		rest := selectFields(header, []string{strings.ToLower(name)}, true)
		used, blank := 0, eachField(header, func(field) bool { return true })
		eachField(header, func(f field) bool { used += len(f.raw); f.value(); return true })
		if len(some)+len(rest) != used+2*len(blank) {
			t.Errorf("%q and %q of %q", some, rest, header)
		}
	})
}

// No address list makes a response that a program could not read.
func FuzzEnvelope(f *testing.F) {
	f.Add("a@b, \"C, D\" <c@d> (comment), group: x@y;, <@r:e@f>, undisclosed:;")
	f.Add("=?utf-8?q?x?= <x@y>\x00\\ \"")
	f.Fuzz(func(t *testing.T, text string) {
		for _, raw := range []bool{false, true} {
			checkResponse(t, appendEnvelope(nil, []byte("From: "+text+"\r\nSubject: "+text+"\r\n\r\n"), raw))
			checkResponse(t, appendAddresses(nil, parseAddresses(strings.NewReplacer("\r", "", "\n", "").Replace(text)), raw))
		}
	})
}

// headerLength is how long a header is, with its blank line.
func headerLength(msg []byte) int {
	for at := 0; at < len(msg); {
		n := lineLength(msg[at:])
		at += n
		if len(bytes.TrimRight(msg[at-n:at], "\r\n")) == 0 {
			return at
		}
	}
	return len(msg)
}
