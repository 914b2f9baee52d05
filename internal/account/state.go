package account

import (
	"fmt"
)

// State says how far a mail got on its way to one recipient. It is what somebody
// confirmed, nothing more, and it never moves back: see [State.Next].
type State uint8

// The states, in their order. Their numbers are stored.
const (
	// Queued is durable on this device.
	Queued State = iota
	// Cancelled was taken back before the node had all of it. Nothing follows it.
	Cancelled
	// Accepted is fsynced on the user's own node.
	Accepted
	// Held is stored, all of it, by other members of the mesh as well.
	Held
	// Unconfirmed reached the end of its lifetime without a word: it may have arrived.
	Unconfirmed
	// Refused was received and not taken by the recipient's device.
	Refused
	// Delivered is confirmed by a receipt of the recipient's device.
	Delivered
	// Read was opened by a recipient who allows senders to know.
	Read
)

var stateNames = [...]string{"queued", "cancelled", "accepted", "held", "unconfirmed", "refused", "delivered", "read"}

// ParseState reads the name of a state.
func ParseState(name string) (State, error) {
	for i, n := range stateNames {
		if n == name {
			return State(i), nil
		}
	}
	return 0, fmt.Errorf("no state %q: want one of queued, accepted, held, delivered, read, unconfirmed, refused, cancelled", name)
}

// String returns the name of s.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// MarshalText returns the name of s.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Next returns the state of a mail in state s of which to was just confirmed: the
// later of both. Cancelled follows only Queued, and nothing follows Cancelled.
func (s State) Next(to State) State {
	switch {
	case s == Cancelled, to == Cancelled && s != Queued, to < s:
		return s
	default:
		return to
	}
}

// Final reports whether nothing is left to be done for the mail on this side. A late
// word of the recipient may still move it on.
func (s State) Final() bool { return s == Cancelled || s >= Unconfirmed }

// watched reports whether custody of a mail in state s is watched.
func (s State) watched() bool { return s == Accepted || s == Held }

// Reached reports whether a mail in state s got at least as far as want on the way to
// being read. What was cancelled, refused or never confirmed got nowhere.
func (s State) Reached(want State) bool {
	if s == want {
		return true
	}
	return s > want && s != Cancelled && s != Unconfirmed && s != Refused
}
