package noise

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

// restSize is the size of the buffer in which a connection waits for the next
// frame. It is also as much as small exchanges need.
const restSize = 512

// readSize is the size of the buffer that a busy connection reads into: several
// frames of a stream, at least one of the largest.
const readSize = 256 << 10

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// reader is the receiving half of a Conn. While the peer is silent it holds small
// only; what is longer goes to a large buffer, which is given back when it is empty.
type reader struct {
	conn     net.Conn
	deadline deadline

	mu    sync.Mutex
	key   *cipherState
	err   error // sticky: the end of the stream, or what is wrong with it
	small []byte
	large *[readSize]byte
	buf   []byte // small or large
	r, w  int    // buf[r:w] is not opened yet
	plain []byte // opened and not yet taken; part of buf[:r]
}

func (r *reader) init(c net.Conn, key [KeySize]byte) { r.conn, r.key = c, newCipherState(key) }

func (r *reader) read(p []byte) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deadline.passed() {
		return 0, os.ErrDeadlineExceeded
	}
	for {
		k := copy(p[n:], r.plain)
		r.plain = r.plain[k:]
		if n += k; n == len(p) {
			return n, nil
		}
		sealed, err := r.next()
		switch {
		case err != nil || sealed == nil && n > 0:
			if n > 0 { // an error shows up again at the next read
				return n, nil
			}
			return 0, err
		case sealed == nil:
			if err := r.more(); err != nil {
				return 0, err
			}
			continue
		}
		if len(sealed)-tagSize <= len(p)-n { // open it where it is wanted
			m, err := r.open(p[n:n], sealed)
			if n += len(m); err != nil || n == len(p) {
				return n, unlessSome(n, err)
			}
			continue
		}
		if r.plain, err = r.open(sealed[:0], sealed); err != nil {
			return n, unlessSome(n, err)
		}
	}
}

func unlessSome(n int, err error) error {
	if n > 0 {
		return nil
	}
	return err
}

func (r *reader) readMessage() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deadline.passed() {
		return nil, os.ErrDeadlineExceeded
	}
	if len(r.plain) > 0 {
		m := append([]byte(nil), r.plain...)
		r.plain = nil
		return m, nil
	}
	for {
		sealed, err := r.next()
		if err != nil {
			return nil, err
		}
		if sealed != nil {
			return r.open(make([]byte, 0, len(sealed)-tagSize), sealed)
		}
		if err := r.more(); err != nil {
			return nil, err
		}
	}
}

// next takes the next frame's ciphertext out of the buffer, nil if it is not all there.
func (r *reader) next() ([]byte, error) {
	have := r.buf[r.r:r.w]
	if len(have) < headerSize {
		return nil, r.err
	}
	n := int(binary.BigEndian.Uint16(have))
	if n < tagSize || n > maxFrame {
		r.err = fmt.Errorf("%w: length %d", ErrFrame, n)
		return nil, r.err
	}
	if len(have) < headerSize+n {
		return nil, r.err
	}
	r.r += headerSize + n
	return have[headerSize : headerSize+n], nil
}

func (r *reader) open(dst, sealed []byte) ([]byte, error) {
	plain, err := r.key.open(dst, sealed)
	if err != nil {
		r.r, r.w = 0, 0 // what follows is not looked at
		r.err = fmt.Errorf("%w: %w", ErrFrame, err)
		return nil, r.err
	}
	return plain, nil
}

// more reads once from the connection below. A passed deadline is no lasting error.
func (r *reader) more() error {
	if r.err != nil {
		return r.err
	}
	r.makeRoom()
	n, err := r.conn.Read(r.buf[r.w:])
	r.w += n
	if n > 0 || err == nil {
		return nil // an error comes again
	}
	if isTimeout(err) {
		return err
	}
	if err == io.EOF && r.r < r.w {
		err = fmt.Errorf("in a frame: %w", io.ErrUnexpectedEOF)
	}
	r.err = err
	r.release()
	return err
}

// makeRoom chooses the buffer to read into and makes room in it.
func (r *reader) makeRoom() {
	if r.r == r.w {
		r.release()
		if r.small == nil {
			r.small = make([]byte, restSize)
		}
		r.buf, r.r, r.w = r.small, 0, 0
		return
	}
	if r.large == nil {
		r.large = readBuffers.Get().(*[readSize]byte)
		r.w = copy(r.large[:], r.buf[r.r:r.w])
		r.buf, r.r = r.large[:], 0
		return
	}
	if len(r.buf)-r.r < headerSize+maxFrame { // the frame might not fit behind r
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
}

// release gives the large buffer back. Nothing of it is in use any more.
func (r *reader) release() {
	if r.large != nil {
		readBuffers.Put(r.large)
	}
	r.large, r.buf, r.plain, r.r, r.w = nil, nil, nil, 0, 0
}
