package clientapi

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi/nodepb"
	"github.com/asmtp/asmtp/passport"
)

// Sync implements the call.
func (s *Server) Sync(r *nodepb.SyncRequest, out grpc.ServerStreamingServer[nodepb.SyncReply]) error {
	c, err := userOf(out.Context())
	if err != nil {
		return err
	}
	generation, after := s.b.Generation(), r.After
	if r.Generation != generation {
		after = 0
	}
	for first := true; ; first = false {
		more := s.b.Wait(c.user)
		if after, err = s.sendDeliveries(out, c.user, generation, after); err != nil {
			return err
		}
		if first {
			if err := out.Send(&nodepb.SyncReply{Generation: generation, Number: after, CaughtUp: true}); err != nil {
				return err
			}
		}
		if !r.Follow {
			return nil
		}
		if err := wait(out.Context(), more); err != nil {
			return err
		}
	}
}

// sendDeliveries sends all that is in the mailbox after a number, and returns the last one's.
func (s *Server) sendDeliveries(out grpc.ServerStreamingServer[nodepb.SyncReply], user passport.ID, generation, after uint64) (uint64, error) {
	for {
		batch, err := s.b.Deliveries(user, after, deliveryBatch)
		if err != nil {
			return after, err
		}
		for _, d := range batch {
			// The stream's own context does not end when the device is revoked.
			if err := context.Cause(out.Context()); err != nil {
				return after, err
			}
			err := out.Send(&nodepb.SyncReply{Generation: generation, Number: d.Number, Handle: d.Handle[:], Envelope: d.Envelope})
			if err != nil {
				return after, err
			}
			after = d.Number
		}
		if len(batch) < deliveryBatch {
			return after, nil
		}
	}
}

// WatchCustody implements the call.
func (s *Server) WatchCustody(stream grpc.BidiStreamingServer[nodepb.WatchCustodyRequest, nodepb.WatchCustodyReply]) error {
	if _, err := userOf(stream.Context()); err != nil {
		return err
	}
	ids, follow, err := receiveIDs(stream)
	if err != nil {
		return err
	}
	counts := make([]int, len(ids))
	for i := range counts {
		counts[i] = -1 // of every id at least one count is sent
	}
	for {
		changed := s.b.WaitCustody()
		for i, id := range ids {
			count, err := s.b.Custody(id)
			if err != nil {
				return err
			}
			if count == counts[i] {
				continue
			}
			counts[i] = count
			if err := stream.Send(&nodepb.WatchCustodyReply{Id: id[:], Count: uint32(count)}); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		if err := wait(stream.Context(), changed); err != nil {
			return err
		}
		if err := pause(stream.Context(), custodyPause); err != nil {
			return err
		}
	}
}

// receiveIDs reads the client's side to its end.
func receiveIDs(stream grpc.BidiStreamingServer[nodepb.WatchCustodyRequest, nodepb.WatchCustodyReply]) (ids []envelope.ID, follow bool, err error) {
	for {
		r, err := stream.Recv()
		if isEnd(err) {
			return ids, follow, nil
		}
		if err != nil {
			return nil, false, err
		}
		more, err := unpack[envelope.ID](r.Ids, watchBatch)
		if err != nil {
			return nil, false, err
		}
		if len(ids)+len(more) > maxWatched {
			return nil, false, invalid("more than %d ids to watch", maxWatched)
		}
		ids = append(ids, more...)
		follow = follow || r.Follow
	}
}

// wait returns nil when c is closed, or the cause of ctx's end.
func wait(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pause returns nil after d, or the cause of ctx's end.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
