package message

import (
	"bytes"
	"errors"
	"io"
	"mime"
	netmail "net/mail"
	"strings"
	"time"

	gomessage "github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // the charsets of the web, converted on reading
)

// View is a message for people and programs that list mail. All texts are cleaned.
type View struct {
	From        Address
	To, Cc      []Address
	Subject     string
	Date        time.Time // zero if the header names none that can be read
	MessageID   string
	InReplyTo   string
	References  []string
	Text        string
	Attachments []Info
}

// Info describes an attachment.
type Info struct {
	Name string // safe as a file name
	Type string
	Size int64
}

// Parse reads a message. It always gives a view: what cannot be understood is shown
// as it stands or left out, and only an error of r itself is returned. No bytes at
// all are an empty message.
func Parse(r io.Reader) (*View, error) {
	v := new(View)
	src := &source{r: r}
	var html string
	err := walk(src, func(p part) error {
		if p.depth == 0 {
			v.header(p.header)
		}
		switch {
		case p.body == nil:
		case p.attachment():
			v.attach(p)
		case p.mediaType == "text/html":
			if html == "" {
				html = read(p.body, maxHTML)
			}
		case len(v.Text) < maxText:
			if v.Text != "" {
				v.Text += "\n"
			}
			v.Text += Clean(read(p.body, maxText-len(v.Text)))
		}
		return nil
	})
	if v.Text == "" && html != "" {
		v.Text = Clean(textOfHTML(html, maxText))
	}
	if src.err != nil {
		return v, src.err
	}
	return v, err
}

// header reads the fields that are shown; of those that stand there more than once the first
// one, as programs do.
func (v *View) header(header []byte) {
	var sent, subject, id, reply, refs bool
	for f, rest := nextField(header); f != nil; f, rest = nextField(rest) {
		switch kindOf(f) {
		case from:
			if list := f.addresses(nil); v.From == (Address{}) && len(list) > 0 {
				v.From = list[0]
			}
		case dateField:
			if d, err := netmail.ParseDate(f.text()); !sent && err == nil {
				v.Date, sent = d, true
			}
		case messageID:
			if ids := readIDs(f.text()); !id && len(ids) > 0 {
				v.MessageID, id = ids[0], true
			}
		case to:
			v.To = f.addresses(v.To)
		case cc:
			v.Cc = f.addresses(v.Cc)
		case other:
			switch name := fieldName(f); {
			case !subject && bytes.EqualFold(name, []byte("subject")):
				v.Subject, subject = shorten(CleanLine(decodeName(f.text())), maxField), true
			case !reply && bytes.EqualFold(name, []byte("in-reply-to")):
				if ids := readIDs(f.text()); len(ids) > 0 {
					v.InReplyTo, reply = ids[0], true
				}
			case !refs && bytes.EqualFold(name, []byte("references")):
				v.References, refs = readIDs(f.text()), true
			}
		}
	}
}

func (v *View) attach(p part) {
	if len(v.Attachments) >= maxAttachments {
		return
	}
	size, _ := io.Copy(io.Discard, lenient{p.body})
	v.Attachments = append(v.Attachments, Info{Name: p.name(), Type: shorten(CleanLine(p.mediaType), 100), Size: size})
}

// part is a leaf of a message's tree.
type part struct {
	entity    *gomessage.Entity
	header    []byte    // of the message itself, as it stands
	body      io.Reader // nil for the header of a multipart
	mediaType string
	depth     int
}

// attachment reports whether the part is a file rather than text to be shown.
func (p part) attachment() bool {
	if p.body == nil {
		return false
	}
	disposition, params, _ := p.entity.Header.ContentDisposition()
	if strings.EqualFold(disposition, "attachment") || params["filename"] != "" {
		return true
	}
	return p.mediaType != "text/plain" && p.mediaType != "text/html"
}

// name returns a safe file name for the part.
func (p part) name() string {
	_, params, _ := p.entity.Header.ContentDisposition()
	name := params["filename"]
	if name == "" {
		_, params, _ = p.entity.Header.ContentType()
		name = params["name"]
	}
	if decoded, err := new(mime.WordDecoder).DecodeHeader(name); err == nil {
		name = decoded
	}
	if name == "" && strings.HasPrefix(p.mediaType, "message/") {
		name = "message.eml"
	}
	return SafeName(name)
}

var errEnough = errors.New("enough parts")

// walk calls fn for every leaf of the message in r, the header of the message itself
// at depth 0. What is broken ends the walk early without an error.
func walk(r io.Reader, fn func(part) error) error {
	header, body, err := SplitHeader(r)
	if err != nil {
		return nil // the caller has the error of r
	}
	e, err := gomessage.New(mimeHeader(header), body)
	if e == nil {
		return err
	}
	w := &walker{fn: fn, header: header}
	if err := w.entity(e, 0); !errors.Is(err, errEnough) {
		return err
	}
	return nil
}

var mimeFields = [][]byte{[]byte("Content-Type"), []byte("Content-Transfer-Encoding"), []byte("Content-Disposition")}

// mimeHeader returns the fields that say how to read the body.
func mimeHeader(header []byte) (h gomessage.Header) {
	for f, rest := nextField(header); f != nil; f, rest = nextField(rest) {
		for _, name := range mimeFields {
			if bytes.EqualFold(fieldName(f), name) && !h.Has(string(name)) {
				h.Add(string(name), f.text())
			}
		}
	}
	return h
}

type walker struct {
	fn     func(part) error
	header []byte
	parts  int
}

func (w *walker) entity(e *gomessage.Entity, depth int) error {
	if w.parts++; w.parts > maxParts {
		return errEnough
	}
	mediaType, _, _ := e.Header.ContentType()
	mediaType = strings.ToLower(mediaType)
	if mediaType == "" {
		mediaType = "text/plain"
	}
	mr := e.MultipartReader()
	if mr == nil || depth >= maxDepth {
		return w.fn(part{entity: e, header: w.header, body: e.Body, mediaType: mediaType, depth: depth})
	}
	if depth == 0 { // for its header; a multipart has no text of its own
		if err := w.fn(part{entity: e, header: w.header}); err != nil {
			return err
		}
	}
	for {
		child, err := mr.NextPart()
		if child == nil || err != nil && !gomessage.IsUnknownCharset(err) && !gomessage.IsUnknownEncoding(err) {
			return nil // its end, or nothing more that can be understood
		}
		if err := w.entity(child, depth+1); err != nil {
			return err
		}
	}
}

// source keeps the error of the reader that the caller gave, to tell it from what is
// only wrong in the message.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// lenient reads a body up to where it breaks.
type lenient struct{ r io.Reader }

func (l lenient) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

func read(r io.Reader, limit int) string {
	b, _ := io.ReadAll(io.LimitReader(lenient{r}, int64(limit)))
	return string(b)
}

// addresses appends the addresses of the field to list. What is none is shown as it stands.
func (f field) addresses(list []Address) []Address {
	s := mailboxScanner{v: f.value()}
	for m, ok := s.next(); ok && len(list) < maxAddresses; m, ok = s.next() {
		if !m.ok {
			m.Address = Address{Name: decodeName(string(s.v[m.start:m.end]))}
		}
		list = append(list, Address{Name: shorten(CleanLine(m.Name), maxField), Addr: shorten(CleanLine(m.Addr), maxField)})
	}
	return list
}

// readIDs returns the message ids of a field: what stands in angle brackets, or all words
// if nothing does.
func readIDs(text string) []string {
	var ids []string
	for rest := text; ; {
		_, after, found := strings.Cut(rest, "<")
		if !found {
			break
		}
		id, after, found := strings.Cut(after, ">")
		if !found {
			break
		}
		ids, rest = append(ids, id), after
	}
	if ids = validIDs(ids); len(ids) == 0 {
		ids = validIDs(strings.Fields(text))
	}
	return ids
}
