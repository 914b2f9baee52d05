package bridge

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
)

// Limits of what is understood of a message. Beyond them it is read all the same, but
// what is deeper or later is a part of what is around it.
const (
	maxPartDepth  = 100
	maxParts      = 10000
	maxPartHeader = 64 << 10  // bytes of a part's header that are looked at
	maxTreeHeader = 512 << 10 // of all parts' headers together
	maxBoundary   = 200       // RFC 2046 says 70
)

// part is a message or a part of one: where its bytes are, and what its header says of
// their type. Offsets count from the beginning of the whole message.
type part struct {
	start, body, end int64 // the header is [start, body), the body [body, end)
	lines            int64 // of the body
	head             partHeader
	header           []byte // of messages only: the header, for the envelope
	boundary         string
	children         []*part // of a multipart: its parts; of message/rfc822: the message
	closed           bool    // a multipart's last boundary was read
	message          bool    // this is a whole message: the root or what is in message/rfc822
}

// partHeader is what BODYSTRUCTURE shows of a header. Values are as they stand there,
// unfolded.
type partHeader struct {
	kind, subtype         string // in lower case
	params                []param
	id, description       string
	encoding              string
	disposition, location string
	dispParams            []param
	languages             []string
}

type param struct{ key, value string }

func (p *part) multipart() bool { return p.head.kind == "multipart" && p.boundary != "" }

func (p *part) nested() bool {
	return p.head.kind == "message" && (p.head.subtype == "rfc822" || p.head.subtype == "global")
}

// treeReader reads a message once, line by line, and finds its parts. It holds the headers
// of parts up to a limit, one piece of a line, and nothing of bodies.
type treeReader struct {
	in      *bufio.Reader
	at      int64 // where the next line begins
	eol     int64 // bytes of the last line's end
	stack   []*part
	header  []byte // of the part whose header is being read
	inHead  bool
	count   int
	headers int // bytes of headers that are kept
}

var treePool = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 16<<10) }}

// readTree reads a message of which header is the header with its blank line, if it has
// them, and body what follows, to its end.
func readTree(header []byte, body io.Reader) (*part, error) {
	in := treePool.Get().(*bufio.Reader)
	in.Reset(body)
	defer func() {
		in.Reset(nil)
		treePool.Put(in)
	}()
	t := &treeReader{in: in, at: int64(len(header))}
	root := &part{message: true, body: -1}
	t.push(root)
	root.start = 0
	t.header = header
	t.endHeader(t.at)
	t.header = nil // the caller's
	for {
		err := t.line()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	for t.inHead { // twice for a message/rfc822 without a message
		t.endHeader(t.at)
	}
	t.pop(0, t.at, false)
	return root, nil
}

func (t *treeReader) top() *part { return t.stack[len(t.stack)-1] }

// push begins a part with its header.
func (t *treeReader) push(p *part) {
	p.start = t.at
	t.stack = append(t.stack, p)
	t.header, t.inHead = t.header[:0], true
	t.count++
}

// pop ends all parts above that depth; cut says that the last line end is none of theirs.
func (t *treeReader) pop(depth int, end int64, cut bool) {
	for _, p := range t.stack[depth:] {
		if p.body < 0 {
			p.body = end
		}
		if p.end = max(end, p.body); cut && p.lines > 0 {
			p.lines--
		}
	}
	t.stack = t.stack[:depth]
}

// line reads a line of any length.
func (t *treeReader) line() error {
	b, err := t.in.ReadSlice('\n')
	if len(b) == 0 && err != nil {
		return err
	}
	start, whole := t.at, err == nil || errors.Is(err, io.EOF)
	if whole && len(b) >= 2 && b[0] == '-' && b[1] == '-' && t.delimiter(b, start) {
		return nil
	}
	blank := whole && len(bytes.TrimRight(b, "\r\n")) == 0 && err == nil
	for {
		if t.inHead && len(t.header) < maxPartHeader {
			t.header = append(t.header, b[:min(len(b), maxPartHeader-len(t.header))]...)
		}
		t.at += int64(len(b))
		t.eol = endLength(b)
		if !errors.Is(err, bufio.ErrBufferFull) {
			break
		}
		b, err = t.in.ReadSlice('\n')
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	t.countLine()
	if t.inHead && blank {
		t.endHeader(t.at)
	}
	return nil
}

// countLine counts a line for all parts whose body it is in.
func (t *treeReader) countLine() {
	in := t.stack
	if t.inHead {
		in = in[:len(in)-1]
	}
	if t.eol > 0 {
		for _, p := range in {
			p.lines++
		}
	}
}

func endLength(b []byte) int64 {
	switch {
	case bytes.HasSuffix(b, []byte("\r\n")):
		return 2
	case bytes.HasSuffix(b, []byte("\n")):
		return 1
	}
	return 0
}

// delimiter takes a line that may separate parts: the innermost multipart whose boundary
// it is ends its last part there, with the line end before it (RFC 2046, 5.1.1).
func (t *treeReader) delimiter(b []byte, start int64) bool {
	text := bytes.TrimRight(b[2:], " \t\r\n")
	for depth := len(t.stack) - 1; depth >= 0; depth-- {
		p := t.stack[depth]
		if !p.multipart() || p.closed || p.body < 0 || !bytes.HasPrefix(text, []byte(p.boundary)) {
			continue
		}
		rest := string(text[len(p.boundary):])
		if rest != "" && rest != "--" {
			continue
		}
		end := start
		if depth < len(t.stack)-1 {
			// The line end before it is the boundary's, unless it ends the header.
			end = max(start-t.eol, t.top().start, t.top().body)
			for t.inHead {
				t.endHeader(end)
			}
		}
		t.pop(depth+1, end, end < start)
		t.inHead = false
		t.at += int64(len(b))
		t.eol = endLength(b)
		t.countLine()
		if rest == "--" || t.count >= maxParts {
			p.closed = true
			return true
		}
		child := &part{body: -1}
		p.children = append(p.children, child)
		if p.head.subtype == "digest" {
			child.head.kind, child.head.subtype = "message", "rfc822"
		}
		t.push(child)
		return true
	}
	return false
}

// endHeader ends the header of the part on top: its body begins at that offset.
func (t *treeReader) endHeader(at int64) {
	p := t.top()
	t.inHead, p.body = false, at
	if t.headers += len(t.header); t.headers > maxTreeHeader && len(t.stack) > 1 {
		t.header = nil // many headers of parts, all of which are looked at no more
	}
	parsePartHeader(&p.head, t.header)
	if p.message {
		p.header = bytes.Clone(t.header)
	}
	switch {
	case len(t.stack) >= maxPartDepth:
		p.opaque()
	case p.head.kind == "multipart":
		for _, v := range p.head.params {
			if v.key == "boundary" && len(v.value) <= maxBoundary {
				p.boundary = strings.TrimRight(v.value, " \t")
			}
		}
		if p.boundary == "" {
			p.opaque()
		}
	case p.nested() && t.count < maxParts:
		child := &part{message: true, body: -1}
		p.children = append(p.children, child)
		t.push(child)
		child.start = at
	}
}

// opaque makes a part one whose contents are not looked at.
func (p *part) opaque() {
	if p.head.kind == "multipart" || p.nested() {
		p.head.kind, p.head.subtype = "application", "octet-stream"
	}
}

// leaf reports whether BODYSTRUCTURE shows the part as one without parts.
func (p *part) leaf() bool { return !p.multipart() || len(p.children) == 0 }

// find returns the part of a path (RFC 9051, 6.4.5.1); nil if there is none.
func (p *part) find(path []int) *part {
	for i, n := range path {
		if i > 0 && p.nested() && len(p.children) == 1 {
			p = p.children[0]
		} else if i > 0 && !p.multipart() {
			return nil
		}
		switch {
		case !p.leaf():
			if n < 1 || n > len(p.children) {
				return nil
			}
			p = p.children[n-1]
		case n != 1 || !p.message:
			return nil
		default:
			// the only part of a message that is no multipart is its body, with its header
		}
	}
	return p
}
