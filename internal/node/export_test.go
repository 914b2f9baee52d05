package node

import (
	"log/slog"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/spool"
)

var FullAt = fullAt

// WarnOfRoom is what a node that logs to log does once an hour.
func WarnOfRoom(log *slog.Logger, refused map[envelope.Full]spool.Refusals, last time.Time) {
	(&Node{log: log}).warnOfRoom(refused, last)
}
