package bridge

import (
	"strings"

	"github.com/emersion/go-imap/v2"
)

// no is the answer NO with a response code.
func no(code imap.ResponseCode, text string) error {
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: oneLine(text)}
}

// bad is the answer to a command that is wrong in itself.
func bad(text string) error {
	return &imap.Error{Type: imap.StatusResponseTypeBad, Text: oneLine(text)}
}

// oneLine makes text fit for a response line.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		if r > 0x7f { // not every program reads UTF-8 here
			return '?'
		}
		return r
	}, text)
}

var errReadOnly = no(imap.ResponseCodeNoPerm, "the folder is open for reading only")
