// Package retry says how long to wait before the next try to reach somebody who is away. There
// is one function, [Wait]; jitter is up to the caller.
package retry

import "time"

// share is which part of the time that somebody is away is lost at most until it is noticed
// that they are back.
const share = 20

// Wait returns the pause before the next try to reach somebody who has been away for so long: a
// twentieth of that, within bounds. Who was away for half a minute is reached 1.5 s after the
// return at most, while an hour costs some 120 tries. With pauses that double, half of the time
// away can be lost once more.
func Wait(away, least, most time.Duration) time.Duration {
	return min(max(away/share, least), most)
}
