package noise_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"time"
)

// wire is a net.Conn in memory: it reads what was put into in and keeps what is
// written. Its reads never wait: after in comes the end of the stream.
type wire struct {
	mu sync.Mutex
	in *bytes.Buffer
	io.Reader
	out    bytes.Buffer
	closed bool
}

func newWire(in []byte) *wire {
	b := bytes.NewBuffer(in)
	return &wire{in: b, Reader: b}
}

func (w *wire) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, net.ErrClosed
	}
	return w.Reader.Read(p)
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, net.ErrClosed
	}
	return w.out.Write(p)
}

// feed appends what the connection will read next.
func (w *wire) feed(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in.Write(p)
}

// take returns what was written since the last call.
func (w *wire) take() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := bytes.Clone(w.out.Bytes())
	w.out.Reset()
	return b
}

func (w *wire) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

func (w *wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	return nil
}

func (w *wire) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (w *wire) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
