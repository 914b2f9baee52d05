package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. It is written as a plain number or with one of the units
// KiB, MiB, GiB and TiB: 4GiB, 500 MiB, 1.5GiB.
type Size int64

// units are the powers of 1024. Those of 1000 are refused rather than guessed: whoever
// writes GB seldom knows which of the two is meant, and some tools mean the other.
var units = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

var errSize = errors.New("want bytes, such as 4GiB, 500MiB or 1048576")

// ParseSize reads a size.
func ParseSize(text string) (Size, error) {
	number, factor := strings.TrimSpace(text), int64(1)
	for _, u := range units {
		if rest, ok := cutSuffixFold(number, u.name); ok {
			number, factor = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	if n, err := strconv.ParseUint(number, 10, 63); err == nil {
		if int64(n) > math.MaxInt64/factor {
			return 0, errSize
		}
		return Size(int64(n) * factor), nil
	}
	if factor == 1 || strings.Trim(number, "0123456789.") != "" { // no fraction of a byte, no exponent
		return 0, errSize
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f*float64(factor) >= math.MaxInt64 {
		return 0, errSize
	}
	return Size(f * float64(factor)), nil
}

func cutSuffixFold(s, suffix string) (string, bool) {
	if i := len(s) - len(suffix); i >= 0 && strings.EqualFold(s[i:], suffix) {
		return s[:i], true
	}
	return s, false
}

// String writes s with the largest unit that keeps it a whole number.
func (s Size) String() string {
	for _, u := range units {
		if s != 0 && u.bytes > 1 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
