package mesh

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// IDSize is the length in bytes of an [ID] and of a statement's hash.
const IDSize = 16

// ErrID is wrapped by the errors for a text that is no [ID].
var ErrID = errors.New("not a mesh id")

// ID names a mesh: the hash of its founding statement.
type ID [IDSize]byte

// ParseID reads the text form of an id, 32 hex digits.
func ParseID(text string) (ID, error) {
	var id ID
	return id, id.UnmarshalText([]byte(text))
}

// String returns the text form, 32 lower-case hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first 8 hex digits, enough to tell meshes apart in a log.
func (id ID) Short() string { return hex.EncodeToString(id[:4]) }

// IsZero reports whether id is the zero value, which names no mesh.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText returns the text form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the text form.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) != 2*IDSize {
		return fmt.Errorf("%w: want %d hex digits, got %d characters", ErrID, 2*IDSize, len(text))
	}
	var b ID
	if _, err := hex.Decode(b[:], text); err != nil {
		return fmt.Errorf("%w: want hex digits only", ErrID)
	}
	*id = b
	return nil
}
