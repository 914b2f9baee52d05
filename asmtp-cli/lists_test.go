package main

import (
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
)

// A line of a list stays a line: a long subject is cut, by characters, and says so.
func TestLongSubjectIsCut(t *testing.T) {
	for _, tt := range []struct {
		subject, want string
	}{
		{"short", "short"},
		{strings.Repeat("ü", 72), strings.Repeat("ü", 72)},
		{strings.Repeat("ü", 73), strings.Repeat("ü", 71) + "…"},
	} {
		line := summaryLine(account.Summary{Subject: tt.subject, Certain: true, Read: true})
		if !strings.HasSuffix(line, " "+tt.want) {
			t.Errorf("%d characters: the line ends in %q", len([]rune(tt.subject)), line)
		}
	}
}

func TestLifetimeFlag(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1h": time.Hour, "36h": 36 * time.Hour, "10d": 240 * time.Hour, "60d": 1440 * time.Hour, "90m": 90 * time.Minute,
		"": 0, "d": 0, "0d": 0, "59m": 0, "61d": 0, "-1d": 0, "1.5d": 0, "10": 0, "99999999999999999999d": 0, "-36h": 0, "1d2h": 0,
	} {
		var l lifetime
		if err := l.Set(text); (err == nil) != (want != 0) || time.Duration(l) != want {
			t.Errorf("%q is %v (%v), want %v", text, time.Duration(l), err, want)
		}
	}
}
