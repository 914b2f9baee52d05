package p2p

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// errForeign is wrapped by errors for which the other side is to blame: bytes that
// no honest node sends. They cost it the connection, and nothing else.
var errForeign = errors.New("protocol violation")

// foreign makes an error that wraps errForeign. Its text never holds the bytes.
func foreign(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errForeign, fmt.Sprintf(format, args...))
}

// message is one message of our protocols: what stands behind the length.
type message struct {
	kind byte
	body []byte
}

const lengthSize = 4

// writeMessage sends a message with one Write.
func writeMessage(w io.Writer, kind byte, body []byte) error {
	b := make([]byte, lengthSize+1, lengthSize+1+len(body))
	binary.BigEndian.PutUint32(b, uint32(1+len(body)))
	b[lengthSize] = kind
	_, err := w.Write(append(b, body...))
	return err
}

// readMessage reads a message whose body has at most limit bytes.
func readMessage(r io.Reader, limit int) (message, error) {
	var head [lengthSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return message{}, err
	}
	return readRest(r, head, limit)
}

// readRest reads what follows the length of a message.
func readRest(r io.Reader, head [lengthSize]byte, limit int) (message, error) {
	n := binary.BigEndian.Uint32(head[:])
	if n < 1 || uint64(n) > uint64(limit)+1 {
		return message{}, foreign("message of %d bytes, at most %d are allowed here", n, limit+1)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return message{}, noEOF(err)
	}
	return message{kind: b[0], body: b[1:]}, nil
}

// noEOF makes of an end inside a message what it is.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// cutCount takes a u16 count of elements off the front of b.
func cutCount(b []byte, most int) (n int, rest []byte, err error) {
	if len(b) < 2 {
		return 0, nil, foreign("no count")
	}
	n = int(binary.BigEndian.Uint16(b))
	if n > most {
		return 0, nil, foreign("%d elements, at most %d are allowed", n, most)
	}
	return n, b[2:], nil
}

// cutFixed takes a u16 count and exactly that many elements of size bytes.
func cutFixed(b []byte, size, most int) (n int, rest []byte, err error) {
	n, rest, err = cutCount(b, most)
	if err == nil && len(rest) != n*size {
		err = foreign("%d elements in %d bytes", n, len(rest))
	}
	return n, rest, err
}

// cutBytes takes n bytes off the front of b.
func cutBytes(b []byte, n int) (head, rest []byte, err error) {
	if len(b) < n {
		return nil, nil, foreign("%d bytes where %d are needed", len(b), n)
	}
	return b[:n], b[n:], nil
}

func appendCount(b []byte, n int) []byte { return binary.BigEndian.AppendUint16(b, uint16(n)) }
