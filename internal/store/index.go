package store

import (
	"encoding/binary"
	"fmt"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// index is all the store must know of an envelope without reading its body:
//
//	flags u8 | expires u32 | received u32 | size u32 | held u32 | tag 16 | seal hash 32 | from 32
type index struct {
	own      bool // brought by a user of this node
	ended    bool // its end was dealt with; it stays for the mailboxes that hold it
	mine     bool // counted to the own users, see Usage
	expires  passport.Time
	received passport.Time
	size     uint32
	held     uint32 // mailboxes that hold it
	tag      [16]byte
	sealHash [32]byte
	from     noise.PublicKey // neighbour that brought it first; zero: a user of this node
}

const (
	indexSize = 1 + 4*4 + 16 + 32 + 32

	flagOwn   = 1
	flagEnded = 2
	flagMine  = 4 // since schema 2
)

func (x *index) bytes() []byte {
	b := make([]byte, 0, indexSize)
	var flags byte
	if x.own {
		flags |= flagOwn
	}
	if x.ended {
		flags |= flagEnded
	}
	if x.mine {
		flags |= flagMine
	}
	b = append(b, flags)
	b = binary.BigEndian.AppendUint32(b, uint32(x.expires))
	b = binary.BigEndian.AppendUint32(b, uint32(x.received))
	b = binary.BigEndian.AppendUint32(b, x.size)
	b = binary.BigEndian.AppendUint32(b, x.held)
	b = append(b, x.tag[:]...)
	b = append(b, x.sealHash[:]...)
	return append(b, x.from[:]...)
}

func parseIndex(id envelope.ID, b []byte) (*index, error) {
	if len(b) != indexSize {
		return nil, fmt.Errorf("index of envelope %s: %w", id, ErrDamaged)
	}
	x := &index{
		own: b[0]&flagOwn != 0, ended: b[0]&flagEnded != 0, mine: b[0]&flagMine != 0,
		expires:  passport.Time(binary.BigEndian.Uint32(b[1:])),
		received: passport.Time(binary.BigEndian.Uint32(b[5:])),
		size:     binary.BigEndian.Uint32(b[9:]),
		held:     binary.BigEndian.Uint32(b[13:]),
	}
	copy(x.tag[:], b[17:])
	copy(x.sealHash[:], b[33:])
	copy(x.from[:], b[65:])
	return x, nil
}

func (x *index) meta(id envelope.ID) envelope.Meta {
	return envelope.Meta{ID: id, Expires: x.expires, Tag: x.tag, SealHash: x.sealHash, Size: int(x.size)}
}

// index returns the index record of an envelope, nil if it is not stored.
func (t *tx) index(id envelope.ID) (*index, error) { return t.indexAt(indexKey(id), id) }

// indexAt is index for who has the key already.
func (t *tx) indexAt(k []byte, id envelope.ID) (*index, error) {
	b, err := t.get(k)
	if b == nil || err != nil {
		return nil, err
	}
	return parseIndex(id, b)
}

func (t *tx) setIndex(id envelope.ID, x *index) { t.set(indexKey(id), x.bytes()) }
