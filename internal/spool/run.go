package spool

import (
	"context"
	"errors"
	"time"

	"github.com/asmtp/asmtp/internal/store"
)

const (
	// expireEvery is how often Run looks for what has ended. The ends are full hours.
	expireEvery = time.Hour
	// keepEpoch is how long the keys of an epoch are kept after the end of the last
	// envelope they can match: as long as the store keeps that envelope.
	keepEpoch = 4 * time.Hour
	// expirePiece bounds what is removed before others are let in.
	expirePiece = 1000
)

// Run removes what has ended, now and every hour, until ctx ends. It returns nil then;
// what goes wrong is logged and tried again in the next hour.
func (s *Spool) Run(ctx context.Context) error {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		if err := s.expire(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("spool: remove what has ended", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// expire removes what has ended by now. To remove something takes room on the disk too, so
// if that is full, what was removed is given back to it before going on.
func (s *Spool) expire(ctx context.Context) error {
	now, removed := s.clock(), 0
	for {
		n, err := s.store.ExpireEnvelopes(ctx, now, expirePiece)
		removed += n
		if errors.Is(err, store.ErrDiskFull) && n > 0 {
			err = s.store.Compact(ctx)
		} else if err == nil && n < expirePiece {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := s.expireKeys(ctx, s.firstEpoch(now)); err != nil {
		return err
	}
	s.log.Debug("spool: removed what has ended", "count", removed)
	return s.store.Compact(ctx)
}

func (s *Spool) expireKeys(ctx context.Context, before uint32) error {
	s.registering.Lock()
	defer s.registering.Unlock()
	if !s.keys.anyBefore(before) {
		return nil
	}
	if err := s.store.ExpireTagKeys(ctx, before); err != nil {
		return err
	}
	s.keys.removeBefore(before)
	return nil
}
