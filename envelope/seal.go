package envelope

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/topic"
)

// partPrologue separates sealed parts from all else that is sealed with shared keys.
const partPrologue = "asmtp/2 part"

var (
	// ErrTag is the error for an envelope whose tag the pair did not make.
	ErrTag = errors.New("tag does not fit")
	// ErrNotPeer is the error for a part that somebody else sealed.
	ErrNotPeer = errors.New("sealed by another key than the contact's")
)

// Sealer seals and opens the parts that two passports send each other. Among the
// devices of one user both sides are the same. Its methods may be called at the same
// time.
//
// What a Sealer opens is from the holder of PeerKey, or from somebody who holds Own:
// both can compute all of it. So nothing is proven to third parties, and a device
// that is no longer one's own can still forge mail to oneself under its old key.
type Sealer struct {
	Own     *noise.SharedPrivate
	OwnID   passport.ID
	PeerID  passport.ID
	PeerKey noise.SharedPublic
	Out     topic.PairSecret // of mail from own to peer
}

// Seal returns p in an envelope of the smallest size class that holds it. A nil
// random means crypto/rand. Sealing twice gives two envelopes that nobody but the
// recipient can tell to be of one mail.
func (s *Sealer) Seal(random io.Reader, expires passport.Time, p *Part) (*Envelope, error) {
	class := ClassFor(len(p.Body))
	if class < 0 {
		return nil, fmt.Errorf("seal part of %d bytes: %w", len(p.Body), ErrTooLarge)
	}
	plain, err := p.Encode(PartSize(class))
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	sealed, err := noise.SealX(random, prologue(s.OwnID, s.PeerID, expires), s.Own, s.PeerKey, plain)
	if err != nil {
		return nil, err
	}
	e := &Envelope{Expires: expires, Sealed: sealed}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	sealHash := SealHash(expires, sealed)
	e.Tag = s.Out.TagKey(e.Epoch()).Tag(sealHash)
	e.hash(sealHash)
	return e, nil
}

// Open returns the part in an envelope from the peer; in is the pair secret of that
// direction. The errors wrap [ErrTag], [noise.ErrOpen], [ErrNotPeer], [ErrPart], or
// [ErrNewer]: only with the last one is the envelope worth keeping.
func (s *Sealer) Open(e *Envelope, in topic.PairSecret) (*Part, error) {
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if !in.TagKey(e.Epoch()).Fits(e.SealHash(), e.Tag) {
		return nil, fmt.Errorf("open: %w", ErrTag)
	}
	plain, from, err := noise.OpenX(prologue(s.PeerID, s.OwnID, e.Expires), s.Own, e.Sealed)
	if err != nil {
		return nil, err
	}
	if from != s.PeerKey {
		return nil, fmt.Errorf("open: %w", ErrNotPeer)
	}
	p, err := ParsePart(plain)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return p, nil
}

// prologue is what both sides mix into the seal:
// "asmtp/2 part" | suite u8 | id a 16 | id b 16 | version u8 | expires u32.
func prologue(from, to passport.ID, expires passport.Time) []byte {
	b := append([]byte(partPrologue), topic.Suite)
	b = append(b, from[:]...)
	b = append(b, to[:]...)
	b = append(b, Version)
	return binary.BigEndian.AppendUint32(b, uint32(expires))
}
