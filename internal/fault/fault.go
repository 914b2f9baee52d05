// Package fault has the faults that "make chaos BREAK=NAME" builds into the programs, to
// show that its checker finds each of them. They are constants: without the build tag of
// a fault the compiler leaves its code out, and no released program has any.
//
// Start at the constant of a fault; it is used in one place each.
package fault

// The faults. Each is true only under its build tag, "break_" and its name.
const (
	// AckBeforeFsync: the store answers its callers before it has committed.
	AckBeforeFsync = ackBeforeFsync
	// ForgetCustody: a node says that it stores an envelope, and does not.
	ForgetCustody = forgetCustody
	// DoubleAccept: a mail that came already counts as new.
	DoubleAccept = doubleAccept
	// EarlyExpiry: a node removes envelopes before their end.
	EarlyExpiry = earlyExpiry
)

// Any reports whether this program was built with a fault, which it then says at its start.
const Any = ackBeforeFsync || forgetCustody || doubleAccept || earlyExpiry
