package topic

import (
	"encoding/binary"
	"encoding/hex"

	"github.com/asmtp/asmtp/noise"
)

// MessageID is the name under which the reference stores a topic message: the time
// of its reception u32 and H16 of its content (FORMAT.md section 3). It is never
// sent and sorts by time. Our own mail has ids of its own, in package envelope.
type MessageID [20]byte

// NewMessageID returns the id of content received at time, in seconds since
// 2020-01-01 UTC.
func NewMessageID(time uint32, content []byte) (id MessageID) {
	binary.BigEndian.PutUint32(id[:4], time)
	hash := noise.H16(content)
	copy(id[4:], hash[:])
	return id
}

// Time returns when the message was received, in seconds since 2020-01-01 UTC.
func (id MessageID) Time() uint32 { return binary.BigEndian.Uint32(id[:4]) }

// String returns the text form, 40 lower-case hex digits.
func (id MessageID) String() string { return hex.EncodeToString(id[:]) }
