package mailfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// MboxFile is an mbox to which messages are added. Nothing that is in it is changed.
type MboxFile struct {
	f    *os.File
	size int64 // up to which it is whole
	has  map[ID]bool
}

// OpenMboxFile opens an mbox and looks which messages this package wrote to it; a missing
// one is made.
func OpenMboxFile(path string) (*MboxFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	m := &MboxFile{f: f, has: map[ID]bool{}}
	if err := m.read(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// read collects what is there, and makes sure that an empty line ends it.
func (m *MboxFile) read() error {
	r := NewMboxReader(m.f)
	for {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if id := r.Meta().ID; !id.IsZero() {
			m.has[id] = true
		}
	}
	size, err := m.f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return err
	}
	m.size = size
	end := make([]byte, min(size, 4))
	if _, err := m.f.ReadAt(end, size-int64(len(end))); err != nil {
		return err
	}
	end = bytes.ReplaceAll(end, []byte("\r\n"), []byte("\n"))
	for missing := 2 - (len(end) - len(bytes.TrimRight(end, "\n"))); missing > 0; missing-- {
		if _, err := m.f.WriteString("\n"); err != nil {
			return err
		}
	}
	m.size, err = m.f.Seek(0, io.SeekEnd)
	return err
}

// Has reports whether a message is in the file.
func (m *MboxFile) Has(id ID) bool { return m.has[id] }

// Add writes a message behind the others. If that fails the file is as long as before.
func (m *MboxFile) Add(meta Meta, open Source) error {
	err := m.add(meta, open)
	if err == nil {
		m.has[meta.ID] = true
		m.size, err = m.f.Seek(0, io.SeekCurrent)
		return err
	}
	_, seek := m.f.Seek(m.size, io.SeekStart)
	return errors.Join(err, m.f.Truncate(m.size), seek)
}

func (m *MboxFile) add(meta Meta, open Source) error {
	r, err := open()
	if err != nil {
		return err
	}
	f, empty, err := formOf(r)
	r.Close()
	if err != nil {
		return err
	}
	if r, err = open(); err != nil {
		return err
	}
	defer r.Close()
	f.noEnd = f.noEnd && !empty
	out := bufio.NewWriterSize(m.f, lineBuffer)
	fmt.Fprintf(out, "From %s %s\n%s", mark(meta.ID, f), meta.Date.UTC().Format(time.ANSIC), stateOf(meta))
	if err := writeQuoted(out, r, f); err != nil {
		return err
	}
	out.WriteString("\n") // parts it from the next
	return out.Flush()
}

// stateOf returns the three fields that tell of flags and keywords.
func stateOf(meta Meta) string {
	status, other := "O", ""
	if meta.Flags&Seen != 0 {
		status = "RO"
	}
	for _, l := range ofStatus {
		if meta.Flags&l.flag != 0 {
			other += string(l.letter)
		}
	}
	return fmt.Sprintf("Status: %s\nX-Status: %s\nX-Keywords: %s\n", status, other, strings.Join(meta.Keywords, " "))
}

// writeQuoted writes a message in its form, each line ended, those that could be taken for a
// separator quoted.
func writeQuoted(out *bufio.Writer, r io.Reader, f form) error {
	l := newLines(r)
	for {
		p, err := l.next()
		if errors.Is(err, io.EOF) {
			if f.noEnd {
				out.WriteByte('\n')
			}
			return nil
		}
		if err != nil {
			return err
		}
		if p.first && mayBeQuoted(p.text, 0) {
			out.WriteByte('>')
		}
		out.Write(p.text) // Flush returns the error of any write
		switch {
		case p.end == endCRLF && f.exact:
			out.WriteString("\r\n")
		case p.end != endNone:
			out.WriteByte('\n')
		}
	}
}

// manyQuotes is how many ">" at the beginning of a line count as a line that is quoted,
// whatever follows: lines are read in pieces.
const manyQuotes = 1000

// mayBeQuoted reports whether a line begins with "From " behind any number of ">" (mboxrd).
// quotes is how many were added to it.
func mayBeQuoted(text []byte, quotes int) bool {
	n := 0
	for n < len(text) && n < manyQuotes+quotes && text[n] == '>' {
		n++
	}
	return n == manyQuotes+quotes || n >= quotes && bytes.HasPrefix(text[n:], fromSpace)
}

// unquoted takes away what writeQuoted added.
func unquoted(p piece) piece {
	if p.first && mayBeQuoted(p.text, 1) {
		p.text = p.text[1:]
	}
	return p
}

// Close makes what was added durable and closes the file.
func (m *MboxFile) Close() error { return errors.Join(m.f.Sync(), m.f.Close()) }
