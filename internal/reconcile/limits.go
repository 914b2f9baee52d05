package reconcile

import "errors"

// ErrLimit is wrapped by the error of a side that has done what [Limits] allow. What an
// [Initiator] found until then stands.
var ErrLimit = errors.New("reconciliation: limit reached")

// Limits bound what one session costs. 0 means the default.
type Limits struct {
	// Frame is the most bytes of a frame; it has to be the same on both sides.
	Frame int
	// Rounds is how many frames each side sends.
	Rounds int
	// Found is how many ids are gathered that one side lacks, for each side. When there
	// are as many the initiator is done, and another session finds more.
	Found int
	// Pending is how many ranges the initiator keeps that are still to be asked.
	Pending int
}

// The defaults of Limits.
const (
	DefaultFrame   = 256 << 10
	DefaultRounds  = 256
	DefaultFound   = 65536
	DefaultPending = 32768
)

const (
	// fanOut is in how many pieces a range is cut.
	fanOut = 16
	// few is how many ids are listed instead of cutting their range.
	few = 2*fanOut - 1
	// largest is more than any answer but a list of many ids takes: fanOut fingerprints,
	// or few ids, with their bounds, a gap and an agreement in front.
	largest = few*idSize + 256
	// minFrame is the smallest frame that a side can work with.
	minFrame = 4 * largest
)

func (l Limits) withDefaults() Limits {
	if l.Frame == 0 {
		l.Frame = DefaultFrame
	}
	l.Frame = max(l.Frame, minFrame)
	if l.Rounds == 0 {
		l.Rounds = DefaultRounds
	}
	if l.Found == 0 {
		l.Found = DefaultFound
	}
	if l.Pending == 0 {
		l.Pending = DefaultPending
	}
	return l
}
