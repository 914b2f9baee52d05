package noise

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// MaxMessage is the largest plaintext of one frame (FORMAT.md section 5.2).
const MaxMessage = maxFrame - tagSize

const (
	headerSize = 2     // u16, the length of the ciphertext that follows
	tagSize    = 16    // of ChaCha20-Poly1305
	maxFrame   = 65533 // largest ciphertext of a frame
)

// ErrFrame is wrapped by the errors for a frame that is not the peer's next one. It
// ends the connection.
var ErrFrame = errors.New("frame is damaged")

// Conn is an authenticated, encrypted connection, made by [Client] or [Server]. The
// key of each direction is changed after every frame.
//
// It is a net.Conn: any number of goroutines may use it, deadlines work, and after
// Close every method fails with net.ErrClosed. Read and Write carry a stream of
// bytes:
//
//   - Write returns when the bytes are in a buffer of bounded size. They are on their
//     way at once, without a later Write, in frames that gather what was written while
//     the one before was being sent. An error of the network shows up at the next
//     Write, or at Close.
//   - A write deadline that passes does not break the stream: what Write has reported
//     as written is sent on once there is a new deadline.
//   - Close sends what is buffered, for at most a second.
//
// [Conn.WriteMessage] and [Conn.ReadMessage] are for protocols in which one frame is
// one message. The end of a stream is not authenticated: who can cut the wire can end it at
// any byte, so protocols on top say themselves when they are done.
//
// A connection at rest holds half a kilobyte for reading and no goroutine.
type Conn struct {
	conn   net.Conn
	peer   PublicKey
	id     []byte
	closed atomic.Bool
	in     reader
	out    writer
}

func newConn(c net.Conn, peer PublicKey, id []byte, send, receive [KeySize]byte) *Conn {
	conn := &Conn{conn: c, peer: peer, id: append([]byte(nil), id...)}
	conn.in.init(c, receive)
	conn.out.init(c, send)
	return conn
}

// PeerKey returns the peer's static key.
func (c *Conn) PeerKey() PublicKey { return c.peer }

// SessionID returns the hash of the handshake, 64 bytes, the same on both sides and
// on no other connection.
func (c *Conn) SessionID() []byte { return append([]byte(nil), c.id...) }

// LocalAddr returns the address of the connection below.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr returns the address of the connection below.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// Read reads from the stream. Frames of no bytes are passed over.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	if err != nil {
		err = c.readError(err)
	}
	return n, err
}

// ReadMessage returns the plaintext of exactly one frame, maybe empty, in memory of
// the caller's. After a Read that took a part of a frame it returns the rest of it.
func (c *Conn) ReadMessage() ([]byte, error) {
	m, err := c.in.readMessage()
	if err != nil {
		return nil, c.readError(err)
	}
	return m, nil
}

// readError is what a reader is told. A damaged frame closes the connection below,
// in both directions.
func (c *Conn) readError(err error) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	if errors.Is(err, ErrFrame) {
		c.out.fail(err)
		c.conn.Close()
	}
	return err
}

// Write appends p to the stream.
func (c *Conn) Write(p []byte) (int, error) { return c.out.write(p) }

// WriteMessage sends p, maybe empty, as exactly one frame, and returns when it is
// handed to the connection below. More than MaxMessage bytes are refused.
func (c *Conn) WriteMessage(p []byte) error { return c.out.writeMessage(p) }

// Close sends what is buffered, for at most a second and not beyond the write
// deadline, and closes the connection below. It returns the error that kept written
// bytes from being sent, if there was one.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	c.conn.SetReadDeadline(past) // wakes readers
	lost := c.out.close()
	if err := c.conn.Close(); lost == nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return lost
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline sets the deadline of reads, also of those under way.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	c.in.deadline.set(t)
	return c.conn.SetReadDeadline(t)
}

// SetWriteDeadline sets the deadline of writes, also of those under way and of bytes
// that are buffered.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	return c.out.setDeadline(t)
}

var past = time.Unix(1, 0)

// deadline is a deadline that is cheap to ask while there is none. Buffers answer
// without the connection below, which would tell.
type deadline struct{ at atomic.Pointer[time.Time] }

func (d *deadline) set(t time.Time) {
	if t.IsZero() {
		d.at.Store(nil)
		return
	}
	d.at.Store(&t)
}

// get returns the deadline; the zero time is none.
func (d *deadline) get() time.Time {
	if t := d.at.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

func (d *deadline) passed() bool {
	t := d.at.Load()
	return t != nil && time.Until(*t) <= 0
}

// isTimeout reports whether a deadline has passed. That a TCP peer is gone
// (ETIMEDOUT) is a timeout to package net, but one that no new deadline mends.
func isTimeout(err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	var n net.Error
	return errors.As(err, &n) && n.Timeout() && !errors.Is(err, syscall.ETIMEDOUT)
}
