package account

import (
	"math/rand/v2"
	"time"
)

// jitter returns d or up to a quarter more, so that devices do not act at the same time.
func jitter(d time.Duration) time.Duration {
	if d < 4 {
		return d
	}
	return d + rand.N(d/4)
}
