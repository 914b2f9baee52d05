package bridge

import (
	"bytes"
	"slices"
	"strings"
)

// field is a field of a header: raw with its line ends and the lines that continue it.
type field struct {
	name string // as it stands there
	raw  []byte
	at   int // where the value begins
}

// value returns the unfolded value. NUL, which no answer may hold, is left out.
func (f field) value() string {
	out := make([]byte, 0, len(f.raw)-f.at)
	for _, ch := range f.raw[f.at:] {
		if ch != 0 && ch != '\r' && ch != '\n' {
			out = append(out, ch)
		}
	}
	return string(bytes.TrimSpace(out))
}

// eachField calls fn for the fields of a header, in order, until it returns false. Lines
// that are no fields have no name. The blank line at the end is returned.
func eachField(header []byte, fn func(field) bool) (blank []byte) {
	for len(header) > 0 {
		n := lineLength(header)
		if len(bytes.TrimRight(header[:n], "\r\n")) == 0 {
			return header[:n]
		}
		for n < len(header) && (header[n] == ' ' || header[n] == '\t') {
			n += lineLength(header[n:])
		}
		f := field{raw: header[:n]}
		if i := bytes.IndexByte(f.raw, ':'); i > 0 {
			if name := bytes.TrimRight(f.raw[:i], " \t"); !bytes.ContainsAny(name, " \t\r\n") {
				f.name, f.at = string(name), i+1
			}
		}
		if !fn(f) {
			return nil
		}
		header = header[n:]
	}
	return nil
}

// selectFields returns the fields of those names, or the others, as they stand there, and
// the blank line.
func selectFields(header []byte, names []string, not bool) []byte {
	var out []byte
	blank := eachField(header, func(f field) bool {
		if slices.Contains(names, strings.ToLower(f.name)) != not {
			out = append(out, f.raw...)
		}
		return true
	})
	return append(out, blank...)
}

func lineLength(b []byte) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	return len(b)
}

// parsePartHeader reads the fields of a part that BODYSTRUCTURE shows.
func parsePartHeader(h *partHeader, header []byte) {
	typed := false
	eachField(header, func(f field) bool {
		switch strings.ToLower(f.name) {
		case "content-type":
			if !typed { // the first one counts
				if kind, sub, params, ok := parseType(f.value()); ok {
					h.kind, h.subtype, h.params, typed = kind, sub, params, true
				}
			}
		case "content-transfer-encoding":
			h.encoding = strings.ToLower(firstToken(f.value()))
		case "content-id":
			h.id = f.value()
		case "content-description":
			h.description = f.value()
		case "content-disposition":
			h.disposition, h.dispParams = parseParams(f.value())
		case "content-location":
			h.location = f.value()
		case "content-language":
			for l := range strings.SplitSeq(f.value(), ",") {
				if l = strings.TrimSpace(l); l != "" && len(h.languages) < 16 {
					h.languages = append(h.languages, l)
				}
			}
		}
		return true
	})
	if h.kind == "" {
		h.kind, h.subtype = "text", "plain"
	}
	if h.kind == "text" && len(h.params) == 0 && !typed {
		h.params = []param{{"charset", "us-ascii"}}
	}
}

// parseType reads the value of Content-Type.
func parseType(v string) (kind, sub string, params []param, ok bool) {
	full, params := parseParams(v)
	kind, sub, ok = strings.Cut(strings.ToLower(full), "/")
	kind, sub = strings.TrimSpace(kind), strings.TrimSpace(sub)
	if !ok || !isToken(kind) || !isToken(sub) {
		return "", "", nil, false
	}
	return kind, sub, params, true
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, s[i]) >= 0 {
			return false
		}
	}
	return s != ""
}

func firstToken(s string) string {
	if i := strings.IndexAny(s, " \t;("); i >= 0 {
		s = s[:i]
	}
	return s
}

// parseParams reads "value; key=value; key="value"", leaving RFC 2231 to the program. It
// takes what it can of what is broken.
func parseParams(s string) (value string, params []param) {
	value, s, more := strings.Cut(s, ";")
	value = strings.TrimSpace(stripComment(value))
	for more && len(params) < 64 {
		var key, v string
		key, s, more = cutParamKey(s)
		if !more {
			break
		}
		v, s, more = cutParamValue(s)
		if isToken(key) {
			params = append(params, param{strings.ToLower(key), v})
		}
	}
	return value, params
}

func stripComment(s string) string {
	if i := strings.IndexByte(s, '('); i > 0 {
		return s[:i]
	}
	return s
}

func cutParamKey(s string) (key, rest string, ok bool) {
	for {
		i := strings.IndexAny(s, "=;")
		if i < 0 {
			return "", "", false
		}
		if s[i] == '=' {
			return strings.TrimSpace(s[:i]), strings.TrimLeft(s[i+1:], " \t"), true
		}
		s = s[i+1:]
	}
}

func cutParamValue(s string) (v, rest string, more bool) {
	if !strings.HasPrefix(s, `"`) {
		v, rest, more = strings.Cut(s, ";")
		return strings.TrimSpace(stripComment(v)), rest, more
	}
	var b strings.Builder
	i := 1
	for ; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	_, rest, more = strings.Cut(s[min(i+1, len(s)):], ";")
	return b.String(), rest, more
}
