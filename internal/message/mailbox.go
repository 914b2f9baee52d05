package message

import (
	"bytes"
	"mime"
	"strings"
	"unicode/utf8"

	gomessage "github.com/emersion/go-message"
)

// mailbox is one of an address field, found where it stands, so that it can be replaced
// without touching what is around it.
type mailbox struct {
	start, end int // in the value: from its first to its last character
	Address
	ok bool // false: it cannot be read as an address

	addr, addrEnd int  // of the address alone, in its angle brackets if it has any
	comments      bool // there are some in it
}

// mailboxScanner finds the mailboxes of the value of an address field (RFC 5322 sections
// 3.4 and 4.4, RFC 6532). It takes more than the grammar has: names with dots, 8-bit bytes
// or an @, empty elements, semicolons between addresses, a local part without a domain.
type mailboxScanner struct {
	v        []byte
	i        int
	group    bool
	unclosed bool // no ] comes any more
}

// word is an atom or a quoted string.
type word struct{ start, end int }

// next returns the next mailbox, false if there is none.
func (s *mailboxScanner) next() (m mailbox, ok bool) {
	var words [8]word
	e := element{v: s.v, words: words[:0], angle: -1}
	for s.i < len(s.v) {
		switch c := s.v[s.i]; c {
		case ',', ';':
			s.i++
			if c == ';' {
				s.group = false
			}
			if m, ok = e.mailbox(); ok {
				return m, true
			}
			e.reset()
		case ':':
			if !s.group && e.angle < 0 && !e.at { // what was read is the name of a group
				s.group = true
				s.i++
				e.reset()
				continue
			}
			e.broken = true
			e.add(s.i, s.i+1)
			s.i++
		case ' ', '\t', '\r', '\n':
			s.i++
		case '(':
			n, closed := commentLength(s.v[s.i:])
			e.comment(s.i, s.i+n)
			e.broken = e.broken || !closed
			s.i += n
		case '<':
			n, closed := angleLength(s.v[s.i:])
			e.broken = e.broken || !closed || e.angle >= 0
			e.angle, e.angleEnd = s.i, s.i+n
			e.span(s.i, s.i+n)
			s.i += n
		default:
			n, closed := s.wordLength()
			e.broken = e.broken || !closed || e.angle >= 0
			e.at = e.at || s.v[s.i] != '"' && bytes.IndexByte(s.v[s.i:s.i+n], '@') >= 0
			e.add(s.i, s.i+n)
			s.i += n
		}
	}
	return e.mailbox()
}

// element is what stands between two commas.
type element struct {
	v               []byte
	words           []word
	start, end      int
	any, at         bool
	angle, angleEnd int
	note, noteEnd   int // the last comment
	broken          bool
}

func (e *element) reset() { *e = element{v: e.v, words: e.words[:0], angle: -1} }

func (e *element) span(start, end int) {
	if !e.any {
		e.any, e.start = true, start
	}
	e.end = end
}

func (e *element) add(start, end int) {
	e.span(start, end)
	e.words = append(e.words, word{start, end})
}

// comment notes a comment. Before the first word it is in nobody's mailbox yet.
func (e *element) comment(start, end int) {
	e.span(start, end)
	e.note, e.noteEnd = start, end
}

// mailbox returns what the element is; false if there is nothing in it but comments.
func (e *element) mailbox() (m mailbox, ok bool) {
	if !e.any || len(e.words) == 0 && e.angle < 0 && !e.broken {
		return m, false
	}
	m = mailbox{start: e.start, end: e.end, comments: e.noteEnd > 0}
	m.addr, m.addrEnd = e.angle, e.angleEnd
	spec := e.v[e.start:e.end]
	switch {
	case e.broken:
		return m, true
	case e.angle >= 0:
		m.Name = e.phrase()
		spec = e.v[e.angle+1 : e.angleEnd-1]
	default:
		m.addr, m.addrEnd = e.start, e.end
	}
	if m.Addr, m.ok = addrSpec(spec); !m.ok {
		return m, true
	}
	if m.Name == "" && m.comments {
		m.Name = decodeName(string(unquote(e.v[e.note+1 : e.noteEnd-1])))
	}
	return m, true
}

// phrase returns the display name.
func (e *element) phrase() string {
	var out []byte
	for i, w := range e.words {
		if i > 0 && w.start > e.words[i-1].end {
			out = append(out, ' ')
		}
		if b := e.v[w.start:w.end]; b[0] == '"' {
			out = append(out, unquote(b[1:len(b)-1])...)
		} else {
			out = append(out, b...)
		}
	}
	return decodeName(string(out))
}

// decodeName decodes the encoded words of a name, also inside quotes, where many write them.
func decodeName(name string) string {
	if strings.Contains(name, "=?") {
		if d, err := (&mime.WordDecoder{CharsetReader: gomessage.CharsetReader}).DecodeHeader(name); err == nil {
			name = d
		}
	}
	return strings.TrimSpace(name)
}

// unquote takes line ends and backslashes out of what stood in quotes.
func unquote(b []byte) []byte {
	if !bytes.ContainsAny(b, "\\\r\n") {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '\r' || b[i] == '\n':
			continue
		case b[i] == '\\' && i+1 < len(b):
			i++
		}
		out = append(out, b[i])
	}
	return out
}

// commentLength returns the length of the comment at the beginning of b.
func commentLength(b []byte) (n int, closed bool) {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1, true
			}
		}
	}
	return len(b), false
}

// angleLength returns the length of what stands in angle brackets at the beginning of b.
func angleLength(b []byte) (n int, closed bool) {
	for i := 1; i < len(b); {
		switch b[i] {
		case '>':
			return i + 1, true
		case '"':
			n, closed := quotedLength(b[i:])
			if !closed {
				return len(b), false
			}
			i += n
		case '(':
			n, _ := commentLength(b[i:])
			i += n
		default:
			i++
		}
	}
	return len(b), false
}

func quotedLength(b []byte) (n int, closed bool) {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1, true
		}
	}
	return len(b), false
}

// wordLength returns the length of the quoted string, domain literal or atom that comes
// next. Dots and @ are part of atoms here.
func (s *mailboxScanner) wordLength() (n int, closed bool) {
	b := s.v[s.i:]
	switch {
	case b[0] == '"':
		return quotedLength(b)
	case b[0] == '[' && !s.unclosed:
		if i := bytes.IndexByte(b, ']'); i > 0 {
			return i + 1, true
		}
		s.unclosed = true
	}
	if i := bytes.IndexAny(b[1:], " \t\r\n,;:<\"(["); i >= 0 {
		return i + 1, true
	}
	return len(b), true
}

// addrSpec reads local@domain, or a local part alone. Quotes, comments, blanks around
// dots and an old route (<@a,@b:c@d>) do not come back.
func addrSpec(b []byte) (string, bool) {
	if plainSpec(b) {
		return string(b), true
	}
	var out []byte
	at, wordBefore, dotBefore := -1, false, false
	for i := 0; i < len(b); {
		switch c := b[i]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			i++
		case c == '(':
			n, closed := commentLength(b[i:])
			if !closed {
				return "", false
			}
			i += n
		case c == '@' && len(out) == 0: // a route
			n := bytes.IndexByte(b[i:], ':')
			if n < 0 {
				return "", false
			}
			i += n + 1
		case c == '@':
			if at >= 0 || !wordBefore && !dotBefore {
				return "", false
			}
			at, wordBefore, dotBefore = len(out), false, false
			out = append(out, c)
			i++
		case c == '.':
			if len(out) == 0 || at == len(out)-1 {
				return "", false
			}
			wordBefore, dotBefore = false, true
			out = append(out, c)
			i++
		default:
			n := specWord(b[i:])
			if n == 0 || wordBefore || c == '"' && at >= 0 {
				return "", false
			}
			w := b[i : i+n]
			if c == '"' {
				w = unquote(w[1 : n-1])
			}
			if len(w) == 0 || bytes.ContainsFunc(w, control) || !utf8.Valid(w) {
				return "", false
			}
			out = append(out, w...)
			wordBefore, dotBefore = true, false
			i += n
		}
	}
	return string(out), len(out) > 0 && at != len(out)-1
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// specWord returns the length of the word at the beginning of b, 0 for none.
func specWord(b []byte) int {
	switch b[0] {
	case '"':
		if n, closed := quotedLength(b); closed {
			return n
		}
		return 0
	case '[':
		return bytes.IndexByte(b, ']') + 1
	}
	n := 0
	for n < len(b) && (b[n] >= 0x80 || atext[b[n]]) {
		n++
	}
	return n
}

// plainSpec reports whether b is an address that reads as itself: the common ones.
func plainSpec(b []byte) bool {
	at := -1
	for i, c := range b {
		switch {
		case c == '@' && at < 0 && i > 0:
			at = i
		case c == '.' && i > 0 && b[i-1] != '.' && b[i-1] != '@' && i+1 < len(b) && b[i+1] != '@':
		case c >= 0x80 || !atext[c]:
			return false
		}
	}
	return len(b) > 0 && at < len(b)-1
}

// atext are the characters of atoms (RFC 5322 section 3.2.3).
var atext = func() (t [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~") {
		t[c] = true
	}
	return t
}()
