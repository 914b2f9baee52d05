package message

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// HeaderError says why the header of a message that is to be sent is refused. Sending the
// same message again does not help.
type HeaderError struct {
	Field  string // that is wrong; empty if it is not one field
	Reason string
}

// Error returns what is wrong.
func (e *HeaderError) Error() string {
	if e.Field == "" {
		return "header of the message: " + e.Reason
	}
	return "header field " + e.Field + ": " + e.Reason
}

var errHeaderSize = &HeaderError{Reason: fmt.Sprintf("it has more than %d KiB, with the addresses as they are sent", maxHeader>>10)}

// SplitHeader reads the header of a message, with the empty line that ends it, and returns
// it and a reader of all that follows. A message that does not begin with a field has an
// empty header. One that has no empty line is header to its end. A header of more than
// 256 KiB is cut before the field that exceeds them: what is left of it comes with the
// rest, so that no byte is lost. The error is one of r.
func SplitHeader(r io.Reader) (header []byte, rest io.Reader, err error) {
	header, rest, _, err = splitHeader(r)
	return header, rest, err
}

// splitHeader is SplitHeader; cut says that the header goes on in rest.
func splitHeader(r io.Reader) (header []byte, rest io.Reader, cut bool, err error) {
	buf, line, at, idle := make([]byte, 0, 4<<10), 0, 0, 0
	for {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, min(4*cap(buf), maxHeader+1)), buf...)
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil && err != io.EOF {
			return nil, nil, false, err
		}
		var end int
		if end, line, at = emptyLine(buf, line, at); end == 0 && err == nil && len(buf) <= maxHeader {
			if idle++; n > 0 {
				idle = 0
			} else if idle == 100 {
				return nil, nil, false, io.ErrNoProgress
			}
			continue
		}
		end, cut := headerEnd(buf, end)
		tail := bytes.NewReader(buf[end:])
		if err == io.EOF {
			return buf[:end:end], tail, cut, nil
		}
		return buf[:end:end], io.MultiReader(tail, r), cut, nil
	}
}

// HeaderLength returns how many bytes of b, the beginning of a message, its header has, as
// SplitHeader cuts it. whole says that b is all of the message; else b has to reach beyond
// 256 KiB, or to the empty line: 0 may also mean that it is too short to tell.
func HeaderLength(b []byte, whole bool) int {
	end, _, _ := emptyLine(b, 0, 0)
	if end == 0 && !whole && len(b) <= maxHeader {
		return 0
	}
	end, _ = headerEnd(b, end)
	return end
}

// emptyLine returns where the first empty line of b ends, 0 if there is none; then also the
// beginning of the last line and how far it was looked at, to go on from there once there
// is more.
func emptyLine(b []byte, line, at int) (end, last, seen int) {
	for {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			return 0, line, len(b)
		}
		at += n + 1
		if length := at - 1 - line; length == 0 || length == 1 && b[line] == '\r' {
			return at, line, at
		}
		line = at
	}
}

// headerEnd returns where the header in b ends, if its empty line ends at end or is not
// there, and whether it was cut.
func headerEnd(b []byte, end int) (int, bool) {
	if !beginsHeader(b) {
		return 0, false
	}
	if end == 0 {
		end = len(b)
	}
	if end <= maxHeader {
		return end, false
	}
	// The last field within the limit may go on beyond it.
	for at := bytes.LastIndexByte(b[:maxHeader], '\n') + 1; at > 0; at = bytes.LastIndexByte(b[:at-1], '\n') + 1 {
		if !folded(b[at:]) {
			return at, true
		}
	}
	return 0, true
}

// beginsHeader reports whether b begins with a field, with one that is folded from
// nothing, with the line that separates the messages of an mbox, or with an empty line.
func beginsHeader(b []byte) bool {
	return len(b) > 0 && (b[0] == '\n' || bytes.HasPrefix(b, []byte("\r\n")) || folded(b) || mboxLine(b) || kindOf(b) != unnamed)
}

func mboxLine(b []byte) bool { return bytes.HasPrefix(b, []byte("From ")) && kindOf(b) == unnamed }

func folded(b []byte) bool { return len(b) > 0 && (b[0] == ' ' || b[0] == '\t') }

// kind is what a field is, as far as that matters here.
type kind uint8

const (
	unnamed   kind = iota // no field: a line without a name
	other                 // stays as it is
	from                  //
	to                    //
	cc                    //
	address               // more fields with addresses
	bcc                   // never leaves the device
	sender                // only of what arrives
	claim                 // only the recipient's own system says it
	local                 // what mail programs note for themselves
	dateField             //
	messageID             //
)

// kinds are the fields that are treated in a way of their own, by lower-case name.
var kinds = map[string]kind{
	"from": from, "to": to, "cc": cc, "sender": sender, "date": dateField, "message-id": messageID,
	"reply-to": address, "resent-from": address, "resent-sender": address, "resent-to": address, "resent-cc": address, "resent-reply-to": address,
	"mail-followup-to": address, "mail-reply-to": address, "disposition-notification-to": address, "return-receipt-to": address, "x-confirm-reading-to": address,
	"bcc": bcc, "resent-bcc": bcc, "x-bcc": bcc,
	// RFC 8601 section 5, RFC 8617, RFC 5321 section 4.4.
	"authentication-results": claim, "arc-authentication-results": claim, "arc-message-signature": claim, "arc-seal": claim, "return-path": claim,
	strings.ToLower(claimedField): claim,
	"x-mozilla-status":            local, "x-mozilla-status2": local, "x-mozilla-keys": local, "x-mozilla-draft-info": local, "x-unsent": local,
	"x-identity-key": local, "x-account-key": local, "fcc": local,
}

// longestName is the length of the longest name in kinds.
const longestName = 32

// kindOf returns what the field at the beginning of b is.
func kindOf(b []byte) kind {
	name := fieldName(b)
	if len(name) == 0 {
		return unnamed
	}
	if len(name) > longestName {
		return other
	}
	var lower [longestName]byte
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	if k, ok := kinds[string(lower[:len(name)])]; ok {
		return k
	}
	return other
}

// fieldName returns the name of the field at the beginning of b, nothing for a line that is
// no field. Blanks between the name and the colon are allowed (RFC 5322 section 4.5).
func fieldName(b []byte) []byte {
	for i, c := range b {
		if c == ':' || c == ' ' || c == '\t' {
			name := b[:i]
			for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
				i++
			}
			if i == len(b) || b[i] != ':' {
				return nil
			}
			return name
		}
		if c <= ' ' || c > '~' {
			return nil
		}
	}
	return nil
}

// field is a field of a header, or a line that is none, with its folded lines and line ends.
type field []byte

// nextField takes the first field off a header. None is left at the empty line.
func nextField(header []byte) (f field, rest []byte) {
	n := lineLength(header)
	if n == 0 || header[0] == '\n' || n == 2 && header[0] == '\r' && header[1] == '\n' {
		return nil, header
	}
	for n < len(header) && folded(header[n:]) {
		n += lineLength(header[n:])
	}
	return header[:n:n], header[n:]
}

func lineLength(b []byte) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	return len(b)
}

// value returns what stands behind the name, without the line end.
func (f field) value() []byte {
	return bytes.TrimRight(f[bytes.IndexByte(f, ':')+1:], "\r\n")
}

// text returns the value in one line, as it stands otherwise.
func (f field) text() string {
	v := bytes.TrimSpace(f.value())
	if bytes.IndexByte(v, '\n') < 0 {
		return string(v)
	}
	out := make([]byte, 0, len(v))
	for line := range bytes.Lines(v) {
		if len(out) > 0 {
			out = append(out, ' ')
		}
		out = append(out, bytes.TrimSpace(line)...)
	}
	return string(out)
}

// blank reports whether the value says nothing.
func (f field) blank() bool { return len(bytes.TrimSpace(f.value())) == 0 }

// bareCR returns the place of the first CR at or after at that ends no line, or -1.
func (f field) bareCR(at int) int {
	for {
		i := bytes.IndexByte(f[at:], '\r')
		if i < 0 {
			return -1
		}
		if at += i + 1; at == len(f) || f[at] != '\n' {
			return at - 1
		}
	}
}

// ended returns f with a line end.
func (f field) ended() field {
	if len(f) > 0 && f[len(f)-1] != '\n' {
		f = bytes.TrimRight(f, "\r")
		return append(f[:len(f):len(f)], '\r', '\n')
	}
	return f
}
