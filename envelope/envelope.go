package envelope

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

// Version is the first byte of every envelope.
const Version = 2

// HeaderSize is the length in bytes of what stands before the sealed part:
// version u8 | expires u32 | tag 16.
const HeaderSize = 1 + 4 + topic.TagSize

// Sizes are the lengths in bytes that a sealed part can have, by class. Few sizes
// tell an observer little about what is inside.
var Sizes = [...]int{1024, 4096, 16384, 61440}

// MaxSize is the length in bytes of the largest envelope.
const MaxSize = HeaderSize + 61440

// ExpiresStep is what every time of expiry is a multiple of, in seconds. A finer one
// would tell envelopes of one moment from others.
const ExpiresStep = 3600

// ErrEnvelope is wrapped by the errors for bytes that are no envelope, which no
// honest node passes on.
var ErrEnvelope = errors.New("not an envelope")

// Envelope is a sealed part and what a node needs to carry it. One that comes from
// [Parse] or [Sealer.Seal] must not be changed: it has its seal hash and its id with
// it, which are taken once. Such an Envelope may be used by many goroutines at a time.
type Envelope struct {
	Expires passport.Time // when nodes may forget it; a multiple of ExpiresStep
	Tag     topic.Tag
	Sealed  []byte

	sealHash [32]byte // if hashed
	id       ID       // if hashed
	hashed   bool
}

// Parse reads an envelope and copies what it keeps. It checks the form only: whether
// it has expired, whether anybody can open it and whether its tag fits any key is
// for others to say.
func Parse(b []byte) (*Envelope, error) {
	if len(b) < HeaderSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrEnvelope, len(b))
	}
	if b[0] != Version {
		return nil, fmt.Errorf("%w: version %d, want %d", ErrEnvelope, b[0], Version)
	}
	e := &Envelope{
		Expires: passport.Time(binary.BigEndian.Uint32(b[1:])),
		Tag:     topic.Tag(b[5:HeaderSize]),
		Sealed:  b[HeaderSize:],
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	e.Sealed = slices.Clone(e.Sealed)
	e.hash(SealHash(e.Expires, e.Sealed))
	return e, nil
}

// check reports whether e has a form that may travel.
func (e *Envelope) check() error {
	if e.Class() < 0 {
		return fmt.Errorf("%w: sealed part of %d bytes is of no size class", ErrEnvelope, len(e.Sealed))
	}
	if e.Expires%ExpiresStep != 0 {
		return fmt.Errorf("%w: expires %d, want a multiple of %d", ErrEnvelope, e.Expires, ExpiresStep)
	}
	return nil
}

// hash keeps the seal hash and the id, in an Envelope that is complete and that no other
// goroutine has yet.
func (e *Envelope) hash(sealHash [32]byte) {
	e.sealHash, e.id = sealHash, NewID(sealHash, e.Tag)
	e.hashed = true
}

// Bytes returns the encoding, which is new at every call.
func (e *Envelope) Bytes() []byte {
	b := make([]byte, 0, HeaderSize+len(e.Sealed))
	b = append(b, Version)
	b = binary.BigEndian.AppendUint32(b, uint32(e.Expires))
	b = append(b, e.Tag[:]...)
	return append(b, e.Sealed...)
}

// Class returns the size class, an index of Sizes; -1 if there is none.
func (e *Envelope) Class() int { return slices.Index(Sizes[:], len(e.Sealed)) }

// Epoch returns the epoch of the tag keys that may fit.
func (e *Envelope) Epoch() uint32 { return topic.Epoch(uint32(e.Expires)) }

// SealHash returns H32(version | expires | sealed), which the tag is made of.
func (e *Envelope) SealHash() [32]byte {
	if e.hashed {
		return e.sealHash
	}
	return SealHash(e.Expires, e.Sealed)
}

// ID returns the name of the envelope, H32(seal hash | tag).
func (e *Envelope) ID() ID {
	if e.hashed {
		return e.id
	}
	return NewID(e.SealHash(), e.Tag)
}

// Meta returns what an index keeps of e.
func (e *Envelope) Meta() Meta {
	return Meta{
		ID: e.ID(), Expires: e.Expires, Tag: e.Tag, SealHash: e.SealHash(),
		Size: HeaderSize + len(e.Sealed),
	}
}

// SealHash returns H32(version | expires | sealed).
func SealHash(expires passport.Time, sealed []byte) [32]byte {
	head := binary.BigEndian.AppendUint32([]byte{Version}, uint32(expires))
	return noise.H32(head, sealed)
}

// NewID returns the id of the envelope with that seal hash and tag,
// H32(seal hash | tag), for those who hold the index only.
func NewID(sealHash [32]byte, tag topic.Tag) ID { return noise.H32(sealHash[:], tag[:]) }
