package topic

import (
	"errors"
	"fmt"
	"slices"

	"github.com/asmtp/asmtp/noise"
)

var (
	// ErrOwnKey is the error for a contact whose shared key is one of one's own.
	// Mail for such a contact would be mail to oneself.
	ErrOwnKey = errors.New("the contact's shared key is one's own")
	// ErrTakenKey is the error for a contact whose shared key another contact has
	// already. Mail of the one could not be told from mail of the other.
	ErrTakenKey = errors.New("another contact has the same shared key")
	// ErrBadKey is wrapped by the errors for a contact's shared key that is not
	// canonical or gives a common secret of zero. The cause is wrapped too:
	// [noise.ErrKey] or [noise.ErrZeroDH].
	ErrBadKey = errors.New("the contact's shared key is unusable")
)

// CheckContact reports whether key may be the shared key of a contact of somebody
// whose own shared keys, present and past, are own and whose other contacts have
// the keys others. Passports are signed by master keys only, so nothing else keeps
// a passport from naming a shared key whose secret its owner does not hold.
func CheckContact(key noise.SharedPublic, own, others []noise.SharedPublic) error {
	if err := key.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	if slices.Contains(own, key) {
		return ErrOwnKey
	}
	if slices.Contains(others, key) {
		return ErrTakenKey
	}
	return nil
}
