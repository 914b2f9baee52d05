package passport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/asmtp/asmtp/noise"
)

var (
	// ErrBlock is wrapped by the errors for bytes that are no valid block.
	ErrBlock = errors.New("bad passport block")
	// ErrVersion is wrapped, besides [ErrBlock], when a block is of another version,
	// which a newer program may understand.
	ErrVersion = errors.New("unknown version")
)

// Block is one signed link of a passport. That it is one says nothing yet about
// whether its author may speak for that passport; [Passport.Append] decides that.
// A Block never changes.
type Block struct {
	raw     []byte
	hash    Hash
	entries []Entry
}

// signedSize is how much of the header the author signs: all but author and signature
// (FORMAT.md section 4.1). The content takes part through its hash.
const signedSize = 72

// ParseBlock reads a block and checks all that can be checked without its passport:
// sizes, hashes and signatures (FORMAT.md section 4.3). It keeps a copy of b. It
// costs one signature check, and one more for each registration inside.
func ParseBlock(b []byte) (*Block, error) {
	if len(b) < HeaderSize {
		return nil, fmt.Errorf("%w: %d bytes, the header alone has %d", ErrBlock, len(b), HeaderSize)
	}
	if v := binary.BigEndian.Uint16(b); v != 0 {
		return nil, fmt.Errorf("%w: %w %d", ErrBlock, ErrVersion, v)
	}
	if size := int(binary.BigEndian.Uint16(b[2:])); size != len(b)-HeaderSize {
		return nil, fmt.Errorf("%w: content of %d bytes, the header says %d", ErrBlock, len(b)-HeaderSize, size)
	}
	if noise.H16(b[HeaderSize:]) != [16]byte(b[8:24]) {
		return nil, fmt.Errorf("%w: content does not have its hash", ErrBlock)
	}
	if !noise.PublicKey(b[40:72]).Verify(b[:signedSize], b[72:HeaderSize]) {
		return nil, fmt.Errorf("%w: not signed by its author", ErrBlock)
	}
	block := &Block{raw: slices.Clone(b), hash: noise.H16(b[:HeaderSize])}
	var err error
	if block.entries, err = readEntries(block.raw[HeaderSize:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBlock, err)
	}
	return block, nil
}

// Bytes returns a copy of the encoding, which [ParseBlock] reads.
func (b *Block) Bytes() []byte { return slices.Clone(b.raw) }

// Size returns the length of the encoding in bytes.
func (b *Block) Size() int { return len(b.raw) }

// Hash returns the name of the block.
func (b *Block) Hash() Hash { return b.hash }

// Time returns the time that the author put on the block.
func (b *Block) Time() Time { return Time(binary.BigEndian.Uint32(b.raw[4:])) }

// Previous returns the hash of the block before, zero in an ordinary first block.
func (b *Block) Previous() Hash { return Hash(b.raw[24:40]) }

// Author returns the key that signed the block.
func (b *Block) Author() noise.PublicKey { return noise.PublicKey(b.raw[40:72]) }

// Entries returns the changes that the block makes, in order.
func (b *Block) Entries() []Entry { return slices.Clone(b.entries) }

// signBlock makes a block of entries. It reads what it wrote, so that nothing can be
// published that others would refuse as a block.
func signBlock(author *noise.PrivateKey, now Time, previous Hash, entries []Entry) (*Block, error) {
	b := make([]byte, HeaderSize, HeaderSize+registerSize)
	for _, e := range entries {
		b = e.appendTo(b)
	}
	size := len(b) - HeaderSize
	if size > MaxContent {
		return nil, fmt.Errorf("%w: block with %d bytes of entries, at most %d", ErrLimit, size, MaxContent)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(size))
	binary.BigEndian.PutUint32(b[4:], uint32(now))
	content := noise.H16(b[HeaderSize:])
	copy(b[8:], content[:])
	copy(b[24:], previous[:])
	public := author.Public()
	copy(b[40:], public[:])
	copy(b[72:], author.Sign(b[:signedSize]))
	return ParseBlock(b)
}
