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
	m := &mailbox{s: s, out: out, user: c.user, generation: s.b.Generation(), after: r.After, smallFirst: r.SmallFirst}
	if r.SmallFirst {
		m.after, m.small = r.AfterLarge, r.AfterSmall
	}
	if r.Generation != m.generation {
		m.after, m.small = 0, 0
	}
	if r.Follow && r.Early {
		expected, stop := s.b.Expect(c.user)
		defer stop()
		m.expected, m.early = expected, make(map[envelope.ID]struct{})
	}
	for first := true; ; first = false {
		more := s.b.Wait(c.user)
		if err := m.send(); err != nil {
			return err
		}
		if first {
			if err := out.Send(&nodepb.SyncReply{Generation: m.generation, Number: m.upTo(), CaughtUp: true}); err != nil {
				return err
			}
		}
		if !r.Follow {
			return nil
		}
		if err := m.wait(more); err != nil {
			return err
		}
	}
}

// mailbox is what a call of Sync sends.
type mailbox struct {
	s          *Server
	out        grpc.ServerStreamingServer[nodepb.SyncReply]
	user       passport.ID
	generation uint64
	after      uint64 // all up to it was sent; with smallFirst, of the largest size class
	small      uint64 // with smallFirst, all others up to it
	smallFirst bool

	expected <-chan envelope.Early    // nil: not wanted
	early    map[envelope.ID]struct{} // sent, but not as deliveries yet
}

// upTo returns the number up to which everything was sent.
func (m *mailbox) upTo() uint64 {
	if m.smallFirst {
		return min(m.after, m.small)
	}
	return m.after
}

// send sends all that is there.
func (m *mailbox) send() error {
	for {
		n, limit := 0, deliveryBatch
		var err error
		if !m.smallFirst {
			var batch []envelope.Delivery
			if batch, err = m.s.b.Deliveries(m.user, m.after, limit); err != nil {
				return err
			}
			if n = len(batch); n > 0 {
				m.after = batch[n-1].Number
			}
			err = m.deliver(batch)
		} else {
			if err = m.sendOf(false, &m.small); err != nil {
				return err
			}
			limit = largeBatch
			n, err = m.batchOf(true, &m.after, limit)
		}
		if err != nil || n < limit {
			return err
		}
	}
}

// sendOf sends all of a kind.
func (m *mailbox) sendOf(large bool, after *uint64) error {
	for {
		n, err := m.batchOf(large, after, deliveryBatch)
		if err != nil || n < deliveryBatch {
			return err
		}
	}
}

// batchOf sends some of a kind, and returns how many.
func (m *mailbox) batchOf(large bool, after *uint64, limit int) (int, error) {
	batch, upTo, err := m.s.b.DeliveriesOf(m.user, large, *after, limit)
	if err != nil {
		return 0, err
	}
	if err := m.deliver(batch); err != nil {
		return 0, err
	}
	*after = upTo
	return len(batch), nil
}

// wait returns when there is more to send. Meanwhile it sends what is still being stored.
func (m *mailbox) wait(more <-chan struct{}) error {
	for {
		select {
		case <-more: // even if something is expected: it may be stored already
			return nil
		default:
		}
		select {
		case <-more:
			return nil
		case e := <-m.expected:
			if err := m.sendEarly(e); err != nil {
				return err
			}
		case <-m.out.Context().Done():
			return context.Cause(m.out.Context())
		}
	}
}

func (m *mailbox) sendEarly(e envelope.Early) error {
	if err := context.Cause(m.out.Context()); err != nil {
		return err
	}
	if _, sent := m.early[e.ID]; sent { // several of the user's keys match it
		return nil
	}
	if len(m.early) >= maxEarly { // they never became deliveries, and there is no end of them
		m.expected = nil
		return nil
	}
	m.early[e.ID] = struct{}{}
	return m.out.Send(&nodepb.SyncReply{Generation: m.generation, Handle: e.Handle[:], Id: e.ID[:], Envelope: e.Envelope, Early: true})
}

func (m *mailbox) deliver(batch []envelope.Delivery) error {
	for _, d := range batch {
		// The stream's own context does not end when the device is revoked.
		if err := context.Cause(m.out.Context()); err != nil {
			return err
		}
		r := &nodepb.SyncReply{Generation: m.generation, Number: d.Number, Handle: d.Handle[:], Envelope: d.Envelope}
		if _, sent := m.early[d.ID]; sent {
			delete(m.early, d.ID)
			r.Envelope, r.Id = nil, d.ID[:]
		}
		if err := m.out.Send(r); err != nil {
			return err
		}
	}
	return nil
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
