package clientapi

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/asmtp/asmtp/internal/clientapi/nodepb"
)

// answerLimit is how long a node may take for the next message that is due: long enough
// for a small machine that searches a full store. Pings tell only that it is connected,
// not that its disk answers; without a limit it would keep a client from other nodes.
const answerLimit = 3 * time.Minute

// statusLimit is answerLimit for the status, which costs a node nothing.
const statusLimit = 30 * time.Second

// patience ends a call of which a message is due for too long.
type patience struct {
	limit time.Duration
	timer *time.Timer
}

// patient returns a context for one call. Its end is not awaited between messages.
func (c *Client) patient(ctx context.Context) (context.Context, *patience, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &patience{limit: c.limit}
	p.timer = time.AfterFunc(p.limit, func() { cancel(stalled(p.limit)) })
	p.timer.Stop()
	return ctx, p, func() { p.timer.Stop(); cancel(nil) }
}

func stalled(limit time.Duration) error {
	return fmt.Errorf("%w: the node has not answered for %v", ErrUnavailable, limit)
}

// during waits for what f waits for, but not for ever. A nil p has no limit.
func during[T any](p *patience, f func() (T, error)) (T, error) {
	if p != nil {
		p.timer.Reset(p.limit)
		defer p.timer.Stop()
	}
	return f()
}

// limited is the limit of calls with one answer.
func (c *Client) limited(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	limit := c.limit
	if method == nodepb.Node_Status_FullMethodName {
		limit = min(limit, statusLimit)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := invoke(limited, method, request, reply, conn, o...)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		return stalled(limit)
	}
	return err
}
