package port

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/asmtp/asmtp/noise"
)

// tryTimeout bounds one try of a handshake: an honest node answers within a round trip
// and an fsync, a refusing one never.
const tryTimeout = 4 * time.Second

// ErrNoAnswer is wrapped by Dial's errors for a connection that was opened and on
// which nobody answered. The caller cannot know why: nothing of ours runs there, or
// another node, or this side is not admitted.
var ErrNoAnswer = errors.New("no answer")

// Dial connects to addr over TCP and runs the initiator's handshake with payload
// behind a stamp. Without an answer it tries once more with a new stamp, since the
// first may have been overtaken. reply is the payload of the node's answer. Errors are
// those of net.Dial, or wrap [ErrNoAnswer] or [noise.ErrWrongPeer].
func Dial(ctx context.Context, addr string, p noise.Params, own *noise.PrivateKey, peer noise.PublicKey, stamps StampSource, payload []byte) (*noise.Conn, []byte, error) {
	var last error
	for range 2 {
		conn, reply, err := dialOnce(ctx, addr, p, own, peer, stamps, payload)
		if err == nil {
			return conn, reply, nil
		}
		last = fmt.Errorf("connect to %s: %w", addr, err)
		if !errors.Is(err, ErrNoAnswer) || ctx.Err() != nil {
			break
		}
	}
	return nil, nil, last
}

func dialOnce(ctx context.Context, addr string, p noise.Params, own *noise.PrivateKey, peer noise.PublicKey, stamps StampSource, payload []byte) (*noise.Conn, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	stamp, err := stamps.NextStamp()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("draw a stamp: %w", err), c.Close())
	}
	conn, reply, err := noise.Client(ctx, c, p, own, peer, append(packStamp(stamp), payload...))
	if err == nil {
		// The first frame proves that the first message was no replay.
		err = conn.WriteMessage(nil)
	}
	if err != nil {
		c.Close()
		if errors.Is(err, noise.ErrWrongPeer) || errors.Is(err, noise.ErrParams) {
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	return conn, reply, nil
}
