package bridge

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxQuoted is how long a string may be between quotes; longer ones are literals.
const maxQuoted = 4096

// appendString writes a string of a response. raw says that the program takes UTF-8
// between quotes (IMAP4rev2, UTF8=ACCEPT).
func appendString(out []byte, s string, raw bool) []byte {
	ascii := true
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; {
		case ch == 0, ch == '\r', ch == '\n':
			return appendLiteral(out, s)
		case ch >= 0x80:
			ascii = false
		}
	}
	if len(s) > maxQuoted || !ascii && !(raw && utf8.ValidString(s)) {
		return appendLiteral(out, s)
	}
	out = append(out, '"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			out = append(out, '\\')
		}
		out = append(out, s[i])
	}
	return append(out, '"')
}

func appendLiteral(out []byte, s string) []byte {
	s = strings.ReplaceAll(s, "\x00", "")
	out = append(out, '{')
	out = strconv.AppendInt(out, int64(len(s)), 10)
	return append(append(out, "}\r\n"...), s...)
}

// appendNString writes NIL for an empty string.
func appendNString(out []byte, s string, raw bool) []byte {
	if s == "" {
		return append(out, "NIL"...)
	}
	return appendString(out, s, raw)
}

// envelope is what ENVELOPE shows of a header: values as they stand there, unfolded.
type envelope struct {
	date, subject, inReplyTo, messageID *string
	from, sender, replyTo, to, cc, bcc  []address
}

func parseEnvelope(header []byte) *envelope {
	var e envelope
	first := func(p **string, f field) {
		if *p == nil {
			v := f.value()
			*p = &v
		}
	}
	eachField(header, func(f field) bool {
		switch strings.ToLower(f.name) {
		case "date":
			first(&e.date, f)
		case "subject":
			first(&e.subject, f)
		case "in-reply-to":
			first(&e.inReplyTo, f)
		case "message-id":
			first(&e.messageID, f)
		case "from":
			e.from = append(e.from, parseAddresses(f.value())...)
		case "sender":
			e.sender = append(e.sender, parseAddresses(f.value())...)
		case "reply-to":
			e.replyTo = append(e.replyTo, parseAddresses(f.value())...)
		case "to":
			e.to = append(e.to, parseAddresses(f.value())...)
		case "cc":
			e.cc = append(e.cc, parseAddresses(f.value())...)
		case "bcc":
			e.bcc = append(e.bcc, parseAddresses(f.value())...)
		}
		return true
	})
	if len(e.sender) == 0 {
		e.sender = e.from
	}
	if len(e.replyTo) == 0 {
		e.replyTo = e.from
	}
	return &e
}

// appendEnvelope writes the envelope of a header (RFC 9051, 7.5.2).
func appendEnvelope(out []byte, header []byte, raw bool) []byte {
	e := parseEnvelope(header)
	value := func(v *string) {
		if v == nil {
			out = append(out, "NIL"...)
		} else {
			out = appendString(out, *v, raw)
		}
	}
	out = append(out, '(')
	value(e.date)
	out = append(out, ' ')
	value(e.subject)
	for _, l := range [][]address{e.from, e.sender, e.replyTo, e.to, e.cc, e.bcc} {
		out = append(out, ' ')
		out = appendAddresses(out, l, raw)
	}
	out = append(out, ' ')
	value(e.inReplyTo)
	out = append(out, ' ')
	value(e.messageID)
	return append(out, ')')
}

func appendAddresses(out []byte, list []address, raw bool) []byte {
	if len(list) == 0 {
		return append(out, "NIL"...)
	}
	out = append(out, '(')
	for _, a := range list {
		out = append(out, '(')
		out = appendNString(out, a.name, raw)
		out = append(out, " NIL "...)
		out = appendNString(out, a.mailbox, raw)
		out = append(out, ' ')
		switch {
		case a.host == "" && a.mailbox != "" && !a.group:
			out = append(out, `""`...) // NIL would begin a group
		default:
			out = appendNString(out, a.host, raw)
		}
		out = append(out, ')')
	}
	return append(out, ')')
}

// appendStructure writes BODYSTRUCTURE, or BODY if extended is not set.
func appendStructure(out []byte, p *part, extended, raw bool) []byte {
	out = append(out, '(')
	if p.leaf() {
		out = appendLeaf(out, p, extended, raw)
		return append(out, ')')
	}
	for _, child := range p.children {
		out = appendStructure(out, child, extended, raw)
	}
	out = append(out, ' ')
	out = appendString(out, p.head.subtype, raw)
	if extended {
		out = append(out, ' ')
		out = appendParams(out, p.head.params, raw)
		out = appendExtension(out, &p.head, raw)
	}
	return append(out, ')')
}

func appendLeaf(out []byte, p *part, extended, raw bool) []byte {
	h := &p.head
	kind, subtype := h.kind, h.subtype
	if kind == "multipart" || p.nested() && len(p.children) == 0 {
		kind, subtype = "application", "octet-stream" // IMAP has no form for these without contents
	}
	out = appendString(out, kind, raw)
	out = append(out, ' ')
	out = appendString(out, subtype, raw)
	out = append(out, ' ')
	out = appendParams(out, h.params, raw)
	out = append(out, ' ')
	out = appendNString(out, h.id, raw)
	out = append(out, ' ')
	out = appendNString(out, h.description, raw)
	out = append(out, ' ')
	encoding := h.encoding
	if encoding == "" {
		encoding = "7bit"
	}
	out = appendString(out, encoding, raw)
	out = append(out, ' ')
	out = strconv.AppendInt(out, p.end-p.body, 10)
	if p.nested() && len(p.children) == 1 {
		out = append(out, ' ')
		out = appendEnvelope(out, p.children[0].header, raw)
		out = append(out, ' ')
		out = appendStructure(out, p.children[0], extended, raw)
	}
	if kind == "text" || kind == "message" {
		out = append(out, ' ')
		out = strconv.AppendInt(out, p.lines, 10)
	}
	if extended {
		out = append(out, " NIL"...) // MD5, which nobody sends
		out = appendExtension(out, h, raw)
	}
	return out
}

func appendParams(out []byte, params []param, raw bool) []byte {
	if len(params) == 0 {
		return append(out, "NIL"...)
	}
	for i, p := range params {
		out = append(out, " ("[b2i(i == 0)])
		out = appendString(out, p.key, raw)
		out = append(out, ' ')
		out = appendString(out, p.value, raw)
	}
	return append(out, ')')
}

func appendExtension(out []byte, h *partHeader, raw bool) []byte {
	if h.disposition == "" {
		out = append(out, " NIL"...)
	} else {
		out = append(out, " ("...)
		out = appendString(out, h.disposition, raw)
		out = append(out, ' ')
		out = appendParams(out, h.dispParams, raw)
		out = append(out, ')')
	}
	switch len(h.languages) {
	case 0:
		out = append(out, " NIL"...)
	default:
		for i, l := range h.languages {
			out = append(out, [...]string{" ", " ("}[b2i(i == 0)]...)
			out = appendString(out, l, raw)
		}
		out = append(out, ')')
	}
	out = append(out, ' ')
	return appendNString(out, h.location, raw)
}

// b2i is 1 for true.
func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
