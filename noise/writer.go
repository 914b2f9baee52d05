package noise

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// flushTime is how long Close waits for a peer that does not read.
const flushTime = time.Second

// writer is the sending half of a Conn.
//
// At any time at most one goroutine, the owner, seals and sends; it owns key and the
// conn's write side while busy is true and works without the lock. What is written
// meanwhile is added to fill. The owner is flush, which runs until there is nothing
// left, or a writeMessage that found the writer idle.
//
// Sealing large writes from the caller's memory, without the copy, was measured: it
// costs as much, and the caller loses the time in which it can prepare the next write.
//
// States: idle (not busy, nothing to send) - busy - stalled (not busy, rest or fill
// to be sent, late says which deadline passed; a new deadline goes on) - failed (err).
type writer struct {
	conn     net.Conn
	key      *cipherState
	flushFn  func() // flush, bound once: a go statement with a bound method allocates
	deadline deadline

	turn sync.Mutex // of one write after the other, so that none is torn by another

	mu      sync.Mutex
	change  sync.Cond // on every change of what follows
	busy    bool
	closed  bool
	err     error  // why nothing can be sent any more
	lost    error  // why bytes that were written have not been sent
	late    error  // why sending has stopped until there is a new deadline
	fill    *batch // plaintext to be sent; nil or not empty
	sent    *batch // holds rest
	changes uint64 // of the deadline
	rest    []byte // frames of which a passed deadline cut the sending
}

func (w *writer) init(c net.Conn, key [KeySize]byte) {
	w.conn, w.key = c, newCipherState(key)
	w.change.L = &w.mu
	w.flushFn = w.flush
}

// refusal is why a write cannot go on now. Called with the lock.
func (w *writer) refusal() error {
	switch {
	case w.closed:
		return net.ErrClosed
	case w.err != nil:
		return w.err
	case w.deadline.passed():
		return os.ErrDeadlineExceeded
	default:
		return w.late
	}
}

// pending reports whether there is something to be sent. Called with the lock.
func (w *writer) pending() bool { return w.fill != nil || len(w.rest) > 0 }

func (w *writer) write(p []byte) (n int, err error) {
	w.turn.Lock()
	defer w.turn.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if err := w.refusal(); err != nil {
			return n, err
		}
		if len(p) == n {
			return n, nil
		}
		if w.fill == nil {
			w.fill = batches.Get().(*batch)
		}
		k := w.fill.add(p[n:])
		if n += k; k == 0 {
			w.change.Wait()
			continue
		}
		w.startLocked()
		if n == len(p) {
			return n, nil
		}
	}
}

func (w *writer) writeMessage(p []byte) error {
	if len(p) > MaxMessage {
		return fmt.Errorf("message of %d bytes, at most %d: %w", len(p), MaxMessage, ErrTooLong)
	}
	w.turn.Lock()
	defer w.turn.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if err := w.refusal(); err != nil {
			return err
		}
		if !w.busy && !w.pending() {
			break
		}
		w.change.Wait()
	}
	w.busy = true
	changes := w.changes
	w.mu.Unlock()
	b := batches.Get().(*batch) // has room for several of the largest frames
	frame := b.buf[:headerSize+len(p)+tagSize]
	err := sealFrame(w.key, frame, p)
	if err == nil {
		frame, err = w.send(frame)
	}
	w.mu.Lock()
	w.busy = false
	w.doneLocked(b, frame, changes, err)
	w.startLocked()
	return w.err
}

// startLocked makes somebody send what is pending.
func (w *writer) startLocked() {
	if w.busy || w.late != nil || w.err != nil || !w.pending() {
		return
	}
	w.busy = true
	go w.flushFn()
}

// flush is the owner until nothing is pending.
func (w *writer) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.pending() && w.late == nil && w.err == nil {
		b, frames := w.sent, w.rest
		sealed := len(frames) > 0
		if !sealed {
			b, w.fill = w.fill, nil
		} else {
			w.sent, w.rest = nil, nil
		}
		changes := w.changes
		w.change.Broadcast()
		w.mu.Unlock()
		var err error
		if !sealed {
			frames, err = b.seal(w.key)
		}
		if err == nil {
			frames, err = w.send(frames)
		}
		w.mu.Lock()
		w.doneLocked(b, frames, changes, err)
	}
	w.busy = false
	w.change.Broadcast()
}

// send writes frames and returns those bytes that were not sent.
func (w *writer) send(frames []byte) ([]byte, error) {
	n, err := w.conn.Write(frames)
	return frames[n:], err
}

// doneLocked notes how the sending of b has ended. changes is what w.changes was
// when it began: a deadline that was replaced meanwhile stops nothing.
func (w *writer) doneLocked(b *batch, rest []byte, changes uint64, err error) {
	switch {
	case err == nil:
	case isTimeout(err) && !w.closed:
		w.sent, w.rest = b, rest
		if changes == w.changes {
			w.late = err
		}
		w.change.Broadcast()
		return
	default:
		w.lost = err
		if w.err == nil {
			w.err = err
		}
	}
	b.n = 0
	batches.Put(b)
	w.change.Broadcast()
}

func (w *writer) setDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return net.ErrClosed
	}
	w.deadline.set(t)
	if err := w.conn.SetWriteDeadline(t); err != nil {
		return err
	}
	w.late = nil
	w.changes++
	w.startLocked()
	w.change.Broadcast()
	return nil
}

// fail makes writes fail with err.
func (w *writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.change.Broadcast()
}

// close refuses further writes, waits for what is pending for at most flushTime, and
// returns what kept it from being sent. It leaves no goroutine behind.
func (w *writer) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.change.Broadcast()
	if !w.busy && !w.pending() {
		return w.lost
	}
	end := time.Now().Add(flushTime)
	if t := w.deadline.get(); !t.IsZero() && t.Before(end) {
		end = t
	}
	w.conn.SetWriteDeadline(end)
	for w.busy {
		w.change.Wait()
	}
	if w.lost == nil && w.pending() {
		return cmp.Or(w.late, w.err)
	}
	return w.lost
}
