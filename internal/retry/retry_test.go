package retry

import (
	"testing"
	"time"
)

// However long somebody is away, a twentieth of that is lost, within the bounds, and it
// takes few tries.
func TestWait(t *testing.T) {
	const least, most = time.Second, 5 * time.Minute
	var away time.Duration
	tries := 0
	for ; away < time.Hour; tries++ {
		pause := Wait(away, least, most)
		if pause < least || pause > most || pause > max(away/20, least) {
			t.Fatalf("a pause of %v after %v", pause, away)
		}
		away += pause
	}
	if tries > 150 {
		t.Errorf("%d tries in an hour", tries)
	}
	for away, want := range map[time.Duration]time.Duration{-time.Hour: least, 30 * time.Second: 1500 * time.Millisecond, 30 * 24 * time.Hour: most} {
		if got := Wait(away, least, most); got != want {
			t.Errorf("%v after %v, want %v", got, away, want)
		}
	}
}
