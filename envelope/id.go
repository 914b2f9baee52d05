package envelope

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/asmtp/asmtp/noise"
)

// ErrID is wrapped by the errors for a text that is no id.
var ErrID = errors.New("not an id")

// ID names an envelope.
type ID [32]byte

// ParseID reads the text form of an id, 64 hex digits.
func ParseID(text string) (ID, error) {
	var id ID
	return id, id.UnmarshalText([]byte(text))
}

// String returns the text form, 64 lower-case hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first 8 hex digits, enough to tell envelopes apart in a log.
func (id ID) Short() string { return hex.EncodeToString(id[:4]) }

// MarshalText returns the text form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the text form.
func (id *ID) UnmarshalText(text []byte) error { return parseHex(id[:], text) }

// Handle is the random name under which a client registers a tag key with its node.
type Handle [16]byte

// NewHandle draws a handle; nil means crypto/rand.
func NewHandle(random io.Reader) (h Handle, err error) { return h, draw(random, h[:]) }

// String returns the text form, 32 lower-case hex digits.
func (h Handle) String() string { return hex.EncodeToString(h[:]) }

// MailID is drawn at random by the sender of a mail and is the same on all its parts
// and for all its recipients.
type MailID [16]byte

// NewMailID draws a mail id; nil means crypto/rand.
func NewMailID(random io.Reader) (id MailID, err error) { return id, draw(random, id[:]) }

// ParseMailID reads the text form of a mail id, 32 hex digits.
func ParseMailID(text string) (MailID, error) {
	var id MailID
	return id, id.UnmarshalText([]byte(text))
}

// String returns the text form, 32 lower-case hex digits.
func (id MailID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first 8 hex digits, enough to tell mails apart in a log.
func (id MailID) Short() string { return hex.EncodeToString(id[:4]) }

// MarshalText returns the text form.
func (id MailID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the text form.
func (id *MailID) UnmarshalText(text []byte) error { return parseHex(id[:], text) }

// BodyHash is H16 of the whole body of a mail as the parts carry it, compressed if
// it is.
type BodyHash [16]byte

// HashBody returns the hash of a body.
func HashBody(body []byte) BodyHash { return noise.H16(body) }

// String returns the text form, 32 lower-case hex digits.
func (h BodyHash) String() string { return hex.EncodeToString(h[:]) }

func draw(random io.Reader, dst []byte) error {
	if random == nil {
		random = rand.Reader
	}
	if _, err := io.ReadFull(random, dst); err != nil {
		return fmt.Errorf("draw an id: %w", err)
	}
	return nil
}

func parseHex(dst, text []byte) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("%w: want %d hex digits, got %d characters", ErrID, 2*len(dst), len(text))
	}
	b := make([]byte, len(dst))
	if _, err := hex.Decode(b, text); err != nil {
		return fmt.Errorf("%w: want hex digits only", ErrID)
	}
	copy(dst, b)
	return nil
}
