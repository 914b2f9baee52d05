package spool

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
)

// ErrFull is wrapped by Result.Err when there is no room for an envelope; the error is a
// *FullError.
var ErrFull = errors.New("no room")

// FullError says for what there is no room, in words for the person whose mail it is.
type FullError struct {
	Reason envelope.Full
	Limit  int64     // the quota in bytes; 0 if the disk is full
	Since  time.Time // of the first refusal for this reason since an envelope was taken
}

// Error names the limit, says that nothing is lost, and what can be done.
func (e *FullError) Error() string {
	what, remedy := "", ""
	switch e.Reason {
	case envelope.FullSmall:
		what, remedy = fmt.Sprintf("the node's quota of %s for small envelopes is used up", size(e.Limit)), "raise storage.quota.rest"
	case envelope.FullLarge:
		what, remedy = fmt.Sprintf("the node's quota of %s for large envelopes is used up", size(e.Limit)), "raise storage.quota.large"
	case envelope.FullShare:
		what, remedy = "the share of this neighbour in the node's quota is used up", "raise storage.quota"
	default:
		what, remedy = "the node's disk is full", "make room on it, or lower storage.reserve"
	}
	return fmt.Sprintf("%v: %s since %s; what is stored stays, and room comes back as mail ends, or the operator can %s",
		ErrFull, what, e.Since.UTC().Format("2006-01-02 15:04 MST"), remedy)
}

// Is makes errors.Is(err, ErrFull) true.
func (e *FullError) Is(target error) bool { return target == ErrFull }

// size writes a quota as the configuration does.
func size(n int64) string {
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if u := int64(1) << (40 - 10*i); n >= u && n%u == 0 {
			return fmt.Sprintf("%d %s", n/u, unit)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// Refusals counts the envelopes that were refused for one reason since the spool was made.
type Refusals struct {
	Count int64
	Since time.Time // first refusal since an envelope was taken in again; zero: none since then
	Last  time.Time
}

// Refused returns the refusals for want of room, by reason.
func (s *Spool) Refused() map[envelope.Full]Refusals {
	s.refusals.mu.Lock()
	defer s.refusals.mu.Unlock()
	m := make(map[envelope.Full]Refusals, len(s.refusals.by))
	for reason, r := range s.refusals.by {
		m[reason] = r
	}
	return m
}

type refusals struct {
	mu sync.Mutex
	by map[envelope.Full]Refusals
}

// refuse counts a refusal and returns its error.
func (s *Spool) refuse(reason envelope.Full, quotas store.Quotas) *FullError {
	now := s.now()
	s.refusals.mu.Lock()
	defer s.refusals.mu.Unlock()
	if s.refusals.by == nil {
		s.refusals.by = map[envelope.Full]Refusals{}
	}
	r := s.refusals.by[reason]
	if r.Since.IsZero() {
		r.Since = now
		s.log.Warn("spool: new envelopes are refused", "reason", reason.String())
	}
	r.Count++
	r.Last = now
	s.refusals.by[reason] = r
	e := &FullError{Reason: reason, Since: r.Since}
	switch reason {
	case envelope.FullSmall:
		e.Limit = quotas.Small
	case envelope.FullLarge:
		e.Limit = quotas.Large
	}
	return e
}

// taken notes that an envelope went in: there was room on the disk, and in the quota of its
// size. Of a share that says nothing, unless its neighbour was the one.
func (s *Spool) taken(large bool) {
	s.refusals.mu.Lock()
	defer s.refusals.mu.Unlock()
	reasons := [...]envelope.Full{envelope.FullDisk, envelope.FullSmall}
	if large {
		reasons[1] = envelope.FullLarge
	}
	for _, reason := range reasons {
		if r, ok := s.refusals.by[reason]; ok && !r.Since.IsZero() {
			r.Since = time.Time{}
			s.refusals.by[reason] = r
			s.log.Info("spool: envelopes are taken again", "reason", reason.String())
		}
	}
}
