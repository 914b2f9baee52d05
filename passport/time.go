package passport

import (
	"math"
	"time"
)

// Epoch is the Unix time of Time(0), 2020-01-01 00:00:00 UTC.
const Epoch = 1_577_836_800

// Time is a moment in seconds since 2020-01-01 00:00:00 UTC, as blocks and
// envelopes carry it. It ends in February 2156.
type Time uint32

// TimeOf returns the last whole second at or before t. Moments that a Time cannot
// hold become its first or last value.
func TimeOf(t time.Time) Time {
	s := t.Unix() - Epoch
	return Time(min(max(s, 0), math.MaxUint32))
}

// Time returns t as a time.Time in UTC.
func (t Time) Time() time.Time { return time.Unix(Epoch+int64(t), 0).UTC() }

// Add returns the moment d after t, cut to whole seconds. Moments that a Time
// cannot hold become its first or last value.
func (t Time) Add(d time.Duration) Time {
	s := int64(t) + int64(d/time.Second)
	return Time(min(max(s, 0), math.MaxUint32))
}

// Sub returns how long t is after u. Durations hold 292 years, so it never overflows.
func (t Time) Sub(u Time) time.Duration {
	return time.Duration(int64(t)-int64(u)) * time.Second
}

// String returns t as RFC 3339 writes it, in UTC.
func (t Time) String() string { return t.Time().Format(time.RFC3339) }
