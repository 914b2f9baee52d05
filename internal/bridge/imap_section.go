package bridge

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strconv"

	"github.com/emersion/go-imap/v2"
)

// errUnknownCTE is the end of a FETCH BINARY that cannot be decoded (RFC 9051, 6.4.5).
var errUnknownCTE = no(imap.ResponseCodeUnknownCTE, "the part has an encoding that is not known")

// byteRange is a piece of a message.
type byteRange struct{ from, to int64 }

// locate returns the piece of a message that a section means; false if it has no such
// section. HEADER.FIELDS is found in what is returned for HEADER.
func locate(root *part, it *fetchItem) (byteRange, bool) {
	p := root.find(it.path)
	if p == nil {
		return byteRange{}, false
	}
	if len(it.path) > 0 && (it.specifier == imap.PartSpecifierHeader || it.specifier == imap.PartSpecifierText) {
		if !p.nested() || len(p.children) == 0 {
			return byteRange{}, false // RFC 9051: these are of messages
		}
		p = p.children[0]
	}
	switch {
	case it.specifier == imap.PartSpecifierHeader, it.specifier == imap.PartSpecifierMIME:
		return byteRange{p.start, p.body}, true
	case len(it.path) == 0 && it.specifier == imap.PartSpecifierNone:
		return byteRange{p.start, p.end}, true
	}
	return byteRange{p.body, p.end}, true
}

// clip applies <offset.count>.
func (it *fetchItem) clip(b byteRange) byteRange {
	from := min(b.from+it.offset, b.to)
	if it.count >= 0 {
		b.to = min(b.to, from+it.count)
	}
	return byteRange{from, b.to}
}

// section writes the value of BODY[…] or BINARY[…]: bytes as they are, or NIL.
func (r *fetchRun) section(m *message, it *fetchItem) error {
	if it.kind != fetchSection {
		return r.binary(m, it)
	}
	if it.header() {
		return r.headerOf(m.header, it)
	}
	if it.whole() {
		return r.piece(m, it.clip(byteRange{0, m.length()}))
	}
	tree, err := r.treeOf(m)
	if err != nil {
		return err
	}
	where, ok := locate(tree, it)
	if !ok {
		r.out = append(r.out, "NIL"...)
		return nil
	}
	if it.fields != nil {
		header, err := m.bytes(byteRange{where.from, min(where.to, where.from+maxTreeHeader)})
		if err != nil {
			return err
		}
		return r.headerOf(header, it)
	}
	return r.piece(m, it.clip(where))
}

// headerOf writes a header, or some of its fields and its blank line.
func (r *fetchRun) headerOf(header []byte, it *fetchItem) error {
	if it.fields != nil {
		header = selectFields(header, it.fields, it.not)
	}
	b := it.clip(byteRange{0, int64(len(header))})
	r.literal(b.to - b.from)
	r.out = append(r.out, header[b.from:b.to]...)
	return nil
}

func (r *fetchRun) literal(n int64) {
	r.out = append(r.out, '{')
	r.out = strconv.AppendInt(r.out, n, 10)
	r.out = append(r.out, "}\r\n"...)
}

// length is how many bytes the message has.
func (m *message) length() int64 {
	if m.stream != nil {
		return m.stream.Size()
	}
	return int64(len(m.whole))
}

// bytes returns a piece of a message; it must be short.
func (m *message) bytes(b byteRange) ([]byte, error) {
	if m.stream == nil {
		return m.whole[b.from:b.to], nil
	}
	if err := m.stream.SkipTo(b.from); err != nil {
		return nil, err
	}
	out := make([]byte, b.to-b.from)
	_, err := io.ReadFull(m.stream, out)
	return out, err
}

// reader returns a reader of a piece of a message.
func (m *message) reader(b byteRange) (io.Reader, error) {
	if m.stream == nil {
		return bytes.NewReader(m.whole[b.from:b.to]), nil
	}
	if err := m.stream.SkipTo(b.from); err != nil {
		return nil, err
	}
	return io.LimitReader(m.stream, b.to-b.from), nil
}

// piece writes a piece of a message as a literal; a large one is streamed.
func (r *fetchRun) piece(m *message, b byteRange) error {
	if m.stream == nil {
		r.literal(b.to - b.from)
		r.out = append(r.out, m.whole[b.from:b.to]...)
		return nil
	}
	in, err := m.reader(b)
	if err != nil {
		return err
	}
	return r.copy(in, b.to-b.from, "")
}

// copy streams a literal. When it cannot be completed the connection ends: the program
// would take what comes next for its rest.
func (r *fetchRun) copy(in io.Reader, n int64, prefix string) error {
	r.out = append(r.out, prefix...)
	r.literal(n)
	if err := r.write(); err != nil {
		return err
	}
	buf := r.out[:cap(r.out)]
	if len(buf) > 64<<10 {
		buf = buf[:64<<10]
	}
	for n > 0 {
		k, err := io.ReadFull(in, buf[:min(n, int64(len(buf)))])
		if _, werr := r.s.conn.Write(buf[:k]); werr != nil {
			return werr
		}
		if n -= int64(k); err != nil {
			r.s.conn.Conn.Close()
			return fmt.Errorf("read a message: %w", err)
		}
	}
	return nil
}

// binary writes BINARY and BINARY.SIZE: a part without its transfer encoding.
func (r *fetchRun) binary(m *message, it *fetchItem) error {
	tree, err := r.treeOf(m)
	if err != nil {
		return err
	}
	where, ok := locate(tree, it)
	if !ok {
		r.out = append(r.out, [...]string{"NIL", "0"}[b2i(it.kind == fetchBinarySize)]...)
		return nil
	}
	encoding := ""
	if p := tree.find(it.path); len(it.path) > 0 && p.leaf() && !p.nested() {
		encoding = p.head.encoding
	}
	decode, ok := decoders[encoding]
	if !ok {
		r.err = errUnknownCTE
		r.out = append(r.out, [...]string{"NIL", "0"}[b2i(it.kind == fetchBinarySize)]...)
		return nil
	}
	// Twice, since the length comes first.
	in, err := m.reader(where)
	if err != nil {
		return err
	}
	size, err := decodedLength(decode(in))
	if err != nil {
		return err
	}
	if it.kind == fetchBinarySize {
		r.out = strconv.AppendInt(r.out, size, 10)
		return nil
	}
	if in, err = m.reader(where); err != nil {
		return err
	}
	b := it.clip(byteRange{0, size})
	in = decode(in)
	if _, err := io.CopyN(io.Discard, in, b.from); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if m.stream != nil {
		return r.copy(in, b.to-b.from, "~")
	}
	r.out = append(r.out, '~')
	r.literal(b.to - b.from)
	from := len(r.out)
	r.out = append(r.out, make([]byte, b.to-b.from)...)
	_, err = io.ReadFull(in, r.out[from:])
	return err
}

var decoders = map[string]func(io.Reader) io.Reader{
	"": plainly, "7bit": plainly, "8bit": plainly, "binary": plainly,
	"base64": func(in io.Reader) io.Reader {
		return untilBroken{base64.NewDecoder(base64.StdEncoding, base64Only{in})}
	},
	"quoted-printable": func(in io.Reader) io.Reader { return untilBroken{quotedprintable.NewReader(in)} },
}

func plainly(in io.Reader) io.Reader { return in }

func decodedLength(in io.Reader) (int64, error) { return io.Copy(io.Discard, in) }

// base64Only leaves out what is not of the alphabet, as RFC 2045 has it.
type base64Only struct{ in io.Reader }

func (b base64Only) Read(p []byte) (int, error) {
	for {
		n, err := b.in.Read(p)
		kept := 0
		for _, ch := range p[:n] {
			if ch >= 'A' && ch <= 'Z' || ch >= 'a' && ch <= 'z' || ch >= '0' && ch <= '9' || ch == '+' || ch == '/' || ch == '=' {
				p[kept] = ch
				kept++
			}
		}
		if kept > 0 || err != nil {
			return kept, err
		}
	}
}

// untilBroken ends where the decoder finds an error: what came before it is shown.
type untilBroken struct{ in io.Reader }

func (u untilBroken) Read(p []byte) (int, error) {
	n, err := u.in.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// treeOf returns the parts of a message. Those of large ones are kept for a while.
func (r *fetchRun) treeOf(m *message) (*part, error) {
	var err error
	switch {
	case m.tree != nil:
	case m.stream == nil:
		m.tree, err = readTree(m.header, bytes.NewReader(m.whole[len(m.header):]))
	default:
		key := treeKey{r.v.id, m.uid}
		if m.tree = r.s.acc.trees.get(key); m.tree != nil {
			return m.tree, nil
		}
		if err = m.stream.SkipTo(int64(len(m.header))); err == nil {
			m.tree, err = readTree(m.header, m.stream)
		}
		if err == nil {
			r.s.acc.trees.put(key, m.tree)
		}
	}
	return m.tree, err
}
