package message

import (
	"errors"
	"io"
	"mime"
	"strings"
	"time"

	gomessage "github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // the charsets of the web, converted on reading
	"github.com/emersion/go-message/mail"
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
			v.header(mail.Header{Header: p.entity.Header})
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

func (v *View) header(h mail.Header) {
	if from := addresses(h, "From"); len(from) > 0 {
		v.From = from[0]
	}
	v.To, v.Cc = addresses(h, "To"), addresses(h, "Cc")
	subject, _ := h.Subject()
	v.Subject = shorten(CleanLine(subject), maxField)
	if d, err := h.Date(); err == nil {
		v.Date = d
	}
	if ids := messageIDs(h, "Message-Id"); len(ids) > 0 {
		v.MessageID = ids[0]
	}
	if ids := messageIDs(h, "In-Reply-To"); len(ids) > 0 {
		v.InReplyTo = ids[0]
	}
	v.References = messageIDs(h, "References")
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
	e, err := gomessage.ReadWithOptions(r, &gomessage.ReadOptions{MaxHeaderBytes: maxHeader})
	if e == nil {
		if err == nil || errors.Is(err, io.EOF) {
			return nil
		}
		// No header that can be read: nothing can be shown.
		var plain gomessage.Entity
		return fn(part{entity: &plain})
	}
	w := &walker{fn: fn}
	if err := w.entity(e, 0); !errors.Is(err, errEnough) {
		return err
	}
	return nil
}

type walker struct {
	fn    func(part) error
	parts int
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
		return w.fn(part{entity: e, body: e.Body, mediaType: mediaType, depth: depth})
	}
	if depth == 0 { // for its header; a multipart has no text of its own
		if err := w.fn(part{entity: e}); err != nil {
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

func addresses(h mail.Header, field string) []Address {
	var out []Address
	list, err := h.AddressList(field)
	if err != nil {
		text, _ := h.Text(field) // shown as it stands
		if text = shorten(CleanLine(text), maxField); text == "" {
			return nil
		}
		return []Address{{Name: text}}
	}
	for i, a := range list {
		if i == maxAddresses {
			break
		}
		out = append(out, Address{Name: shorten(CleanLine(a.Name), maxField), Addr: shorten(CleanLine(a.Address), maxField)})
	}
	return out
}

func messageIDs(h mail.Header, field string) []string {
	ids, err := h.MsgIDList(field)
	if err != nil {
		return validIDs(strings.Fields(h.Get(field)))
	}
	return validIDs(ids)
}
