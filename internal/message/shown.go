package message

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-message/mail"
)

// Arrival is what is known of a message besides what it says of itself.
type Arrival struct {
	From      Address // of who sealed it, as on the wire
	Certain   bool    // false: sealed with a key that a removed device knows too
	Received  time.Time
	MessageID string // used if the message has none
	// Show returns an address as the reader knows it; nil: as it stands.
	Show func(Address) Address
}

// claimedField holds what the sender put in From, if it was not the sender's address.
const claimedField = "X-ASMTP-Claimed-From"

// unnamedField stands before what a header begins with that has no name.
const unnamedField = "X-ASMTP-Unnamed"

// claims are fields that only the recipient's own system may set (RFC 8601 section 5,
// RFC 8617).
var claims = []string{"authentication-results", "arc-authentication-results", "arc-message-signature", "arc-seal", strings.ToLower(claimedField)}

// Arrived returns the header that is shown of a message, of the header that it arrived
// with, its empty line included: From has the address of who sealed the message and the
// name that it claims, an address that was not the sender's is kept in
// X-ASMTP-Claimed-From, known addresses are shown as the reader knows them,
// Authentication-Results is ours, and Date and Message-ID are there. All other fields stay
// as they are, byte for byte, whatever they are.
func Arrived(header []byte, a Arrival) []byte {
	fields, end := splitFields(header)
	out := make([]byte, 0, len(header)+400)
	out = append(out, "Authentication-Results: asmtp; passport="...)
	if local, _, _ := strings.Cut(a.From.Addr, "@"); a.Certain {
		out = append(out, "pass ("+local+")\r\n"...)
	} else {
		out = append(out, "none (sealed with a key that a removed device knows)\r\n"...)
	}
	from, dated, named := false, false, false
	for _, f := range fields {
		switch name := f.name(); name {
		case "from":
			if !from {
				out, from = a.from(out, f), true
			}
		case "to", "cc", "reply-to", "sender":
			out = append(out, f.shown(a.Show)...)
		default:
			if slices.Contains(claims, name) {
				continue
			}
			if f[0] == ' ' || f[0] == '\t' { // else it would go on with what stands above it now
				out = append(out, unnamedField+":"...)
			}
			dated, named = dated || name == "date", named || name == "message-id"
			out = append(out, f...)
		}
	}
	if !from {
		out = a.from(out, nil)
	}
	return append(addMissing(out, dated, named, a.Received, a.MessageID), end...)
}

// Sent returns the header that the sender is shown of a message, of the header with which
// it went out: known addresses are shown as the sender knows them.
func Sent(header []byte, show func(Address) Address) []byte {
	fields, end := splitFields(header)
	out := make([]byte, 0, len(header)+100)
	for _, f := range fields {
		switch f.name() {
		case "from", "to", "cc", "reply-to":
			out = append(out, f.shown(show)...)
		default:
			out = append(out, f...)
		}
	}
	return append(out, end...)
}

// from appends the field From for a sender who wrote f, which may be missing.
func (a *Arrival) from(out []byte, f field) []byte {
	shown := a.From
	if a.Show != nil {
		shown = a.Show(a.From)
	}
	value := oneLine(strings.NewReplacer("\r\n", "", "\n", "").Replace(f.value()))
	list, err := mail.ParseAddressList(value)
	claimed := value != ""
	if err == nil && len(list) > 0 {
		if list[0].Name != "" {
			shown.Name = oneLine(list[0].Name)
		}
		claimed = len(list) > 1 || !strings.EqualFold(list[0].Address, a.From.Addr)
	}
	out = append(out, "From: "+formatAddresses([]Address{shown})+"\r\n"...)
	if claimed {
		out = append(out, claimedField+": "+shorten(value, maxField)+"\r\n"...)
	}
	return out
}

func addMissing(out []byte, dated, named bool, date time.Time, id string) []byte {
	if !dated {
		out = append(out, "Date: "+date.Format("Mon, 02 Jan 2006 15:04:05 -0700")+"\r\n"...)
	}
	if !named {
		out = append(out, "Message-ID: <"+id+">\r\n"...)
	}
	return out
}

// field is a field of a header, or a line that is none, with its folded lines and line ends.
type field []byte

// splitFields cuts a header into its fields and the empty line at its end; one that has
// none, since the message ends with its header, gets one.
func splitFields(header []byte) (fields []field, end []byte) {
	for len(header) > 0 {
		n := lineLength(header)
		if line := bytes.TrimRight(header[:n], "\r\n"); len(line) == 0 {
			return fields, header
		}
		for n < len(header) && (header[n] == ' ' || header[n] == '\t') {
			n += lineLength(header[n:])
		}
		f := header[:n:n]
		if header = header[n:]; f[n-1] != '\n' {
			f = append(f, '\r', '\n')
		}
		fields = append(fields, f)
	}
	return fields, []byte("\r\n")
}

func lineLength(b []byte) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	return len(b)
}

// name returns the lower-case name, "" for a line that is no field.
func (f field) name() string {
	i := bytes.IndexByte(f, ':')
	if i <= 0 {
		return ""
	}
	name := bytes.TrimRight(f[:i], " \t")
	if bytes.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return strings.ToLower(string(name))
}

func (f field) value() string {
	_, value, _ := bytes.Cut(f, []byte(":"))
	return strings.TrimSpace(string(value))
}

// shown returns an address field with its addresses as the reader knows them; the field
// as it stands if none is known or it cannot be read.
func (f field) shown(show func(Address) Address) []byte {
	if show == nil || !bytes.Contains(f, []byte("@")) {
		return f
	}
	list, err := mail.ParseAddressList(strings.NewReplacer("\r\n", "", "\n", "").Replace(f.value()))
	if err != nil || len(list) > 10*maxAddresses {
		return f
	}
	changed := false
	out := make([]Address, len(list))
	for i, m := range list {
		was := Address{Name: m.Name, Addr: m.Address}
		out[i] = show(was)
		changed = changed || out[i] != was
	}
	if !changed {
		return f
	}
	name, _, _ := bytes.Cut(f, []byte(":"))
	var lines []string
	for i := range out {
		lines = append(lines, formatAddresses(out[i:i+1]))
	}
	return []byte(string(name) + ": " + strings.Join(lines, ",\r\n ") + "\r\n")
}
