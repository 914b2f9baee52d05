package invite

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// exchangeLimit is how long the exchange may take at most. It is the host's as well,
// which else would wait for a guest that says nothing.
const exchangeLimit = 30 * time.Second

// Ask sends a request and returns the reply. conn is of version 4, as port.Dial
// returns it. If the host refuses, the error wraps [ErrUsed], [ErrEnded],
// [ErrNotAllowed] or [ErrLater]. Ask does not close conn, and afterwards conn can only be closed.
func Ask(ctx context.Context, conn net.Conn, kind Kind) (*Reply, error) {
	done, err := bound(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("redeem an invitation: %w", err)
	}
	defer done()
	reply, err := ask(conn, kind)
	if err != nil {
		return nil, fmt.Errorf("redeem an invitation: %w", cause(ctx, err))
	}
	return reply, nil
}

func ask(conn net.Conn, kind Kind) (*Reply, error) {
	if _, err := conn.Write([]byte{byte(kind)}); err != nil {
		return nil, err
	}
	var length [4]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > MaxReply {
		return nil, fmt.Errorf("%w: %d bytes announced", ErrFormat, n)
	}
	// Not allocated at once: memory grows with what really comes.
	var b bytes.Buffer
	if _, err := io.CopyN(&b, conn, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return ParseReply(b.Bytes(), kind)
}

// Answer reads the request on conn, lets decide answer it, and sends that. An error
// of decide that wraps [ErrUsed], [ErrEnded] or [ErrNotAllowed] tells the guest so; by
// any other the guest is asked to come again later, and Answer returns it. The reply
// of decide for [BeUser] may be nil. Answer does not close conn.
func Answer(ctx context.Context, conn net.Conn, decide func(context.Context, Kind) (*Reply, error)) error {
	done, err := bound(ctx, conn)
	if err != nil {
		return fmt.Errorf("answer an invitation: %w", err)
	}
	defer done()
	if err := answer(ctx, conn, decide); err != nil {
		return fmt.Errorf("answer an invitation: %w", cause(ctx, err))
	}
	return nil
}

func answer(ctx context.Context, conn net.Conn, decide func(context.Context, Kind) (*Reply, error)) error {
	var request [1]byte
	if _, err := io.ReadFull(conn, request[:]); err != nil {
		return err
	}
	kind := Kind(request[0])
	if kind != JoinMesh && kind != BeUser {
		return errors.Join(fmt.Errorf("%w: request %d", ErrNotAllowed, kind), send(conn, []byte{codeOf(ErrNotAllowed)}))
	}
	reply, err := decide(ctx, kind)
	if err != nil {
		return errors.Join(err, send(conn, []byte{codeOf(err)}))
	}
	if reply == nil {
		reply = new(Reply)
	}
	b, err := reply.Encode(kind)
	if err != nil {
		return errors.Join(err, send(conn, []byte{codeOf(ErrLater)}))
	}
	return send(conn, b)
}

func send(conn net.Conn, b []byte) error {
	_, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

// bound makes conn fail at the limit and when ctx is done, until done is called.
func bound(ctx context.Context, conn net.Conn) (done func(), err error) {
	if err := conn.SetDeadline(time.Now().Add(exchangeLimit)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }, nil
}

// cause is the reason of ctx's end, if that is why err came.
func cause(ctx context.Context, err error) error {
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
