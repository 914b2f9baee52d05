package envelope

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// PartVersion is the first byte of every part.
const PartVersion = 1

// PartHeaderSize is the length in bytes of what stands before a part's body.
const PartHeaderSize = 1 + 1 + 1 + 16 + 16 + 4 + 2 + 2 + 16 + 16 + 2

// Kind says what a mail's body is.
type Kind uint8

// The kinds of mail.
const (
	KindMail           Kind = 0 // an RFC 5322 message
	KindReceipt        Kind = 1 // see EncodeReceipts
	KindContactRequest Kind = 2
	KindOwnState       Kind = 3 // from one device of a user to the others
	KindCover          Kind = 4 // says nothing, is dropped
	kinds                   = 5
)

// String returns a word for the log.
func (k Kind) String() string {
	if k < kinds {
		return [...]string{"mail", "receipt", "contact request", "own state", "cover"}[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// FlagCompressed says that the whole body is one zstd frame.
const FlagCompressed = 1 << 0

const knownFlags = FlagCompressed

var (
	// ErrPart is wrapped by the errors for bytes that are no part, which only a wrong
	// or hostile program seals. They are dropped.
	ErrPart = errors.New("not a part")
	// ErrNewer is wrapped by the errors for a part, or receipt, that a newer program
	// may have made. It is kept sealed and not receipted.
	ErrNewer = errors.New("made by a newer program")
)

// Part is a piece of a mail. All parts of a mail but the last are full: they have
// the largest body that fits one size class, the same for all of them. So from Total
// and Count follows how long each is.
type Part struct {
	Kind         Kind
	Flags        uint8
	MailID       MailID
	BodyHash     BodyHash // of the whole body
	Total        uint32   // length of the whole body
	Index        uint16   // of this part, from 0
	Count        uint16   // of parts, at least 1
	SenderTip    passport.Hash
	RecipientTip passport.Hash // as the sender knows it
	Body         []byte
}

// Capacity returns how many bytes of body a part of a size class holds.
func Capacity(class int) int { return Sizes[class] - noise.XOverhead - PartHeaderSize }

// PartSize returns how many bytes an encoded part of a size class has before it is
// sealed.
func PartSize(class int) int { return Sizes[class] - noise.XOverhead }

// ClassFor returns the smallest size class whose parts hold n bytes of body; -1 if none.
func ClassFor(n int) int {
	return slices.IndexFunc(Sizes[:], func(size int) bool {
		return n <= size-noise.XOverhead-PartHeaderSize
	})
}

// chunk returns the length of each full part of a body of total bytes in count
// parts, and false if no size class gives that count. For a single part the length
// is that of the body. It is unique: the capacities are so far apart that two of
// them never give the same count of two or more.
func chunk(total uint32, count uint16) (int64, bool) {
	if count == 1 {
		return int64(total), int64(total) <= int64(Capacity(len(Sizes)-1))
	}
	for class := range Sizes {
		c := int64(Capacity(class))
		if count > 1 && (int64(total)+c-1)/c == int64(count) {
			return c, true
		}
	}
	return 0, false
}

// length returns how long the body of part index is, for a total and count that
// chunk accepts.
func length(total uint32, index, count uint16) int64 {
	c, _ := chunk(total, count)
	if index+1 < count {
		return c
	}
	return int64(total) - c*int64(count-1)
}

// check reports whether the header of p is possible and its body as long as the
// header says. Whatever can be said of one part alone is said here.
func (p *Part) check() error {
	if p.Kind >= kinds {
		return fmt.Errorf("%w: %v", ErrNewer, p.Kind)
	}
	if p.Flags&^knownFlags != 0 {
		return fmt.Errorf("%w: unknown flags %#02x", ErrPart, p.Flags)
	}
	if p.Index >= p.Count {
		return fmt.Errorf("%w: index %d of %d", ErrPart, p.Index, p.Count)
	}
	if _, ok := chunk(p.Total, p.Count); !ok {
		return fmt.Errorf("%w: %d bytes do not make %d parts", ErrPart, p.Total, p.Count)
	}
	if want := length(p.Total, p.Index, p.Count); int64(len(p.Body)) != want {
		return fmt.Errorf("%w: body of part %d of %d has %d bytes, want %d", ErrPart, p.Index, p.Count, len(p.Body), want)
	}
	return nil
}

// Encode returns the encoding in size bytes, which is a [PartSize]. A part that is
// not the last of its mail must fill it.
func (p *Part) Encode(size int) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("encode part: %w", err)
	}
	if err := p.checkSize(size); err != nil {
		return nil, fmt.Errorf("encode part: %w", err)
	}
	b := make([]byte, 0, size)
	b = append(b, PartVersion, byte(p.Kind), p.Flags)
	b = append(b, p.MailID[:]...)
	b = append(b, p.BodyHash[:]...)
	b = binary.BigEndian.AppendUint32(b, p.Total)
	b = binary.BigEndian.AppendUint16(b, p.Index)
	b = binary.BigEndian.AppendUint16(b, p.Count)
	b = append(b, p.SenderTip[:]...)
	b = append(b, p.RecipientTip[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.Body)))
	b = append(b, p.Body...)
	return b[:size], nil // the rest of b was never written to and is zero
}

// checkSize reports whether p may be encoded in size bytes.
func (p *Part) checkSize(size int) error {
	if !slices.Contains(Sizes[:], size+noise.XOverhead) {
		return fmt.Errorf("%w: %d bytes are of no size class", ErrPart, size)
	}
	need := PartHeaderSize + len(p.Body)
	if need > size {
		return fmt.Errorf("%w: body of %d bytes does not fit %d bytes", ErrPart, len(p.Body), size)
	}
	if p.Index+1 < p.Count && need != size {
		return fmt.Errorf("%w: part %d of %d is not full", ErrPart, p.Index, p.Count)
	}
	return nil
}

// ParsePart reads what was sealed. The body is a slice of b.
func ParsePart(b []byte) (*Part, error) {
	if len(b) < PartHeaderSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrPart, len(b))
	}
	if b[0] != PartVersion {
		if b[0] < PartVersion {
			return nil, fmt.Errorf("%w: version %d", ErrPart, b[0])
		}
		return nil, fmt.Errorf("%w: part of version %d", ErrNewer, b[0])
	}
	p := &Part{
		Kind:         Kind(b[1]),
		Flags:        b[2],
		MailID:       MailID(b[3:19]),
		BodyHash:     BodyHash(b[19:35]),
		Total:        binary.BigEndian.Uint32(b[35:]),
		Index:        binary.BigEndian.Uint16(b[39:]),
		Count:        binary.BigEndian.Uint16(b[41:]),
		SenderTip:    passport.Hash(b[43:59]),
		RecipientTip: passport.Hash(b[59:75]),
	}
	if p.Kind >= kinds {
		return nil, fmt.Errorf("%w: %v", ErrNewer, p.Kind)
	}
	n, rest := int(binary.BigEndian.Uint16(b[75:])), b[PartHeaderSize:]
	if n > len(rest) {
		return nil, fmt.Errorf("%w: body of %d bytes in %d", ErrPart, n, len(rest))
	}
	p.Body = rest[:n:n]
	if len(bytes.TrimLeft(rest[n:], "\x00")) != 0 {
		return nil, fmt.Errorf("%w: padding is not zero", ErrPart)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if err := p.checkSize(len(b)); err != nil {
		return nil, err
	}
	return p, nil
}
