package message

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean returns text as it may be shown on a terminal: without escape sequences and
// control characters, which could move the cursor or retype what the user sees,
// without the marks that reverse the order of characters (Trojan Source,
// CVE-2021-42574), with \n as the only end of line, and valid UTF-8.
func Clean(text string) string { return clean(text, true) }

// CleanLine is Clean for one line: line breaks and tabs become blanks.
func CleanLine(text string) string {
	return strings.TrimSpace(clean(text, false))
}

func clean(text string, lines bool) string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	var b strings.Builder
	b.Grow(len(text))
	for i := 0; i < len(text); {
		if n := plainLength(text[i:], lines); n > 0 { // most of most texts
			b.WriteString(text[i : i+n])
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		if r == 0x1b || r == 0x9b {
			i += n + escapeLength(text[i+n:], r == 0x9b)
			continue
		}
		i += n
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteRune(utf8.RuneError)
		case r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029' || r == '\v' || r == '\f':
			if lines {
				b.WriteByte('\n')
			} else {
				b.WriteByte(' ')
			}
		case r == '\t':
			if lines {
				b.WriteByte('\t')
			} else {
				b.WriteByte(' ')
			}
		case unicode.Is(unicode.Cc, r) || invisible(r):
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// plainLength returns how many bytes at the beginning of s are ASCII that stays.
func plainLength(s string, lines bool) int {
	for i := range len(s) {
		if c := s[i]; (c < ' ' || c > '~') && (c != '\n' || !lines) {
			return i
		}
	}
	return len(s)
}

// escapeLength returns how many bytes after the escape character belong to its
// sequence (ECMA-48): for a control sequence all up to its final byte, for a string
// (such as a window title) all up to its terminator, else one.
func escapeLength(s string, csi bool) int {
	i := 0
	if !csi {
		if s == "" {
			return 0
		}
		switch s[0] {
		case '[':
			i = 1
		case ']', 'P', '_', '^', 'X':
			end := strings.IndexAny(s, "\a\x1b\n")
			if end < 0 || s[end] == '\n' {
				return 1
			}
			if s[end] == '\a' {
				return end + 1
			}
			if end+1 < len(s) && s[end+1] == '\\' {
				return end + 2
			}
			return end
		default:
			if s[0] < 0x20 || s[0] > 0x7e {
				return 0
			}
			return 1
		}
	}
	for i < len(s) && s[i] >= 0x20 && s[i] <= 0x3f { // parameters and intermediates
		i++
	}
	if i < len(s) && s[i] >= 0x40 && s[i] <= 0x7e {
		i++
	}
	return i
}

// invisible reports whether r changes the order of what is around it or shows nothing.
// The joiners U+200C and U+200D stay: scripts and emoji need them.
func invisible(r rune) bool {
	switch {
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, // embeddings, overrides, isolates
		r == 0x061c, r == 0x200e, r == 0x200f, r == 0xfeff, r == 0x200b,
		r >= 0xe0000 && r <= 0xe007f: // tags
		return true
	}
	return false
}

// shorten cuts text to at most n characters.
func shorten(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for i := range text {
		if n == 0 {
			return text[:i] + "…"
		}
		n--
	}
	return text
}
