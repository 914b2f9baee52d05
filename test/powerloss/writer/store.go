package main

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/test/powerloss/load"
	"golang.org/x/sync/errgroup"
)

// writeStore writes until a write fails. The lines are
//
//	open                 the store is open
//	envelope W I         with its mailbox entry
//	ack W I NUMBER       by the writer's device, of a number in its user's mailbox
//	tagkey W I           of the writer's user
//	custody W I          of the writer's device for its envelope
//	seen W I             the stamp of a peer
//	stamp NUMBER         a stamp of the node's own
//	passport ID EXPORT
func writeStore(ctx context.Context, dir string, seed uint64, expires uint32) error {
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		return err
	}
	promised("open")
	var g errgroup.Group
	for w := range load.Writers {
		g.Go(func() error {
			for i := 0; ; i++ {
				item := load.Item{Seed: seed, Writer: w, I: i, Expires: passport.Time(expires)}
				if err := writeItem(ctx, s, item); err != nil {
					return fmt.Errorf("writer %d, item %d: %w", w, i, err)
				}
			}
		})
	}
	return g.Wait()
}

// writeItem puts an envelope, and one thing of another kind with every second.
func writeItem(ctx context.Context, s *store.Store, n load.Item) error {
	e := n.Envelope()
	outcomes, err := s.PutEnvelopes(ctx, []envelope.Arrival{{Envelope: e, From: n.From(), Matches: n.Match()}})
	if err != nil {
		return err
	}
	if full := outcomes[0].Full; full != envelope.NotFull {
		return fmt.Errorf("no room: %v", full)
	}
	promised("envelope %d %d", n.Writer, n.I)
	user, device := load.User(n.Writer), load.Device(n.Writer)
	switch n.I % 12 {
	case 1:
		last, err := s.LastNumber(user)
		if err != nil || last == 0 {
			return err
		}
		if err := s.Acknowledge(ctx, user, device, []uint64{last}); err != nil {
			return err
		}
		promised("ack %d %d %d", n.Writer, n.I, last)
	case 3:
		if err := s.PutTagKeys(ctx, user, []envelope.TagKey{n.TagKey()}); err != nil {
			return err
		}
		promised("tagkey %d %d", n.Writer, n.I)
	case 4: // an envelope of an own user: there is no custody for others'
		if err := s.PutCustody(ctx, device, []envelope.ID{e.ID()}); err != nil {
			return err
		}
		promised("custody %d %d", n.Writer, n.I)
	case 7:
		if fresh, err := s.FreshStamp(ctx, 3, device, n.Stamp()); err != nil || !fresh {
			return fmt.Errorf("stamp %d: fresh is %v: %w", n.Stamp(), fresh, err)
		}
		promised("seen %d %d", n.Writer, n.I)
	case 9:
		stamp, err := s.NextStamp()
		if err != nil {
			return err
		}
		promised("stamp %d", stamp)
	case 11:
		return writePassport(ctx, s)
	}
	return nil
}

func writePassport(ctx context.Context, s *store.Store) error {
	k, err := noise.GenerateKey(nil)
	if err != nil {
		return err
	}
	p, _, err := passport.Create(nil, k, 1000)
	if err != nil {
		return err
	}
	if _, err := s.PutPassport(ctx, p); err != nil {
		return err
	}
	promised("passport %s %s", p.ID(), hex.EncodeToString(p.Export()))
	return nil
}
