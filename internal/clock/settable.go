//go:build asmtpclock

package clock

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// Now returns the current time plus the seconds that the file named by ASMTP_CLOCK
// holds at this moment; no file or no number means none.
func Now() time.Time {
	b, err := os.ReadFile(os.Getenv("ASMTP_CLOCK"))
	if err != nil {
		return time.Now()
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return time.Now()
	}
	return time.Now().Add(time.Duration(seconds) * time.Second)
}
