package node

import (
	"context"
	"log/slog"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/spool"
	"github.com/asmtp/asmtp/noise"
)

var FullAt = fullAt

// WarnOfRoom is what a node that logs to log does once an hour.
func WarnOfRoom(log *slog.Logger, refused map[envelope.Full]spool.Refusals, last time.Time) {
	(&Node{log: log}).warnOfRoom(refused, last)
}

// Holders is what clients of the node are told of an envelope.
func (n *Node) Holders(id envelope.ID) (int, error) { return n.holders(id) }

// NoteCustody has members count as holders of an envelope that a user brought.
func (n *Node) NoteCustody(ctx context.Context, e *envelope.Envelope, members ...noise.PublicKey) error {
	if _, err := n.spool.Put(ctx, noise.PublicKey{}, []*envelope.Envelope{e}); err != nil {
		return err
	}
	for _, m := range members {
		if err := n.store.PutCustody(ctx, m, []envelope.ID{e.ID()}); err != nil {
			return err
		}
	}
	return nil
}
