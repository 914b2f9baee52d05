package spool

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
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
	m := map[envelope.Full]Refusals{}
	for limit, r := range s.refusals.by {
		sum := m[limit.reason]
		sum.Count += r.Count
		if sum.Since.IsZero() || !r.Since.IsZero() && r.Since.Before(sum.Since) {
			sum.Since = r.Since
		}
		if r.Last.After(sum.Last) {
			sum.Last = r.Last
		}
		m[limit.reason] = sum
	}
	return m
}

// limit is what was reached: the quotas hold for two accounts, and each neighbour has a
// share of its own.
type limit struct {
	reason    envelope.Full
	own       bool            // of FullSmall and FullLarge: the account of the own users
	neighbour noise.PublicKey // of FullShare
}

func limitOf(reason envelope.Full, a *envelope.Arrival) limit {
	switch reason {
	case envelope.FullDisk:
		return limit{reason: reason}
	case envelope.FullShare:
		return limit{reason: reason, neighbour: a.From}
	}
	return limit{reason: reason, own: a.From.IsZero() || len(a.Matches) > 0}
}

type refusals struct {
	mu sync.Mutex
	by map[limit]Refusals // neighbours are members, so it stays small
}

// refuse counts a refusal and returns its error.
func (s *Spool) refuse(reason envelope.Full, a *envelope.Arrival) *FullError {
	now, l := s.now(), limitOf(reason, a)
	s.refusals.mu.Lock()
	defer s.refusals.mu.Unlock()
	if s.refusals.by == nil {
		s.refusals.by = map[limit]Refusals{}
	}
	r := s.refusals.by[l]
	if r.Since.IsZero() {
		r.Since = now
		s.log.Warn("spool: new envelopes are refused", "reason", reason.String(), "own", l.own, "neighbour", a.From.Short())
	}
	r.Count++
	r.Last = now
	s.refusals.by[l] = r
	e := &FullError{Reason: reason, Since: r.Since}
	switch quotas := s.store.Quotas(); reason {
	case envelope.FullSmall:
		e.Limit = quotas.Small
	case envelope.FullLarge:
		e.Limit = quotas.Large
	}
	return e
}

// taken notes that an envelope went in, so that no limit that it might have met is reached.
func (s *Spool) taken(a *envelope.Arrival) {
	reason := envelope.FullSmall
	if a.Envelope.Class() == len(envelope.Sizes)-1 {
		reason = envelope.FullLarge
	}
	s.refusals.mu.Lock()
	defer s.refusals.mu.Unlock()
	for _, reason := range [...]envelope.Full{envelope.FullDisk, envelope.FullShare, reason} {
		l := limitOf(reason, a)
		if r, ok := s.refusals.by[l]; ok && !r.Since.IsZero() {
			r.Since = time.Time{}
			s.refusals.by[l] = r
			s.log.Info("spool: envelopes are taken again", "reason", reason.String(), "own", l.own, "neighbour", a.From.Short())
		}
	}
}
