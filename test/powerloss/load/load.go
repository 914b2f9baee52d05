// Package load says what the writing programs of a power-loss test write, so that the
// test can tell byte for byte what must be there without having been sent it.
package load

import (
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

// Writers is how many goroutines write into a store at once.
const Writers = 16

// Item is the i-th thing that a writer of the process with this seed writes.
type Item struct {
	Seed      uint64
	Writer, I int
	Expires   passport.Time // of envelopes; the same in all processes of a test
}

// Expires is the end of all envelopes of a test that begins now.
func Expires() passport.Time { return storetest.Hour(48) }

func (n Item) number() uint64 { return n.Seed<<40 | uint64(n.Writer)<<32 | uint64(n.I) }

// Envelope is the item's envelope: mostly small, every class now and then.
func (n Item) Envelope() *envelope.Envelope {
	class := [...]int{0, 0, 0, 1, 0, 0, 2, 0, 0, 3}[(n.I+n.Writer)%10]
	return storetest.NewEnvelope(storetest.Random(n.number()), class, n.Expires)
}

// Match says whose the envelope is: of each four envelopes, three are for a user of the node.
func (n Item) Match() []envelope.Match {
	if n.I%4 == 3 {
		return nil
	}
	return []envelope.Match{{User: User(n.Writer), Handle: envelope.Handle{0: byte(n.Writer), 15: 1}}}
}

// From is the neighbour that brought the envelope, none for a user of the node.
func (n Item) From() noise.PublicKey {
	if n.I%2 == 0 {
		return noise.PublicKey{}
	}
	return Device(n.Writer)
}

// TagKey is the item's tag key.
func (n Item) TagKey() envelope.TagKey {
	r := storetest.Random(n.number() + 1<<63)
	k := envelope.TagKey{Epoch: topic.Epoch(uint32(n.Expires))}
	for i := range k.Handle {
		k.Handle[i] = byte(r.Uint32())
	}
	for i := range k.Key {
		k.Key[i] = byte(r.Uint32())
	}
	return k
}

// Stamp is the stamp that the item's peer sends. Each is the highest so far.
func (n Item) Stamp() uint64 { return n.number() + 1 }

// User is the one for whom a writer's envelopes are.
func User(writer int) passport.ID { return passport.ID{0: byte(writer % 4), 15: 1} }

// Device is the key of a writer, as a user's device or as a peer.
func Device(writer int) noise.PublicKey { return noise.PublicKey{0: byte(writer), 31: 1} }

// Clock returns the time in nanoseconds, to compare between processes of one machine.
func Clock() int64 { return time.Now().UnixNano() }
