package passport

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// IDSize is the length in bytes of an [ID] and of a [Hash].
const IDSize = 16

// ErrID is wrapped by the errors for a text that is no [ID] or [Hash].
var ErrID = errors.New("not a passport id or block hash")

// ID names a passport: the [Hash] of its first block, which never changes.
type ID [IDSize]byte

// ParseID reads the text form of an id, 32 hex digits.
func ParseID(text string) (ID, error) {
	var id ID
	return id, id.UnmarshalText([]byte(text))
}

// String returns the text form, 32 lower-case hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first 8 hex digits, enough to tell passports apart in a log.
func (id ID) Short() string { return hex.EncodeToString(id[:4]) }

// IsZero reports whether id is the zero value, which names no passport.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText returns the text form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the text form.
func (id *ID) UnmarshalText(text []byte) error { return parseHex(id[:], text) }

// Topic returns the name under which the reference publishes the blocks of the
// passport id: 16 zero bytes and the id (FORMAT.md section 3). Our own nodes do not
// use it; passports have a protocol of their own.
func Topic(id ID) (topic [32]byte) {
	copy(topic[32-IDSize:], id[:])
	return topic
}

// Hash names a block: BLAKE2b with a digest of 16 bytes of its header. The hash of
// the last block of a passport is its tip.
type Hash [IDSize]byte

// ParseHash reads the text form of a hash, 32 hex digits.
func ParseHash(text string) (Hash, error) {
	var h Hash
	return h, h.UnmarshalText([]byte(text))
}

// String returns the text form, 32 lower-case hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Short returns the first 8 hex digits, enough to tell blocks apart in a log.
func (h Hash) Short() string { return hex.EncodeToString(h[:4]) }

// IsZero reports whether h is the zero value, which stands for no block.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText returns the text form.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads the text form.
func (h *Hash) UnmarshalText(text []byte) error { return parseHex(h[:], text) }

func parseHex(dst, text []byte) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("%w: want %d hex digits, got %d characters", ErrID, 2*len(dst), len(text))
	}
	var b [IDSize]byte
	if _, err := hex.Decode(b[:], text); err != nil {
		return fmt.Errorf("%w: want hex digits only", ErrID)
	}
	copy(dst, b[:])
	return nil
}
