package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/asmtp/asmtp/internal/account"
)

// lifetime is a flag for how long delivery is tried: a duration such as 36h, or days
// such as 10d.
type lifetime time.Duration

// Type implements pflag.Value.
func (l *lifetime) Type() string { return "D" }

// String implements pflag.Value.
func (l *lifetime) String() string {
	if *l == 0 {
		return ""
	}
	return time.Duration(*l).String()
}

// Set implements pflag.Value.
func (l *lifetime) Set(text string) error {
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil {
		return fmt.Errorf("want hours or days, such as 36h or 10d")
	}
	if d < account.MinLifetime || d > account.MaxLifetime {
		return account.ErrLifetime
	}
	*l = lifetime(d)
	return nil
}
