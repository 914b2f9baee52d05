package bridge

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// errSmuggling is the error for text in which some programs would see the end of a mail
// and others none: a dot between ends of lines that are not all CR LF. What comes after
// would be text for the ones and commands for the others.
var errSmuggling = errors.New("a dot between bare line ends")

// errSMTPTooLarge is the error for text beyond the limit.
var errSMTPTooLarge = errors.New("the mail is too large")

// smtpData reads the text of a mail as DATA sends it (RFC 5321, 4.5.2): CR LF alone ends a
// line, a dot that begins one is taken out, and CR LF dot CR LF ends the mail. All other
// bytes stay as they are, in lines of any length.
type smtpData struct {
	in   *bufio.Reader
	left int64   // how many bytes there may be
	tail [2]byte // the last two bytes as sent
	pass bool    // the next byte is text, whatever it is
	err  error   // sticky
}

func newSMTPData(in *bufio.Reader, limit int64) *smtpData {
	return &smtpData{in: in, left: limit, tail: [2]byte{'\r', '\n'}}
}

// Read implements io.Reader.
func (d *smtpData) Read(p []byte) (n int, err error) {
	for n < len(p) && d.err == nil {
		if d.in.Buffered() == 0 && n > 0 {
			return n, nil // what is there first
		}
		var k int
		k, d.err = d.some(p[n:])
		n += k
	}
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, d.err
}

// some copies bytes up to the next dot that may mean something, or deals with that dot.
func (d *smtpData) some(p []byte) (int, error) {
	if _, err := d.in.Peek(1); err != nil {
		return 0, unexpected(err)
	}
	b, _ := d.in.Peek(min(d.in.Buffered(), len(p)))
	n := len(b)
	for i := 0; i < len(b); {
		k := bytes.IndexByte(b[i:], '.')
		if k < 0 {
			break
		}
		i += k
		if !(i == 0 && d.pass) && isLineEnd(d.before(b, i)) {
			n = i
			break
		}
		i++
	}
	if n == 0 {
		return 0, d.dot()
	}
	if n = int(min(int64(n), d.left)); n == 0 {
		return 0, errSMTPTooLarge
	}
	d.left -= int64(n)
	copy(p, b[:n])
	if n == 1 {
		d.tail = [2]byte{d.tail[1], b[0]}
	} else {
		d.tail = [2]byte(b[n-2 : n])
	}
	d.pass = false
	d.in.Discard(n)
	return n, nil
}

// before returns the byte before b[i].
func (d *smtpData) before(b []byte, i int) byte {
	if i > 0 {
		return b[i-1]
	}
	return d.tail[1]
}

func isLineEnd(c byte) bool { return c == '\r' || c == '\n' }

// dot deals with a dot behind a CR or LF.
func (d *smtpData) dot() error {
	next, err := d.in.Peek(2)
	if err != nil {
		return unexpected(err)
	}
	line := d.tail == [2]byte{'\r', '\n'}
	if !isLineEnd(next[1]) {
		if line {
			d.in.Discard(1)
		}
		// The next byte is text. Of two dots the second is not looked at again.
		d.pass = true
		return nil
	}
	end, err := d.in.Peek(3)
	if err != nil {
		return unexpected(err)
	}
	if !line || string(end[1:]) != "\r\n" {
		return errSmuggling
	}
	d.in.Discard(3)
	return io.EOF
}

// drain reads on to the end of the mail, so that the answer comes when the program
// expects it. It reports whether the end was found.
func (d *smtpData) drain(limit int64) bool {
	if d.err == nil || errors.Is(d.err, errSMTPTooLarge) || errors.Is(d.err, errSmuggling) {
		d.left = limit
		for d.err = nil; d.err == nil || errors.Is(d.err, errSmuggling); {
			if errors.Is(d.err, errSmuggling) {
				d.pass, d.err = true, nil
			}
			var scrap [4096]byte
			_, d.err = d.some(scrap[:])
		}
	}
	return errors.Is(d.err, io.EOF)
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
