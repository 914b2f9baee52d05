package passport

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrExport is wrapped by the errors for bytes that are no export of a passport.
var ErrExport = errors.New("bad passport export")

// lengthSize is the length of the field before each block of an export.
const lengthSize = 4

func exportSize(b *Block) int { return lengthSize + len(b.raw) }

// Size returns the length of the export in bytes.
func (p *Passport) Size() int { return p.size }

// Export returns all blocks in the form that [Parse] reads (FORMAT.md section 7):
// each after its length, u32, in the order of the chain.
func (p *Passport) Export() []byte {
	export := make([]byte, 0, p.size)
	for _, b := range p.blocks {
		export = binary.BigEndian.AppendUint32(export, uint32(len(b.raw)))
		export = append(export, b.raw...)
	}
	return export
}

// Parse reads an export and checks every block and that the rules allow each where
// it stands. Sizes are checked before anything else; the signature checks after
// that are what costs, about 50 µs for each block and each registration, and stop
// at the first block that is wrong.
func Parse(export []byte) (*Passport, error) {
	raw, err := splitExport(export)
	if err != nil {
		return nil, err
	}
	l := ledger{Passport: Passport{blocks: make([]*Block, 0, len(raw))}}
	for i, r := range raw {
		b, err := ParseBlock(r)
		if err != nil {
			return nil, fmt.Errorf("%w: block %d: %w", ErrExport, i, err)
		}
		if i > 0 && b.Previous() != l.Tip() {
			return nil, fmt.Errorf("%w: block %d: %w", ErrExport, i, ErrNotNext)
		}
		if err := l.extend(b); err != nil {
			return nil, fmt.Errorf("%w: block %d: %w", ErrExport, i, err)
		}
	}
	return &l.Passport, nil
}

// splitExport returns the blocks, sharing export's memory.
func splitExport(export []byte) ([][]byte, error) {
	if len(export) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrExport)
	}
	if len(export) > MaxSize {
		return nil, fmt.Errorf("%w: %w: %d bytes, at most %d", ErrExport, ErrLimit, len(export), MaxSize)
	}
	var blocks [][]byte
	for rest := export; len(rest) > 0; {
		if len(blocks) == MaxBlocks {
			return nil, fmt.Errorf("%w: %w: at most %d blocks", ErrExport, ErrLimit, MaxBlocks)
		}
		if len(rest) < lengthSize {
			return nil, fmt.Errorf("%w: cut within the length of block %d", ErrExport, len(blocks))
		}
		size := int64(binary.BigEndian.Uint32(rest))
		if rest = rest[lengthSize:]; size > int64(len(rest)) {
			return nil, fmt.Errorf("%w: block %d of %d bytes cut to %d", ErrExport, len(blocks), size, len(rest))
		}
		blocks, rest = append(blocks, rest[:size]), rest[size:]
	}
	return blocks, nil
}
