package message

import (
	"bytes"
	"strings"
	"time"

	"github.com/asmtp/asmtp/passport"
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

// unnamedField is put before a line that is no field, for which some programs take the end
// of the header.
const unnamedField = "X-ASMTP-Unnamed"

// maxClaimed is how much of a forged From is kept: a line that is not too long.
const maxClaimed = 900

// domain is that of all addresses of passports. What stands before it on the wire is an id;
// nobody is noDomain.
const (
	domain   = "asmtp"
	noDomain = "asmtp.invalid"
)

// Arrived returns the header that is shown of a message, of the header that it arrived
// with, its empty line included: From has the address of who sealed the message and the
// name that it claims, an address that was not the sender's is kept in
// X-ASMTP-Claimed-From, known addresses are shown as the reader knows them,
// Authentication-Results is ours, and Date and Message-ID are there. An address that would
// read as a name of the reader's without being one, since the sender cannot know those, ends
// in asmtp.invalid. All other fields stay as they are, byte for byte, whatever they are; a line
// that is none becomes X-ASMTP-Unnamed, and a CR that ends no line becomes a blank where
// some programs would read one of these fields, or the end of the header, after it.
func Arrived(header []byte, a Arrival) []byte {
	fields, end := splitFields(header)
	n := noted(fields)
	out := make([]byte, 0, len(header)+400)
	out = a.appendResult(out)
	if n.from == nil {
		out = a.appendFrom(out, fields, &n)
	}
	out = n.appendMissing(out, a.Received, a.MessageID)
	for _, f := range fields {
		switch kindOf(f) {
		case from:
			if &f[0] == &n.from[0] {
				out = a.appendFrom(out, fields, &n)
			}
		case to, cc, address, sender, bcc:
			start := len(out)
			out, _ = f.appendChanged(out, false, a.shown)
			disarm(out[start:])
		case claim:
		case dateField, messageID:
			if !f.blank() {
				out = appendKept(out, f)
			}
		case unnamed:
			if out = append(out, unnamedField+":"...); !folded(f) {
				out = append(out, ' ')
			}
			out = appendKept(out, f)
		default:
			out = appendKept(out, f)
		}
	}
	return append(out, end...)
}

// appendResult appends what is known of who made the message.
func (a *Arrival) appendResult(out []byte) []byte {
	out = append(out, "Authentication-Results: asmtp; passport="...)
	if !a.Certain {
		return append(out, "none (sealed with a key that a removed device knows)\r\n"...)
	}
	local, _, _ := strings.Cut(a.From.Addr, "@")
	return append(append(append(out, "pass ("...), local...), ")\r\n"...)
}

// appendFrom appends From, and what was claimed in its place if that was something else.
func (a *Arrival) appendFrom(out []byte, fields []field, n *notes) []byte {
	shown := a.From
	if a.Show != nil {
		shown = a.Show(a.From)
	}
	f := n.from
	if f == nil || n.froms == 1 && f.blank() {
		return append(appendAddress(append(out, "From: "...), shown), '\r', '\n')
	}
	s := mailboxScanner{v: f.value()}
	m, one := s.next()
	_, more := s.next()
	honest := one && m.ok && (strings.EqualFold(m.Addr, a.From.Addr) || strings.EqualFold(m.Addr, shown.Addr))
	if one && m.ok && m.Name != "" {
		shown.Name = m.Name
	}
	if honest && !more && !s.grouped() && n.froms == 1 && f.bareCR(0) < 0 {
		out, _ = f.appendChanged(out, false, func(Address) (Address, error) { return shown, nil })
		return out
	}
	out = append(appendAddress(append(out, "From: "...), shown), '\r', '\n')
	if honest && !more && n.froms == 1 {
		return out
	}
	var claimed []string
	for _, f := range fields {
		if kindOf(f) == from && !f.blank() {
			claimed = append(claimed, shorten(oneLine(f.text()), maxClaimed))
		}
	}
	return append(append(append(out, claimedField+": "...), shortenBytes(strings.Join(claimed, ", "), maxClaimed)...), '\r', '\n')
}

// shown returns an address as the reader is shown it.
func (a *Arrival) shown(was Address) (Address, error) {
	now := was
	if a.Show != nil {
		now = a.Show(was)
	}
	if now != was {
		return now, nil
	}
	local, d, found := strings.Cut(was.Addr, "@")
	if !found || strings.EqualFold(d, domain) {
		if _, err := passport.ParseID(local); err != nil {
			now.Addr = local + "@" + noDomain
		}
	}
	return now, nil
}

// appendKept appends a field that stays as it is, but see disarm.
func appendKept(out []byte, f field) []byte {
	out = append(out, f...)
	disarm(out[len(out)-len(f):])
	return out
}

// disarm puts a blank in the place of each CR in f after which programs for which any CR
// ends a line would read a field that is treated here, or the end of the header.
func disarm(f field) {
	for i := f.bareCR(0); i >= 0; i = f.bareCR(i + 1) {
		if next := f[i+1:]; len(next) == 0 || !folded(next) && kindOf(next) != other {
			f[i] = ' '
		}
	}
}

// SentBy is what is known of a message that was sent besides what it says of itself.
type SentBy struct {
	// To are all its recipients as on the wire. Those that the header does not name are
	// shown as Bcc.
	To []string
	// Show returns an address as the sender knows it; nil: as it stands.
	Show func(Address) Address
}

// Sent returns the header that the sender is shown of a message, of the header with which
// it went out: known addresses are shown as the sender knows them, and who got it unnamed
// is in Bcc.
func Sent(header []byte, s SentBy) []byte {
	fields, end := splitFields(header)
	out := make([]byte, 0, len(header)+100)
	hidden := make(map[string]bool, len(s.To))
	for _, addr := range s.To {
		hidden[strings.ToLower(addr)] = true
	}
	show := func(a Address) (Address, error) {
		if s.Show == nil {
			return a, nil
		}
		return s.Show(a), nil
	}
	named := func(a Address) (Address, error) {
		delete(hidden, strings.ToLower(a.Addr))
		return show(a)
	}
	for _, f := range fields {
		switch kindOf(f) {
		case to, cc:
			out, _ = f.appendChanged(out, false, named)
		case from, address, sender:
			out, _ = f.appendChanged(out, false, show)
		default:
			out = append(out, f...)
		}
	}
	if len(hidden) > 0 {
		out = s.appendBcc(out, hidden)
	}
	return append(out, end...)
}

// appendBcc appends Bcc with who is in hidden.
func (s *SentBy) appendBcc(out []byte, hidden map[string]bool) []byte {
	sep := "Bcc: "
	for _, addr := range s.To {
		if addr = strings.ToLower(addr); !hidden[addr] {
			continue
		}
		delete(hidden, addr)
		a := Address{Addr: addr}
		if s.Show != nil {
			a = s.Show(a)
		}
		out, sep = appendAddress(append(out, sep...), a), ",\r\n "
	}
	return append(out, '\r', '\n')
}

// grouped reports whether a group was begun.
func (s *mailboxScanner) grouped() bool { return s.group || bytes.IndexByte(s.v, ';') >= 0 }
