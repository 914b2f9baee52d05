package p2p

import (
	"encoding/binary"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

// Kinds of messages of /asmtp/custody/1.
const (
	kindOffer    = 1
	kindAnswer   = 2
	kindEnvelope = 3
	kindGone     = 4
	kindGet      = 5
)

// Codes of an answer.
const (
	codeStored  = 0 // on disk there
	codeWant    = 1 // send it
	codeRefused = 2 // not taken: too old, or no room
	codeLater   = 3 // another neighbour is just sending it; ask again
	lastCode    = codeLater
)

// Limits of /asmtp/custody/1.
const (
	maxOffer     = 256
	maxGet       = 16
	idSize       = len(envelope.ID{})
	maxOfferSize = 2 + maxOffer*idSize
)

func encodeIDs(ids []envelope.ID) []byte {
	b := appendCount(make([]byte, 0, 2+len(ids)*idSize), len(ids))
	for _, id := range ids {
		b = append(b, id[:]...)
	}
	return b
}

// parseIDs reads the ids of an offer or a get. An id that stands there twice is
// refused: the answers could not be told apart.
func parseIDs(b []byte, most int) ([]envelope.ID, error) {
	n, b, err := cutFixed(b, idSize, most)
	if err != nil {
		return nil, err
	}
	ids := make([]envelope.ID, n)
	seen := make(map[envelope.ID]struct{}, n)
	for i := range ids {
		ids[i] = envelope.ID(b[i*idSize:])
		if _, twice := seen[ids[i]]; twice {
			return nil, foreign("an id twice in one message")
		}
		seen[ids[i]] = struct{}{}
	}
	return ids, nil
}

func encodeAnswer(codes []byte) []byte { return append(appendCount(nil, len(codes)), codes...) }

// parseAnswer reads the codes for n ids.
func parseAnswer(b []byte, n int) ([]byte, error) {
	got, codes, err := cutFixed(b, 1, maxOffer)
	if err != nil {
		return nil, err
	}
	if got != n {
		return nil, foreign("answer for %d of %d ids", got, n)
	}
	for _, c := range codes {
		if c > lastCode {
			return nil, foreign("unknown answer %d", c)
		}
	}
	return codes, nil
}

// Types of a gossip message.
const (
	gossipWhole    = 0
	gossipAnnounce = 1
)

const (
	largest      = len(envelope.Sizes) - 1 // the size class that is only announced
	announceSize = 1 + 4 + len(topic.Tag{}) + 32
	hourSeconds  = 3600
)

// gossip is one parsed gossip message.
type gossip struct {
	id       envelope.ID
	expires  passport.Time
	envelope *envelope.Envelope // nil: only announced
}

// encodeGossip makes the message by which e is spread.
func encodeGossip(e *envelope.Envelope) []byte {
	if e.Class() != largest {
		return append([]byte{gossipWhole}, e.Bytes()...)
	}
	seal := e.SealHash()
	b := binary.BigEndian.AppendUint32([]byte{gossipAnnounce}, uint32(e.Expires))
	b = append(b, e.Tag[:]...)
	return append(b, seal[:]...)
}

// parseGossip refuses what no honest node sends.
func parseGossip(b []byte) (gossip, error) {
	if len(b) == 0 {
		return gossip{}, foreign("empty gossip message")
	}
	switch b[0] {
	case gossipWhole:
		e, err := envelope.Parse(b[1:])
		if err != nil {
			return gossip{}, foreign("gossip: %v", err)
		}
		if e.Class() == largest {
			return gossip{}, foreign("envelope of the largest class as gossip")
		}
		return gossip{id: e.ID(), expires: e.Expires, envelope: e}, nil
	case gossipAnnounce:
		return parseAnnounce(b)
	default:
		return gossip{}, foreign("gossip of type %d", b[0])
	}
}

func parseAnnounce(b []byte) (gossip, error) {
	if len(b) != announceSize {
		return gossip{}, foreign("announcement of %d bytes", len(b))
	}
	expires := binary.BigEndian.Uint32(b[1:])
	if expires%hourSeconds != 0 {
		return gossip{}, foreign("announcement with a crooked end")
	}
	tag, seal := b[5:21], b[21:]
	return gossip{id: noise.H32(seal, tag), expires: passport.Time(expires)}, nil
}
