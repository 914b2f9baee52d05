package bridge

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"
)

var errSyntax = errors.New("syntax error")

// args are the arguments of a command, with the literals in their places.
type args struct {
	b []byte
	i int
}

func (a *args) end() bool { return a.i == len(a.b) }

// is takes a byte if it is the next one.
func (a *args) is(ch byte) bool {
	if a.i < len(a.b) && a.b[a.i] == ch {
		a.i++
		return true
	}
	return false
}

func (a *args) peek() byte {
	if a.i < len(a.b) {
		return a.b[a.i]
	}
	return 0
}

// word takes the bytes for which ok holds; there may be none.
func (a *args) word(ok func(byte) bool) string {
	from := a.i
	for a.i < len(a.b) && ok(a.b[a.i]) {
		a.i++
	}
	return string(a.b[from:a.i])
}

// atom takes an atom.
func (a *args) atom() (string, error) {
	if s := a.word(isAtomChar); s != "" {
		return s, nil
	}
	return "", errSyntax
}

// astring takes an atom, a quoted string or a literal.
func (a *args) astring() (string, error) {
	switch a.peek() {
	case '"':
		return a.quoted()
	case '{':
		return a.literal()
	}
	// 8-bit bytes are not allowed here; that they are UTF-8 is what older programs mean.
	s := a.word(func(ch byte) bool { return isAtomChar(ch) || ch == ']' || ch >= 0x80 })
	if s == "" {
		return "", errSyntax
	}
	return s, nil
}

func (a *args) quoted() (string, error) {
	var s []byte
	for a.i++; a.i < len(a.b); a.i++ {
		switch ch := a.b[a.i]; ch {
		case '"':
			a.i++
			return string(s), nil
		case '\\':
			if a.i++; a.i == len(a.b) {
				return "", errSyntax
			}
			s = append(s, a.b[a.i])
		default:
			s = append(s, ch)
		}
	}
	return "", errSyntax
}

func (a *args) literal() (string, error) {
	a.i++
	digits := a.word(func(ch byte) bool { return ch >= '0' && ch <= '9' })
	n, err := strconv.Atoi(digits)
	a.is('+')
	if err != nil || !a.is('}') || !a.is('\r') || !a.is('\n') || n > len(a.b)-a.i {
		return "", errSyntax
	}
	s := string(a.b[a.i : a.i+n])
	a.i += n
	return s, nil
}

// number takes a number of up to 63 bits.
func (a *args) number() (int64, error) {
	n, err := strconv.ParseInt(a.word(func(ch byte) bool { return ch >= '0' && ch <= '9' }), 10, 64)
	if err != nil {
		return 0, errSyntax
	}
	return n, nil
}

func isSetChar(ch byte) bool { return ch >= '0' && ch <= '9' || ch == ':' || ch == ',' || ch == '*' }

// set takes a sequence set or "$".
func (a *args) set(uid bool) (imap.NumSet, error) {
	if a.is('$') {
		return imap.SearchRes(), nil
	}
	return parseSet(a.word(isSetChar), uid)
}

// parseSet reads a set. The ranges stay in the order they have, "*" is 0.
func parseSet(s string, uid bool) (imap.NumSet, error) {
	var seqs imap.SeqSet
	var uids imap.UIDSet
	for r := range strings.SplitSeq(s, ",") {
		first, last, ranged := strings.Cut(r, ":")
		start, err := parseSetNumber(first)
		stop := start
		if ranged && err == nil {
			stop, err = parseSetNumber(last)
		}
		if err != nil {
			return nil, err
		}
		if uid {
			uids = append(uids, imap.UIDRange{Start: imap.UID(start), Stop: imap.UID(stop)})
		} else {
			seqs = append(seqs, imap.SeqRange{Start: start, Stop: stop})
		}
	}
	if uid {
		return uids, nil
	}
	return seqs, nil
}

func parseSetNumber(s string) (uint32, error) {
	if s == "*" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 || n > math.MaxUint32 {
		return 0, errSyntax
	}
	return uint32(n), nil
}

// list takes a parenthesized list and calls fn for each of its items.
func (a *args) list(fn func() error) error {
	if !a.is('(') {
		return errSyntax
	}
	for {
		if err := fn(); err != nil {
			return err
		}
		switch {
		case a.is(')'):
			return nil
		case !a.is(' '):
			return errSyntax
		}
	}
}
