package main

import (
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
)

// The line says how far a transfer is, and once that can be told how fast it is and how long
// it will take; another mail begins anew.
func TestProgressTellsRateAndRemainingTime(t *testing.T) {
	var out strings.Builder
	now := time.Unix(1e9, 0)
	p := &progress{w: &out, now: func() time.Time { return now }, of: map[string]*pace{}}
	const mib = 1 << 20
	for _, step := range []struct {
		after time.Duration
		done  int64
		want  string
	}{
		{0, 0, "receiving 0 bytes of 50.0 MiB (0 %)"},
		{500 * time.Millisecond, 1 * mib, "receiving 1.0 MiB of 50.0 MiB (2 %)"},
		{20 * time.Millisecond, 2 * mib, ""}, // drawn just before
		{1480 * time.Millisecond, 10 * mib, "receiving 10.0 MiB of 50.0 MiB (20 %), 5.0 MiB/s, 8s left"},
		{2 * time.Second, 30 * mib, "receiving 30.0 MiB of 50.0 MiB (60 %), 7.5 MiB/s, 3s left"},
		{time.Second, 50 * mib, "receiving 50.0 MiB of 50.0 MiB (100 %)"},
		{time.Hour, 2 * mib, "receiving 2.0 MiB of 50.0 MiB (4 %)"},
		{2 * time.Second, 4 * mib, "receiving 4.0 MiB of 50.0 MiB (8 %), 1.0 MiB/s, 46s left"},
	} {
		now = now.Add(step.after)
		out.Reset()
		p.show(account.Progress{Step: "receiving", Done: step.done, All: 50 * mib})
		if got := strings.TrimPrefix(out.String(), "\r\x1b[K"); got != step.want {
			t.Errorf("got %q, want %q", got, step.want)
		}
	}
}
