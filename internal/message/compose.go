package message

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"mime"
	netmail "net/mail"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	gomessage "github.com/emersion/go-message"
	"github.com/emersion/go-message/mail"
)

// Address is a mailbox: what is shown, and local@domain.
type Address struct{ Name, Addr string }

// Attachment is a file to be sent.
type Attachment struct {
	Name string // directories are cut off
	Type string // media type; empty means by the ending of Name
	Open func() (io.ReadCloser, error)
}

// Letter is what [Compose] makes a message of.
type Letter struct {
	From        Address
	To, Cc      []Address
	Subject     string
	Date        time.Time
	MessageID   string // without angle brackets
	InReplyTo   string
	References  []string
	Text        string
	Attachments []Attachment
}

// Compose writes the letter as an RFC 5322 message with CRLF line ends. No value can
// add a header: line breaks inside them become blanks. Attachments are read once, as
// they are written.
func Compose(w io.Writer, l Letter) error {
	bw := bufio.NewWriterSize(w, 32<<10)
	h := l.header()
	var err error
	if len(l.Attachments) == 0 {
		err = composeText(bw, h, l.Text)
	} else {
		err = composeMixed(bw, h, l)
	}
	if err != nil {
		return fmt.Errorf("compose: %w", err)
	}
	return bw.Flush()
}

func (l Letter) header() mail.Header {
	var h mail.Header
	// Fields are written in the opposite order of being set.
	h.Set("Mime-Version", "1.0")
	if refs := validIDs(l.References); len(refs) > 0 {
		h.SetMsgIDList("References", refs)
	}
	if refs := validIDs([]string{l.InReplyTo}); len(refs) > 0 {
		h.SetMsgIDList("In-Reply-To", refs)
	}
	if ids := validIDs([]string{l.MessageID}); len(ids) > 0 {
		h.SetMessageID(ids[0])
	}
	h.SetDate(l.Date)
	h.SetSubject(oneLine(l.Subject))
	if len(l.Cc) > 0 {
		h.Set("Cc", formatAddresses(l.Cc))
	}
	if len(l.To) > 0 {
		h.Set("To", formatAddresses(l.To))
	}
	h.Set("From", formatAddresses([]Address{l.From}))
	return h
}

func composeText(w io.Writer, h mail.Header, text string) error {
	setText(&h.Header, text)
	e, err := gomessage.CreateWriter(w, h.Header)
	if err != nil {
		return err
	}
	return writeText(e, text)
}

func composeMixed(w io.Writer, h mail.Header, l Letter) error {
	h.SetContentType("multipart/mixed", nil)
	e, err := gomessage.CreateWriter(w, h.Header)
	if err != nil {
		return err
	}
	if l.Text != "" {
		var th gomessage.Header
		setText(&th, l.Text)
		p, err := e.CreatePart(th)
		if err != nil {
			return err
		}
		if err := writeText(p, l.Text); err != nil {
			return err
		}
	}
	for _, a := range l.Attachments {
		if err := composeAttachment(e, a); err != nil {
			return err
		}
	}
	return e.Close()
}

func composeAttachment(e *gomessage.Writer, a Attachment) error {
	name := SafeName(a.Name)
	var h gomessage.Header
	h.Set("Content-Transfer-Encoding", "base64")
	h.SetContentDisposition("attachment", map[string]string{"filename": name})
	h.SetContentType(attachmentType(a.Type, name), nil)
	src, err := a.Open()
	if err != nil {
		return fmt.Errorf("attachment %s: %w", name, err)
	}
	defer src.Close()
	p, err := e.CreatePart(h)
	if err != nil {
		return err
	}
	if _, err := io.Copy(p, src); err != nil {
		return fmt.Errorf("attachment %s: %w", name, err)
	}
	return p.Close()
}

// attachmentType returns the media type to write: never a text or a multipart, since
// those may be changed on the way by programs that mean well.
func attachmentType(given, name string) string {
	if given == "" {
		given = mime.TypeByExtension(filepath.Ext(name))
	}
	t, _, err := mime.ParseMediaType(given)
	if err != nil || strings.HasPrefix(t, "multipart/") || strings.HasPrefix(t, "message/") || !strings.Contains(t, "/") {
		return "application/octet-stream"
	}
	return t
}

// setText sets type and encoding of a text: 7bit if it is plain ASCII of short lines,
// 8bit if it is UTF-8 of short lines, else quoted-printable.
func setText(h *gomessage.Header, text string) {
	encoding := "7bit"
	ascii, short := shape(text)
	switch {
	case !short:
		encoding = "quoted-printable"
	case !ascii:
		encoding = "8bit"
	}
	h.Set("Content-Transfer-Encoding", encoding)
	h.SetContentType("text/plain", map[string]string{"charset": "utf-8"})
}

// shape reports whether text is ASCII, and whether its lines may stand in a message
// as they are (RFC 5322, section 2.1.1; no bare CR, no NUL).
func shape(text string) (ascii, short bool) {
	ascii, short = true, utf8.ValidString(text)
	length := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n':
			length = 0
			continue
		case c == '\r' && (i+1 == len(text) || text[i+1] != '\n'), c == 0:
			short = false
		case c >= 0x80:
			ascii = false
		}
		if length++; length > 990 {
			short = false
		}
	}
	return ascii, short
}

func writeText(w io.WriteCloser, text string) error {
	b := []byte(strings.ToValidUTF8(text, "\ufffd"))
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	b = bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
	if _, err := w.Write(b); err != nil {
		return err
	}
	return w.Close()
}

// formatAddresses returns the value of an address field.
func formatAddresses(list []Address) string {
	var out []byte
	for i, a := range list {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = appendAddress(out, a)
	}
	return string(out)
}

// appendAddress appends an address as it stands in a field. Names that are not plain
// ASCII are encoded whole in base64: as quoted-printable, what the library writes for
// some of them it does not read again.
func appendAddress(out []byte, a Address) []byte {
	switch name := oneLine(a.Name); {
	case name == "":
	case isASCII(name):
		out = append(out, '"')
		for i := range len(name) {
			if name[i] == '"' || name[i] == '\\' {
				out = append(out, '\\')
			}
			out = append(out, name[i])
		}
		out = append(out, `" `...)
	default:
		out = append(append(out, mime.BEncoding.Encode("utf-8", name)...), ' ')
	}
	if strings.Contains(a.Addr, "@") && plainSpec([]byte(a.Addr)) {
		return append(append(append(out, '<'), a.Addr...), '>')
	}
	return append(out, (&netmail.Address{Address: oneLine(a.Addr)}).String()...)
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

// oneLine makes a value that can stand in a header field.
func oneLine(s string) string {
	if plainLine(s) {
		return s
	}
	s = strings.ToValidUTF8(s, "\ufffd")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, s))
}

// plainLine reports whether s is ASCII that oneLine leaves as it is.
func plainLine(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s == "" || s[0] != ' ' && s[len(s)-1] != ' '
}

// validIDs keeps those message ids that can be written.
func validIDs(ids []string) []string {
	var out []string
	for _, id := range ids {
		id = strings.Trim(strings.TrimSpace(id), "<>")
		if id == "" || len(id) > 500 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r == '<' || r == '>' || r > 0x7e }) {
			continue
		}
		out = append(out, id)
	}
	if len(out) > maxReferences {
		out = append(out[:1:1], out[len(out)-maxReferences+1:]...) // the root and the latest, as RFC 5322 3.6.4 suggests
	}
	return out
}
