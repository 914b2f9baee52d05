package envelope

import (
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

// The types of this file are what the packages of a node tell each other about
// envelopes. None has an encoding here.

// Meta is what an index keeps of an envelope: enough to match it and to expire it
// without reading it.
type Meta struct {
	ID       ID
	Expires  passport.Time
	Tag      topic.Tag
	SealHash [32]byte
	Size     int // of the encoded envelope
}

// Epoch returns the epoch of the tag keys that may fit.
func (m Meta) Epoch() uint32 { return topic.Epoch(uint32(m.Expires)) }

// TagKey is a tag key as a client registers it with its node.
type TagKey struct {
	Epoch  uint32
	Handle Handle
	Key    topic.TagKey
}

// Match says for which user of a node an envelope is, and which tag key told so.
type Match struct {
	User   passport.ID
	Handle Handle
}

// Delivery is an entry of a user's mailbox. Numbers begin at 1, rise, and are never
// used again.
type Delivery struct {
	Number   uint64
	ID       ID
	Handle   Handle
	Envelope []byte
}

// Early is an envelope for a user that the node is about to store: it may yet be lost.
type Early struct {
	ID       ID
	Handle   Handle
	Envelope []byte
}

// Arrival is an envelope that a node takes in.
type Arrival struct {
	Envelope *Envelope
	From     noise.PublicKey // the neighbour that brought it; zero for an own user
	Matches  []Match
	// Admitted, if it is not nil, is called when the envelope is new and there is room for
	// it, before it is synced. It must not block, and nothing can be promised yet.
	Admitted func()
}

// Outcome says what became of an [Arrival].
type Outcome struct {
	Fresh bool // it was not there before
	Full  Full // why there was no room for it; NotFull: it is stored
}

// Full is why a node has no room for an envelope.
type Full uint8

// The reasons. The quotas are apart for what own users send and get, and for what the
// node keeps for others.
const (
	NotFull   Full = iota
	FullSmall      // the quota of the three smaller size classes
	FullLarge      // the quota of the largest size class
	FullShare      // the share of the neighbour that brought it
	FullDisk       // the disk
)

var fullNames = [...]string{"room enough", "the quota for small envelopes is used up", "the quota for large envelopes is used up",
	"the share of this neighbour is used up", "the disk is full"}

// String returns words for the reason.
func (f Full) String() string {
	if int(f) < len(fullNames) {
		return fullNames[f]
	}
	return "no room"
}
