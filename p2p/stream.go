package p2p

import (
	"context"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/asmtp/asmtp/noise"
)

const (
	// messageTimeout bounds one message: 64 KiB at 2 KiB/s.
	messageTimeout = 30 * time.Second
	// maxStreams is how many streams of one protocol a peer may have open with us.
	maxStreams = 4
	// retryMin and retryMax bound the pause before a stream that failed is opened again.
	retryMin = time.Second
	retryMax = 30 * time.Second
)

// timed is a stream on which every message has its own deadline.
type timed struct {
	s interface {
		io.ReadWriter
		SetReadDeadline(time.Time) error
		SetWriteDeadline(time.Time) error
	}
	limit time.Duration // for one message
	end   time.Time     // of all; zero: none
}

// replaced reports whether the connection of the stream is no more. If the neighbour is still
// one, it has another: nobody is to blame for what was on its way.
func (t timed) replaced() bool {
	s, ok := t.s.(network.Stream)
	return ok && s.Conn().IsClosed()
}

// deadline is when a message that begins now has to be through.
func (t timed) deadline() time.Time {
	d := time.Now().Add(t.limit)
	if !t.end.IsZero() && t.end.Before(d) {
		return t.end
	}
	return d
}

// write sends a message.
func (t timed) write(kind byte, body []byte) error {
	if err := t.s.SetWriteDeadline(t.deadline()); err != nil {
		return err
	}
	return writeMessage(t.s, kind, body)
}

// read reads a message that the other side owes us.
func (t timed) read(limit int) (message, error) {
	if err := t.s.SetReadDeadline(t.deadline()); err != nil {
		return message{}, err
	}
	m, err := readMessage(t.s, limit)
	return m, noEOF(err)
}

// last reads a message that the other side owes us if it does not end the stream: then
// the error is io.EOF.
func (t timed) last(limit int) (message, error) {
	if err := t.s.SetReadDeadline(t.deadline()); err != nil {
		return message{}, err
	}
	return readMessage(t.s, limit)
}

// expect reads a message of one kind.
func (t timed) expect(kind byte, limit int) ([]byte, error) {
	m, err := t.read(limit)
	if err != nil {
		return nil, err
	}
	if m.kind != kind {
		return nil, foreign("message %d where %d is due", m.kind, kind)
	}
	return m.body, nil
}

// next waits for the next request, for as long as the stream lives. io.EOF is its
// orderly end.
func (t timed) next(limit int) (message, error) {
	if err := t.s.SetReadDeadline(time.Time{}); err != nil {
		return message{}, err
	}
	var head [lengthSize]byte
	if _, err := io.ReadFull(t.s, head[:1]); err != nil {
		return message{}, err
	}
	if err := t.s.SetReadDeadline(t.deadline()); err != nil {
		return message{}, err
	}
	if _, err := io.ReadFull(t.s, head[1:]); err != nil {
		return message{}, noEOF(err)
	}
	return readRest(t.s, head, limit)
}

// streamOf counts the streams of a peer.
type streamOf struct {
	key noise.PublicKey
	id  protocol.ID
}

// handle serves a protocol on the streams that others open.
func (h *Host) handle(id protocol.ID, serve func(ctx context.Context, key noise.PublicKey, t timed) error) {
	h.libp2p.SetStreamHandler(id, func(s network.Stream) {
		key, err := nodeKey(s.Conn().RemotePeer())
		if err != nil || !h.enterStream(streamOf{key, id}) {
			s.Reset()
			return
		}
		defer h.leaveStream(streamOf{key, id})
		stop := context.AfterFunc(h.ctx, func() { s.Reset() })
		defer stop()
		err = serve(h.ctx, key, timed{s: s, limit: h.timeout})
		if err == nil || err == io.EOF {
			s.Close()
			return
		}
		s.Reset()
		h.fault(key, string(id), err)
	})
}

func (h *Host) enterStream(k streamOf) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.streams[k] >= maxStreams {
		return false
	}
	h.streams[k]++
	h.wg.Add(1)
	return true
}

func (h *Host) leaveStream(k streamOf) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[k]--; h.streams[k] == 0 {
		delete(h.streams, k)
	}
	h.wg.Done()
}

// keepStream runs session on a stream of its own to n, and on another one when that
// failed, until n is gone or session returns nil.
func (n *neighbour) keepStream(id protocol.ID, session func(ctx context.Context, t timed) error) {
	pause := retryMin
	for n.ctx.Err() == nil {
		began := time.Now()
		err := n.onStream(id, session)
		if err == nil {
			return
		}
		n.h.fault(n.key, string(id), err)
		if time.Since(began) > retryMax {
			pause = retryMin
		}
		if !wait(n.ctx, jitter(pause)) {
			return
		}
		pause = min(2*pause, retryMax)
	}
}

func (n *neighbour) onStream(id protocol.ID, session func(ctx context.Context, t timed) error) error {
	ctx, cancel := context.WithTimeout(n.ctx, messageTimeout)
	defer cancel()
	s, err := n.h.libp2p.NewStream(network.WithNoDial(ctx, "only to neighbours"), n.id, id)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(n.ctx, func() { s.Reset() })
	defer stop()
	if err := session(n.ctx, timed{s: s, limit: n.h.timeout}); err != nil {
		s.Reset()
		return err
	}
	return s.Close()
}
