package message

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
)

// Changes are what [Rewrite] does to a header.
type Changes struct {
	From      Address
	Date      time.Time // used if the message has none
	MessageID string    // used if the message has none
	// Address returns how an address is written on the wire. An error ends the rewriting.
	Address func(Address) (Address, error)
}

// Header is what [ReadHeader] finds.
type Header struct {
	To, Cc, Bcc []Address
}

// ReadHeader returns the recipients that the header of a message names. It may read more of
// r than the header. Errors: [HeaderError], and those of r.
func ReadHeader(r io.Reader) (Header, error) {
	var h Header
	header, _, cut, err := splitHeader(r)
	if err != nil {
		return h, fmt.Errorf("read header: %w", err)
	}
	if cut {
		return h, errHeaderSize
	}
	for f, rest := nextField(header); f != nil; f, rest = nextField(rest) {
		var list *[]Address
		switch strings.ToLower(f.name()) {
		case "to":
			list = &h.To
		case "cc":
			list = &h.Cc
		case "bcc":
			list = &h.Bcc
		default:
			continue
		}
		if *list, err = f.list(*list); err != nil {
			return Header{}, err
		}
	}
	return h, nil
}

// Rewrite copies a message from r to w and changes its header for the way: addresses
// as c says, no Bcc, the sender's address in From with the name that stands there if it is
// the sender's, and Date and Message-ID if they are missing. All other fields and the whole
// body stay as they are, byte for byte. A header in which something else could be hidden is
// refused: one with a CR that ends no line, with a line that is no field, or with addresses
// that cannot be read. Nothing is written then. Errors: [HeaderError], those of c, of r and
// of w.
func Rewrite(w io.Writer, r io.Reader, c Changes) error {
	header, rest, cut, err := splitHeader(r)
	if err != nil {
		return fmt.Errorf("rewrite: %w", err)
	}
	if cut {
		return errHeaderSize
	}
	out, err := c.header(header)
	if err != nil {
		return err
	}
	if _, err := w.Write(out); err != nil {
		return fmt.Errorf("rewrite header: %w", err)
	}
	if _, err := io.Copy(w, rest); err != nil {
		return fmt.Errorf("rewrite: %w", err)
	}
	return nil
}

// header returns the header as it goes out.
func (c *Changes) header(header []byte) ([]byte, error) {
	fields, end := splitFields(header)
	if len(fields) > 0 && mboxLine(fields[0]) {
		fields = fields[1:]
	}
	out := make([]byte, 0, len(header)+300)
	n := noted(fields)
	if n.from == nil {
		out = c.appendFrom(out, nil)
	}
	out = n.appendMissing(out, c.Date, c.MessageID)
	var err error
	for i, f := range fields {
		k := kindOf(f)
		if err := sendable(f, k, i); err != nil {
			return nil, err
		}
		switch k {
		case bcc, sender, claim, local:
		case from:
			if &f[0] == &n.from[0] {
				out = c.appendFrom(out, f)
			}
		case to, cc, address:
			if out, err = f.appendChanged(out, true, c.Address); err != nil {
				return nil, err
			}
		case dateField, messageID:
			if !f.blank() {
				out = append(out, f...)
			}
		default:
			out = append(out, f...)
		}
	}
	if len(out)+len(end) > maxHeader {
		return nil, errHeaderSize
	}
	return append(out, end...), nil
}

// sendable reports what is wrong with a field, the one at index i, whatever it says.
func sendable(f field, k kind, i int) error {
	switch {
	case k == unnamed && folded(f):
		return &HeaderError{Reason: "it begins with a line that is folded from nothing"}
	case k == unnamed:
		return &HeaderError{Reason: fmt.Sprintf("line without a name: %q", shorten(CleanLine(string(f)), 60))}
	case f.bareCR(0) >= 0:
		return &HeaderError{Field: shorten(f.name(), 60), Reason: "a CR that ends no line"}
	}
	return nil
}

// appendFrom appends From for a message that has f as such, which may be nil.
func (c *Changes) appendFrom(out []byte, f field) []byte {
	if f != nil {
		s := mailboxScanner{v: f.value()}
		m, one := s.next()
		_, more := s.next()
		if one && m.ok && !more && m.Name != "" {
			if now, err := c.Address(m.Address); err == nil && now.Addr == c.From.Addr {
				name := m.Address
				b, _ := f.appendChanged(out, false, func(Address) (Address, error) { return Address{Name: name.Name, Addr: c.From.Addr}, nil })
				return b
			}
		}
	}
	return append(out, "From: "+formatAddresses([]Address{c.From})+"\r\n"...)
}

// notes are what has to be known of all fields before the first one is written.
type notes struct {
	from         field // the first one
	froms        int
	dated, named bool
}

func noted(fields []field) (n notes) {
	for _, f := range fields {
		switch kindOf(f) {
		case from:
			if n.froms++; n.from == nil {
				n.from = f
			}
		case dateField:
			n.dated = n.dated || !f.blank()
		case messageID:
			n.named = n.named || !f.blank()
		}
	}
	return n
}

func (n *notes) appendMissing(out []byte, date time.Time, id string) []byte {
	if !n.dated {
		out = append(out, "Date: "...)
		out = append(date.AppendFormat(out, "Mon, 02 Jan 2006 15:04:05 -0700"), '\r', '\n')
	}
	if !n.named {
		out = append(append(append(out, "Message-ID: <"...), id...), ">\r\n"...)
	}
	return out
}

// splitFields cuts a header into its fields and the empty line at its end; one that has
// none, since the message ends with its header, gets one.
func splitFields(header []byte) (fields []field, end []byte) {
	fields = make([]field, 0, min(16+len(header)/64, 4096))
	for f, rest := nextField(header); ; f, rest = nextField(rest) {
		if f == nil && len(rest) > 0 {
			return fields, rest
		}
		if f = f.ended(); len(f) <= len("\r\n") && len(bytes.Trim(f, "\r\n")) == 0 { // none, or a CR at the end
			return fields, []byte("\r\n")
		}
		fields = append(fields, f)
	}
}
