package account

import (
	"encoding/hex"
	"fmt"
)

// ParseMailID reads the text form of an id, 32 hex digits.
func ParseMailID(text string) (MailID, error) {
	var id MailID
	if len(text) != 2*len(id) {
		return id, fmt.Errorf("mail id: want %d hex digits, got %d characters", 2*len(id), len(text))
	}
	if _, err := hex.Decode(id[:], []byte(text)); err != nil {
		return id, fmt.Errorf("mail id: want hex digits only")
	}
	return id, nil
}

// String returns the text form, 32 lower-case hex digits.
func (id MailID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is the zero value, which names no mail.
func (id MailID) IsZero() bool { return id == MailID{} }

// MarshalText returns the text form.
func (id MailID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }
