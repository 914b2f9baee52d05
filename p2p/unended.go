package p2p

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/passport"
)

// unended is a spool as neighbours may see it. A node keeps an envelope beyond its time
// only in the mailbox of one of its own users. Whoever could ask for such an envelope, or
// offer it to hear "stored", would learn for whose node it was. So from the moment on at
// which others may have removed it, it is as if this node had done so too.
type unended struct {
	Spool
	now func() time.Time
}

var errEnded = errors.New("envelope has ended")

// ended reports whether an envelope may be removed by those who only relay it.
func (s unended) ended(expires passport.Time) bool {
	return !expires.Time().Add(windowSlack).After(s.now())
}

// Missing returns those of ids that are not stored, or have ended.
func (s unended) Missing(ids []envelope.ID) []envelope.ID {
	missing := s.Spool.Missing(ids)
	if len(missing) == len(ids) {
		return missing
	}
	ends, err := s.Spool.Ends(ids)
	if err != nil {
		return missing
	}
	for _, id := range missing {
		delete(ends, id) // it may have come since
	}
	for _, id := range ids {
		if end, ok := ends[id]; ok && s.ended(end) {
			missing = append(missing, id)
			delete(ends, id)
		}
	}
	return missing
}

// Envelope returns the bytes of a stored envelope that has not ended.
func (s unended) Envelope(id envelope.ID) ([]byte, error) {
	b, err := s.Spool.Envelope(id)
	if err != nil {
		return nil, err
	}
	if len(b) < envelope.HeaderSize || s.ended(passport.Time(binary.BigEndian.Uint32(b[1:]))) {
		return nil, errEnded
	}
	return b, nil
}

// Envelopes calls fn with what is stored and has not ended.
func (s unended) Envelopes(after envelope.ID, fn func(envelope.Meta) bool) error {
	return s.Spool.Envelopes(after, func(m envelope.Meta) bool { return s.ended(m.Expires) || fn(m) })
}
