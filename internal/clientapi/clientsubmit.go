package clientapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi/nodepb"
)

// Submit hands envelopes over and returns once the node has all of them on its disk
// but those refused. fetch gives the encoded bytes of an envelope; it is called for
// those that the node lacks, one at a time and in order, so not all of a mail need be
// in memory. An id that occurs twice is sent once.
//
// After an error some may have been accepted; offering them again costs only their
// ids. refused may be used also then. An error of fetch ends it and is wrapped.
func (c *Client) Submit(ctx context.Context, ids []envelope.ID, fetch func(envelope.ID) ([]byte, error)) (refused []Refusal, err error) {
	return c.submit(ctx, ids, fetch, false)
}

// SubmitNew is Submit for envelopes that no node can have yet: they are handed over without
// asking whether it has.
func (c *Client) SubmitNew(ctx context.Context, ids []envelope.ID, fetch func(envelope.ID) ([]byte, error)) (refused []Refusal, err error) {
	return c.submit(ctx, ids, fetch, true)
}

func (c *Client) submit(ctx context.Context, ids []envelope.ID, fetch func(envelope.ID) ([]byte, error), unasked bool) (refused []Refusal, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ctx, p, cancel := c.patient(ctx)
	defer cancel()
	stream, err := c.call.Submit(ctx)
	if err != nil {
		return nil, fmt.Errorf("submit: %w", fromStatus(ctx, err))
	}
	s := &submission{ctx: ctx, patience: p, stream: stream, fetch: fetch}
	one := s.batch
	if unasked {
		one = s.batchOfAll
	}
	for batch := range slices.Chunk(distinct(ids), offerSize) {
		more, err := one(batch)
		refused = append(refused, more...)
		if err != nil {
			return refused, fmt.Errorf("submit: %w", err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return refused, fmt.Errorf("submit: %w", fromStatus(ctx, err))
	}
	// All is on the node's disk; how the call ends makes no difference any more.
	_, _ = during(p, stream.Recv)
	return refused, nil
}

type submission struct {
	ctx      context.Context
	patience *patience
	stream   grpc.BidiStreamingClient[nodepb.SubmitRequest, nodepb.SubmitReply]
	fetch    func(envelope.ID) ([]byte, error)
}

// batch takes one batch from its offer to its end.
func (s *submission) batch(ids []envelope.ID) ([]Refusal, error) {
	if err := s.send(&nodepb.SubmitRequest{Step: &nodepb.SubmitRequest_Offer{Offer: pack(ids)}}); err != nil {
		return nil, err
	}
	reply, err := s.receive()
	if err != nil {
		return nil, err
	}
	wanted := reply.GetWanted()
	if wanted == nil {
		return nil, fmt.Errorf("%w: an offer was not answered", ErrAnswer)
	}
	last := -1
	for _, i := range wanted.Index {
		if int64(i) <= int64(last) || int64(i) >= int64(len(ids)) {
			return nil, fmt.Errorf("%w: an envelope is wanted that was not offered", ErrAnswer)
		}
		last = int(i)
		if err := s.handOver(ids[i]); err != nil {
			return nil, err
		}
	}
	return s.end(ids)
}

// batchOfAll is batch for envelopes that the node is not asked about.
func (s *submission) batchOfAll(ids []envelope.ID) ([]Refusal, error) {
	if err := s.send(&nodepb.SubmitRequest{Step: &nodepb.SubmitRequest_All{All: pack(ids)}}); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := s.handOver(id); err != nil {
			return nil, err
		}
	}
	return s.end(ids)
}

// handOver sends an envelope.
func (s *submission) handOver(id envelope.ID) error {
	b, err := s.fetch(id)
	if err != nil {
		return fmt.Errorf("fetch envelope %s: %w", id, err)
	}
	return s.send(&nodepb.SubmitRequest{Step: &nodepb.SubmitRequest_Envelope{Envelope: b}})
}

// end reads what became of a batch.
func (s *submission) end(ids []envelope.ID) ([]Refusal, error) {
	reply, err := s.receive()
	if err != nil {
		return nil, err
	}
	return refusals(ids, reply.GetAccepted())
}

// refusals reads the end of a batch.
func refusals(ids []envelope.ID, accepted *nodepb.Accepted) ([]Refusal, error) {
	if accepted == nil {
		return nil, fmt.Errorf("%w: a batch has no end", ErrAnswer)
	}
	var list []Refusal
	for _, r := range accepted.Refused {
		if int64(r.GetIndex()) >= int64(len(ids)) {
			return nil, fmt.Errorf("%w: an envelope is refused that was not offered", ErrAnswer)
		}
		reason := Reason(r.Reason)
		if r.Reason < 0 || int(r.Reason) >= len(reasonNames) {
			reason = ReasonOther
		}
		list = append(list, Refusal{ID: ids[r.Index], Reason: reason, Text: r.Text})
	}
	return list, nil
}

// send sends one message; if the node has ended the call, the error says why.
func (s *submission) send(r *nodepb.SubmitRequest) error {
	_, err := during(s.patience, func() (any, error) { return nil, s.stream.Send(r) })
	if !errors.Is(err, io.EOF) {
		return fromStatus(s.ctx, err)
	}
	for err = nil; err == nil; {
		_, err = during(s.patience, s.stream.Recv)
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the call ended too early", ErrAnswer)
	}
	return fromStatus(s.ctx, err)
}

func (s *submission) receive() (*nodepb.SubmitReply, error) {
	r, err := during(s.patience, s.stream.Recv)
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: the call ended too early", ErrAnswer)
	}
	if err != nil {
		return nil, fromStatus(s.ctx, err)
	}
	return r, nil
}
