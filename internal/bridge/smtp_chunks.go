package bridge

import (
	"bytes"
	"io"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"
)

// smtpChunks reads a mail that comes by BDAT (RFC 3030): bytes of which the commands say
// how many they are. It reads the commands between them too, and answers them.
type smtpChunks struct {
	c       *smtpConn
	left    int64 // of the present chunk
	total   int64 // of all so far
	last    bool
	err     error      // sticky
	instead *smtpReply // what to answer to a command that ended the mail
}

// newChunks begins a mail by the arguments of a BDAT; nil if there is none.
func (c *smtpConn) newChunks(args string) *smtpChunks {
	if !c.isAuthed() {
		c.hangUp("530 5.7.0 log in first")
		return nil
	}
	k := &smtpChunks{c: c}
	if bad := k.begin(args); bad != nil {
		c.hangUp(bad.line())
		return nil
	}
	return k
}

// begin takes the arguments of a BDAT. Where it is unclear how many bytes follow, or they
// are too many, it returns the answer with which the connection is to end, since they
// would be taken for commands.
func (k *smtpChunks) begin(args string) *smtpReply {
	f := strings.Fields(args)
	if len(f) == 0 || len(f) > 2 || len(f) == 2 && !strings.EqualFold(f[1], "LAST") {
		return reply(501, smtp.EnhancedCode{5, 5, 4}, "BDAT is followed by a size, and LAST with the last one")
	}
	size, err := strconv.ParseUint(f[0], 10, 62)
	if err != nil {
		return reply(501, smtp.EnhancedCode{5, 5, 4}, "the size of BDAT is no number")
	}
	limit := k.c.session.limit
	if int64(size) > limit {
		return tooLarge(limit)
	}
	k.left, k.last = int64(size), len(f) == 2
	if k.total += k.left; k.total > limit {
		k.err = errSMTPTooLarge // after this chunk the mail is over
	}
	return nil
}

// Read implements io.Reader.
func (k *smtpChunks) Read(p []byte) (int, error) {
	for k.err == nil && k.left == 0 {
		if k.last {
			k.err = io.EOF
		} else {
			k.c.answer("250 2.0.0 go on")
			k.err = k.next()
		}
	}
	if k.err != nil || len(p) == 0 {
		return 0, k.err
	}
	n, err := k.c.in.Read(p[:min(int64(len(p)), k.left)])
	k.left -= int64(n)
	k.err = err
	return n, nil
}

// next reads commands up to the next BDAT, or to one that ends the mail.
func (k *smtpChunks) next() error {
	for {
		line, err := k.c.readLine()
		if err != nil {
			return err
		}
		verb, rest, _ := strings.Cut(string(bytes.TrimRight(line, "\r\n")), " ")
		switch strings.ToUpper(verb) {
		case "BDAT":
			if k.instead = k.begin(rest); k.instead != nil {
				k.c.ended = true
				return errSMTPEnd
			}
			if k.err != nil || k.left > 0 || k.last {
				return k.err
			}
			k.c.answer("250 2.0.0 go on")
		case "RSET":
			k.instead = reply(250, smtp.EnhancedCode{2, 0, 0}, "the mail is forgotten")
			return errSMTPEnd
		case "QUIT":
			k.c.ended = true
			k.instead = reply(221, smtp.EnhancedCode{2, 0, 0}, "bye; the mail is forgotten")
			return errSMTPEnd
		case "NOOP":
			k.c.answer("250 2.0.0 done")
		default:
			k.c.answer("503 5.5.1 the mail is not complete: BDAT or RSET may follow")
		}
	}
}

// skip reads what is left of the present chunk, so that its answer comes at its end.
func (k *smtpChunks) skip() error {
	n, err := io.CopyN(io.Discard, k.c.in, k.left)
	k.left -= n
	return err
}
