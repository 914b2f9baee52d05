package passport

import "errors"

// Limits on what is read and written. They keep a passport small enough to be sent
// whole and to be held by every node of a mesh.
const (
	// MaxBlocks is how many blocks a chain may have.
	MaxBlocks = 4096
	// MaxKeys is how many master keys may be active at one time; a shared key entry
	// cannot name more recipients.
	MaxKeys = 255
	// MaxSize is how many bytes an export may have.
	MaxSize = 4 << 20
	// MaxContent is how many bytes of entries a block that is written may have. The
	// reference counts the header too and refuses to write more; it reads up to 65,535.
	MaxContent = 65535 - HeaderSize
	// MaxAlias is the length in bytes of the longest alias.
	MaxAlias = 32
)

// ErrLimit is wrapped by the errors for a chain beyond one of the limits.
var ErrLimit = errors.New("passport too large")

// HeaderSize is the length in bytes of the header of a block.
const HeaderSize = 136
