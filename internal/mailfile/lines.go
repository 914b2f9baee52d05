package mailfile

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// lineBuffer is the longest piece of a line that is in memory.
const lineBuffer = 64 << 10

// ending is what ends a piece of a line.
type ending uint8

const (
	endNone ending = iota // the line goes on, or the file ends
	endLF
	endCRLF
)

// piece is a line, or a part of one that is too long for the buffer.
type piece struct {
	text  []byte // without its end; valid until the next piece is read
	end   ending
	first bool // the line begins here
}

// lines reads pieces of lines. A CR is never parted from the LF that follows it.
type lines struct {
	r      *bufio.Reader
	inside bool // the last piece did not end its line
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, lineBuffer)} }

// next returns the next piece; io.EOF after the last one.
func (l *lines) next() (piece, error) {
	b, err := l.r.ReadSlice('\n')
	p := piece{text: b, first: !l.inside}
	switch {
	case err == nil && bytes.HasSuffix(b, crlf):
		p.text, p.end = b[:len(b)-2], endCRLF
	case err == nil:
		p.text, p.end = b[:len(b)-1], endLF
	case errors.Is(err, bufio.ErrBufferFull):
		if b[len(b)-1] == '\r' {
			if err := l.r.UnreadByte(); err != nil {
				return p, err
			}
			p.text = b[:len(b)-1]
		}
	case errors.Is(err, io.EOF) && len(b) > 0:
	default:
		return p, err
	}
	l.inside = p.end == endNone
	return p, nil
}

// peek returns what follows, up to n bytes.
func (l *lines) peek(n int) []byte {
	b, _ := l.r.Peek(n) // what is there; an error comes again when it is read
	return b
}

var crlf = []byte("\r\n")

// formOf reads a message and says how it must be written so that it can be read back.
func formOf(r io.Reader) (f form, empty bool, err error) {
	l := newLines(r)
	empty = true
	var last byte // of the line so far
	for {
		p, err := l.next()
		if errors.Is(err, io.EOF) {
			return f, empty, nil
		}
		if err != nil {
			return f, empty, err
		}
		empty = false
		if p.first {
			last = 0
		}
		if n := len(p.text); n > 0 {
			last = p.text[n-1]
		}
		// A CR before the end would belong to the end afterwards.
		if p.end == endLF || last == '\r' && p.end == endCRLF {
			f.exact = true
		}
		f.noEnd = p.end == endNone
		if f.noEnd && last == '\r' && len(l.peek(1)) == 0 {
			f.exact = true
		}
	}
}

// messageReader returns the bytes of a message for those of a file.
type messageReader struct {
	next func() (piece, error)
	f    form
	buf  []byte // not read yet
	held []byte // the end of the last line, which noEnd takes away
	err  error
}

// Read implements io.Reader.
func (m *messageReader) Read(b []byte) (int, error) {
	for len(m.buf) == 0 {
		if m.err != nil {
			return 0, m.err
		}
		m.fill()
	}
	n := copy(b, m.buf)
	m.buf = m.buf[n:]
	return n, nil
}

func (m *messageReader) fill() {
	p, err := m.next()
	if err != nil {
		m.err = err
		if errors.Is(err, io.EOF) && !m.f.noEnd {
			m.buf, m.held = m.held, nil
		}
		return
	}
	end := "\r\n"
	if p.end == endNone {
		end = ""
	} else if m.f.exact && p.end == endLF {
		end = "\n"
	}
	b := make([]byte, 0, len(m.held)+len(p.text))
	b = append(b, m.held...)
	m.buf = append(b, p.text...)
	m.held = []byte(end)
	if m.f.noEnd && m.f.exact && p.end == endCRLF {
		// Only the LF was added; the CR is the message's.
		m.buf, m.held = append(m.buf, '\r'), []byte("\n")
	}
}

// writeUnix writes a message with LF for CRLF.
func writeUnix(w io.Writer, r io.Reader) error {
	out := bufio.NewWriterSize(w, lineBuffer)
	l := newLines(r)
	for {
		p, err := l.next()
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		if err != nil {
			return err
		}
		out.Write(p.text) // Flush returns the error of any write
		if p.end != endNone {
			out.WriteByte('\n')
		}
	}
}
