package clientapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi/nodepb"
)

type submitServer = grpc.BidiStreamingServer[nodepb.SubmitRequest, nodepb.SubmitReply]

// Submit implements the call.
func (s *Server) Submit(stream grpc.BidiStreamingServer[nodepb.SubmitRequest, nodepb.SubmitReply]) error {
	c, err := userOf(stream.Context())
	if err != nil {
		return err
	}
	done, err := s.sessions.beginSubmit(c.device)
	if err != nil {
		return err
	}
	defer done()
	for {
		r, err := stream.Recv()
		if isEnd(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.batch(stream, c, r); err != nil {
			return err
		}
	}
}

// batch takes one batch from its offer to its end.
func (s *Server) batch(stream submitServer, c caller, r *nodepb.SubmitRequest) error {
	all, unasked := r.Step.(*nodepb.SubmitRequest_All)
	packed := r.GetOffer()
	if unasked {
		packed = all.All
	}
	ids, err := unpack[envelope.ID](packed, offerSize)
	if err != nil {
		return err
	}
	if len(ids) == 0 || len(distinct(ids)) != len(ids) {
		return invalid("an offer must name ids, each once")
	}
	var wanted []uint32
	if unasked {
		wanted = indices(len(ids))
	} else if wanted, err = s.tellWanted(stream, ids); err != nil {
		return err
	}
	refused, err := s.receive(stream, c, ids, wanted)
	if err != nil {
		return err
	}
	return stream.Send(&nodepb.SubmitReply{Step: &nodepb.SubmitReply_Accepted{Accepted: &nodepb.Accepted{Refused: refused}}})
}

// indices returns all indices of a list of n.
func indices(n int) []uint32 {
	list := make([]uint32, n)
	for i := range list {
		list[i] = uint32(i)
	}
	return list
}

// tellWanted answers an offer.
func (s *Server) tellWanted(stream submitServer, ids []envelope.ID) ([]uint32, error) {
	wanted, err := s.wanted(ids)
	if err != nil {
		return nil, err
	}
	return wanted, stream.Send(&nodepb.SubmitReply{Step: &nodepb.SubmitReply_Wanted{Wanted: &nodepb.Wanted{Index: wanted}}})
}

// wanted returns the indices of those ids that the node lacks.
func (s *Server) wanted(ids []envelope.ID) ([]uint32, error) {
	missing, err := s.b.Missing(ids)
	if err != nil {
		return nil, err
	}
	lacks := make(map[envelope.ID]bool, len(missing))
	for _, id := range missing {
		lacks[id] = true
	}
	var wanted []uint32
	for i, id := range ids {
		if lacks[id] {
			wanted = append(wanted, uint32(i))
		}
	}
	return wanted, nil
}

// receive reads the envelopes that are wanted and puts them into the store, as many
// at once as putBytes allows. It does not read on while the store is busy, so the
// client is slowed down by gRPC's flow control.
func (s *Server) receive(stream submitServer, c caller, ids []envelope.ID, wanted []uint32) ([]*nodepb.Refusal, error) {
	p := &putter{s: s, ctx: stream.Context(), caller: c, index: make(map[envelope.ID]uint32, len(wanted))}
	for _, i := range wanted {
		r, err := stream.Recv()
		if isEnd(err) {
			return nil, invalid("the batch ended before all its envelopes came")
		}
		if err != nil {
			p.keep()
			return nil, err
		}
		step, ok := r.Step.(*nodepb.SubmitRequest_Envelope)
		if !ok {
			return nil, invalid("an offer before the batch's end")
		}
		if err := p.add(i, ids[i], step.Envelope); err != nil {
			return nil, err
		}
	}
	err := p.flush()
	return p.refused, err
}

// putter gathers envelopes of a batch.
type putter struct {
	s       *Server
	ctx     context.Context
	caller  caller
	index   map[envelope.ID]uint32 // in the offer
	ready   []*envelope.Envelope
	bytes   int
	refused []*nodepb.Refusal
}

// add takes the envelope that must have id.
func (p *putter) add(index uint32, id envelope.ID, b []byte) error {
	e, err := envelope.Parse(b)
	if err != nil {
		// Of a later version, perhaps, whose id this node cannot compute.
		p.refuse(index, ReasonInvalid, err.Error())
		return nil
	}
	if e.ID() != id {
		return invalid("envelope %s came in the place of %s", e.ID().Short(), id.Short())
	}
	p.index[id] = index
	p.ready = append(p.ready, e)
	p.bytes += len(b)
	if p.bytes < putBytes {
		return nil
	}
	return p.flush()
}

// flush puts what is ready.
func (p *putter) flush() error {
	if len(p.ready) == 0 {
		return nil
	}
	refusals, err := p.s.b.Submit(p.ctx, p.caller.user, p.caller.device, p.ready)
	if err != nil {
		return err
	}
	for _, r := range refusals {
		index, ok := p.index[r.ID]
		if !ok {
			return fmt.Errorf("the store refused envelope %s, which it was not given", r.ID)
		}
		p.refuse(index, r.Reason, r.Text)
	}
	p.ready, p.bytes = nil, 0
	return nil
}

// keep puts what came before the connection broke, so that it need not come again.
func (p *putter) keep() {
	if len(p.ready) == 0 || !p.s.b.Admitted(p.caller.device) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), keepLimit)
	defer cancel()
	// The client is not there any more; it asks what is missing when it is again.
	_, _ = p.s.b.Submit(ctx, p.caller.user, p.caller.device, p.ready)
}

// keepLimit bounds keep.
const keepLimit = 10 * time.Second

// maxRefusalText keeps the refusals of a whole batch in one message.
const maxRefusalText = 200

func (p *putter) refuse(index uint32, reason Reason, text string) {
	if len(text) > maxRefusalText {
		text = strings.ToValidUTF8(text[:maxRefusalText], "")
	}
	p.refused = append(p.refused, &nodepb.Refusal{Index: index, Reason: nodepb.RefusalReason(reason), Text: text})
}

// isEnd reports whether the client has said all it had to say.
func isEnd(err error) bool { return errors.Is(err, io.EOF) }
