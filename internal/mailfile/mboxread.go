package mailfile

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"time"
)

// ErrNoMbox is the error for a file that does not begin with a line "From ".
var ErrNoMbox = errors.New(`it is no mbox file: it does not begin with a line "From …"`)

// MboxReader reads the messages of an mbox, one after the other.
type MboxReader struct {
	lines *lines
	meta  Meta // of the message being read
	form  form
	ours  bool
	next  *separator // that was read and begins the next message
	began bool

	after  *piece // what was read behind an empty line, which may belong to a separator
	header headerState
	err    error // of reading
}

// separator is a line "From ".
type separator struct {
	sender string
	date   time.Time
}

// headerState is where in the header of a message the reader is.
type headerState struct {
	in      bool
	lines   int // whole ones so far
	dropped bool
}

// NewMboxReader returns a reader of mbox. Lines may end in LF or CRLF, lines "From " in a
// text may be quoted as in mboxrd, and a line "From " with a date begins a message also
// without an empty line before it.
func NewMboxReader(r io.Reader) *MboxReader { return &MboxReader{lines: newLines(r)} }

// Next goes on to the next message, and returns a reader of it that is valid until Next is
// called again. Its flags and keywords are in its header and complete once the header was
// read: call Meta at the end. Next returns io.EOF after the last message.
func (m *MboxReader) Next() (io.Reader, error) {
	for m.began && m.next == nil && m.err == nil {
		m.piece() // what was not read of the last message
	}
	if m.err != nil && m.next == nil {
		return nil, m.err
	}
	if !m.began {
		if err := m.first(); err != nil {
			return nil, err
		}
	}
	s := m.next
	m.next, m.meta = nil, Meta{Date: s.date}
	m.meta.ID, m.form, m.ours = parseMark(s.sender)
	m.header = headerState{in: true}
	return &messageReader{next: m.piece, f: m.form}, nil
}

// Meta returns what is known of the message besides its bytes.
func (m *MboxReader) Meta() Meta { return m.meta }

// first finds the first separator.
func (m *MboxReader) first() error {
	for {
		p, err := m.lines.next()
		if err != nil {
			return err // io.EOF: an empty file has no messages
		}
		if len(p.text) == 0 && p.end != endNone {
			continue
		}
		s := separatorOf(p)
		if s == nil {
			return ErrNoMbox
		}
		m.began, m.next = true, s
		return nil
	}
}

// piece returns the next piece of the message, without what the file adds to it.
func (m *MboxReader) piece() (piece, error) {
	for {
		p, err := m.raw()
		if err != nil {
			return p, err
		}
		if !m.header.in {
			return unquoted(p), nil
		}
		if !m.headerLine(p) {
			return unquoted(p), nil
		}
	}
}

// headerLine looks at a piece of the header and reports whether it is left out.
func (m *MboxReader) headerLine(p piece) (leftOut bool) {
	h := &m.header
	if p.first {
		h.dropped = h.dropped && len(p.text) > 0 && (p.text[0] == ' ' || p.text[0] == '\t') // a line that is continued
		if !h.dropped && (!m.ours || h.lines < 3) {
			h.dropped = m.state(p.text)
		}
	}
	if p.end != endNone {
		h.lines++
	}
	if m.ours {
		h.in = h.lines < 3
	} else if p.first && len(p.text) == 0 {
		h.in = false
	}
	return h.dropped
}

// state reads a field that tells of flags and keywords.
func (m *MboxReader) state(line []byte) bool {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return false
	}
	switch strings.ToLower(string(name)) {
	case "status":
		if bytes.ContainsRune(value, 'R') {
			m.meta.Flags |= Seen
		}
	case "x-status":
		for _, l := range ofStatus {
			if bytes.IndexByte(value, l.letter) >= 0 {
				m.meta.Flags |= l.flag
			}
		}
	case "x-keywords":
		for _, k := range strings.FieldsFunc(string(value), func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
			m.meta.Keywords = addKeyword(m.meta.Keywords, k)
		}
	default:
		return false
	}
	return true
}

// ofStatus are the flags by their letters in X-Status.
var ofStatus = []struct {
	letter byte
	flag   Flags
}{{'A', Answered}, {'F', Flagged}, {'T', Draft}, {'D', Deleted}}

// raw returns the next piece of the message as it is in the file, and io.EOF at its end.
func (m *MboxReader) raw() (piece, error) {
	if m.next != nil {
		return piece{}, io.EOF
	}
	if m.err != nil {
		return piece{}, m.err
	}
	if m.after != nil {
		p := *m.after
		m.after = nil
		return m.hold(p)
	}
	p, err := m.lines.next()
	if err != nil {
		return m.end(err)
	}
	return m.hold(p)
}

// hold returns p, or reads on if it is an empty line, which belongs to the separator if one
// follows.
func (m *MboxReader) hold(p piece) (piece, error) {
	if s := separatorOf(p); s != nil {
		m.next = s
		return piece{}, io.EOF
	}
	if !p.first || len(p.text) > 0 || p.end == endNone {
		return p, nil
	}
	follows, err := m.lines.next()
	if err != nil {
		return m.end(err)
	}
	if s := separatorOf(follows); s != nil {
		m.next = s
		return piece{}, io.EOF
	}
	m.after = &follows
	return p, nil
}

func (m *MboxReader) end(err error) (piece, error) {
	m.err = err
	return piece{}, err
}

// separatorOf reads a line "From SENDER DATE", nil if it is none.
func separatorOf(p piece) *separator {
	const maxSeparator = 1000
	if !p.first || p.end == endNone || len(p.text) > maxSeparator || !bytes.HasPrefix(p.text, fromSpace) {
		return nil
	}
	sender, date, ok := strings.Cut(string(p.text[len(fromSpace):]), " ")
	if !ok {
		return nil
	}
	date = strings.Join(strings.Fields(date), " ")
	for _, layout := range []string{"Mon Jan 2 15:04:05 2006", "Mon Jan 2 15:04:05 2006 -0700", "Mon Jan 2 15:04:05 MST 2006", "Mon Jan 2 15:04:05 -0700 2006", "Mon Jan 2 15:04 2006", "Mon, 2 Jan 2006 15:04:05 -0700"} {
		if t, err := time.Parse(layout, date); err == nil {
			return &separator{sender, t}
		}
	}
	return nil
}

var fromSpace = []byte("From ")
