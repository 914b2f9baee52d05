package p2p

import (
	"encoding/binary"
	"time"

	"github.com/asmtp/asmtp/internal/reconcile"
	"github.com/asmtp/asmtp/passport"
)

// Kinds of messages of /asmtp/reconcile/1.
const (
	kindOpen  = 1
	kindReply = 2
	kindFrame = 3
)

// Sets that are reconciled.
const (
	setEnvelopes = 1
	setPassports = 2
)

// Codes of a reply.
const (
	replyGoOn    = 0
	replyBusy    = 1 // later
	replyUnknown = 2 // of the version or the set nothing is known
)

// Limits of /asmtp/reconcile/1.
const (
	reconcileVersion = 1
	openSize         = 1 + 1 + 4 + 4 + 8
	replySize        = 1 + 8
	maxFrame         = reconcile.DefaultFrame
)

// opening begins a session. The window is for both sides, whatever their clocks say.
type opening struct {
	version  byte
	set      byte
	from, to passport.Time
	clock    time.Time // of the opener
}

func (o opening) encode() []byte {
	b := []byte{o.version, o.set}
	b = binary.BigEndian.AppendUint32(b, uint32(o.from))
	b = binary.BigEndian.AppendUint32(b, uint32(o.to))
	return appendClock(b, o.clock)
}

func parseOpening(b []byte) (opening, error) {
	if len(b) != openSize {
		return opening{}, foreign("opening of %d bytes", len(b))
	}
	o := opening{version: b[0], set: b[1],
		from: passport.Time(binary.BigEndian.Uint32(b[2:])), to: passport.Time(binary.BigEndian.Uint32(b[6:]))}
	if o.from > o.to {
		return opening{}, foreign("window that ends before it begins")
	}
	var err error
	o.clock, err = parseClock(b[10:])
	return o, err
}

// reply answers an opening.
type reply struct {
	code  byte
	clock time.Time
}

func (r reply) encode() []byte { return appendClock([]byte{r.code}, r.clock) }

func parseReply(b []byte) (reply, error) {
	if len(b) != replySize {
		return reply{}, foreign("reply of %d bytes", len(b))
	}
	if b[0] > replyUnknown {
		return reply{}, foreign("unknown reply %d", b[0])
	}
	clock, err := parseClock(b[1:])
	return reply{code: b[0], clock: clock}, err
}

// maxClock is the last millisecond of the year 9999.
const maxClock = 253_402_300_799_999

func appendClock(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(max(t.UnixMilli(), 0)))
}

// parseClock reads milliseconds since 1970.
func parseClock(b []byte) (time.Time, error) {
	ms := binary.BigEndian.Uint64(b)
	if ms > maxClock {
		return time.Time{}, foreign("clock beyond the year 9999")
	}
	return time.UnixMilli(int64(ms)), nil
}
