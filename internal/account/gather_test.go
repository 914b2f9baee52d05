package account

import (
	"testing"
	"testing/synctest"
	"time"
)

// Writes that are likely to come at once share a commit; what is not likely is not waited for.
func TestGather(t *testing.T) {
	call := func() *writeCall { return &writeCall{} }
	soon := func() *writeCall { return &writeCall{made: make(chan struct{})} }
	took := 2 * time.Millisecond
	for _, tt := range []struct {
		name       string
		last, came int           // of the transaction before, somebody waited for
		since      time.Duration // its end
		there      []*writeCall  // when it begins to gather
		more       []*writeCall  // a millisecond later
		writes     int
		wait       time.Duration
	}{
		{"alone", 1, 0, 0, []*writeCall{call()}, []*writeCall{call()}, 1, 0},
		{"alone, with what nobody waits for", 1, 0, 0, []*writeCall{soon(), call()}, nil, 2, 0},
		{"the first of two", 2, 0, 0, []*writeCall{call()}, []*writeCall{call()}, 2, time.Millisecond},
		{"what nobody waits for beside it", 2, 0, 0, []*writeCall{call(), soon()}, []*writeCall{call()}, 3, time.Millisecond},
		{"two who alternate", 1, 1, 0, []*writeCall{call()}, []*writeCall{call()}, 2, time.Millisecond},
		{"the other does not come", 2, 0, 0, []*writeCall{call()}, nil, 1, took},
		{"long after", 2, 0, time.Second, []*writeCall{call()}, []*writeCall{call()}, 1, 0},
		{"more than expected", 2, 0, 0, []*writeCall{call(), call(), call()}, nil, 3, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &Account{}
				now := time.Now()
				a.together = gathered{tt.last, tt.came, now.Add(-took), now}
				time.Sleep(tt.since)
				for _, c := range tt.there {
					a.writeWithNext(c)
				}
				go func() {
					time.Sleep(time.Millisecond)
					for _, c := range tt.more {
						a.writeWithNext(c)
					}
				}()
				began := time.Now()
				if got := len(a.gather()); got != tt.writes || time.Since(began) != tt.wait {
					t.Errorf("%d writes after %v, want %d after %v", got, time.Since(began), tt.writes, tt.wait)
				}
				synctest.Wait()
				time.Sleep(maxGather) // the rest comes
			})
		})
	}
}
