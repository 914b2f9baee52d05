package bridge

import (
	"bytes"
	"errors"

	"github.com/emersion/go-imap/v2"
)

// maxArgs bounds the arguments of a command that the bridge parses itself, with literals.
const maxArgs = 256 << 10

// collect reads what is left of a command. rest is what its first line holds.
func (c *imapConn) collect(rest []byte) (*args, error) {
	if !c.open {
		return &args{b: rest}, nil
	}
	b := bytes.Clone(rest)
	for c.open {
		if c.lit.size > int64(maxArgs-len(b)) {
			return nil, no(imap.ResponseCodeTooBig, "the arguments are too long")
		}
		if !c.lit.plus {
			if err := c.reply("+ go on\r\n"); err != nil {
				return nil, err
			}
			c.flush()
		}
		b = append(b, "\r\n"...)
		from := len(b)
		b = append(b, make([]byte, c.lit.size)...)
		for n := from; n < len(b); {
			k, err := c.readIn(b[n:])
			if n += k; err != nil {
				return nil, err
			}
		}
		line, l, err := c.readLine()
		if err == nil {
			l, err = scanLine(line)
		}
		c.follow(l)
		if errors.Is(err, errTooLong) || errors.Is(err, errNUL) || errors.Is(err, errBareCR) || errors.Is(err, errUnquoted) || errors.Is(err, errLiteral) {
			return nil, bad(err.Error())
		}
		if err != nil {
			return nil, err
		}
		b = append(b, line...)
	}
	return &args{b: b}, nil
}
