package bridge

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// literal is what a line announces at its end: that so many bytes follow.
type literal struct {
	there bool
	size  int64
	plus  bool // the bytes follow without being asked for (RFC 7888)
}

var (
	errNUL      = errors.New("a line must not hold NUL")
	errBareCR   = errors.New("a line must not hold a bare CR")
	errUnquoted = errors.New("a quoted string ends in its line")
	errLiteral  = errors.New("the literal is too long")
)

// scanLine looks at one line of a command, without its line end: whether go-imap will
// find its end where it is, and whether a literal follows. go-imap reads a quoted string
// over line ends; then what one command quotes would become the next command.
func scanLine(line []byte) (literal, error) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case 0:
			return literal{}, errNUL
		case '\r':
			return literal{}, errBareCR
		case '"':
			quoted = !quoted
		case '\\':
			if quoted {
				i++
			}
		}
	}
	if quoted {
		return literal{}, errUnquoted
	}
	return endLiteral(line)
}

// endLiteral reads the {n} or {n+} that a line ends with.
func endLiteral(line []byte) (literal, error) {
	if len(line) == 0 || line[len(line)-1] != '}' {
		return literal{}, nil
	}
	open := bytes.LastIndexByte(line, '{')
	if open < 0 {
		return literal{}, nil
	}
	digits := line[open+1 : len(line)-1]
	plus := len(digits) > 0 && digits[len(digits)-1] == '+'
	if plus {
		digits = digits[:len(digits)-1]
	}
	if len(digits) == 0 || bytes.ContainsFunc(digits, func(r rune) bool { return r < '0' || r > '9' }) {
		return literal{}, nil // not a literal; go-imap will refuse the line
	}
	if len(digits) > 10 {
		return literal{}, errLiteral
	}
	n, err := strconv.ParseInt(string(digits), 10, 64)
	return literal{there: true, size: n, plus: plus}, err
}

// splitCommand returns the tag and the name, in upper case, of a command's first line,
// and what follows them: "UID FETCH" and the like are one name.
func splitCommand(line []byte) (tag, name string, rest []byte, ok bool) {
	t, rest, _ := bytes.Cut(line, []byte{' '})
	n, rest, _ := bytes.Cut(rest, []byte{' '})
	if !isTag(t) {
		return "", "", nil, false
	}
	if tag = string(t); !isAtom(n) {
		return tag, "", nil, false
	}
	name = strings.ToUpper(string(n))
	if name == "UID" {
		n, more, _ := bytes.Cut(rest, []byte{' '})
		if !isAtom(n) {
			return tag, "", nil, false
		}
		name, rest = "UID "+strings.ToUpper(string(n)), more
	}
	return tag, name, rest, true
}

func isTag(b []byte) bool { return isAtom(b) && len(b) <= 128 && bytes.IndexByte(b, '+') < 0 }

func isAtom(b []byte) bool {
	for _, ch := range b {
		if !isAtomChar(ch) {
			return false
		}
	}
	return len(b) > 0
}

// isAtomChar is ATOM-CHAR of RFC 9051.
func isAtomChar(ch byte) bool {
	return ch > ' ' && ch < 0x7f && strings.IndexByte(`(){%*"\]`, ch) < 0
}
