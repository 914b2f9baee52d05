package clientapi

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/asmtp/asmtp/internal/clientapi/nodepb"
	"github.com/asmtp/asmtp/passport"
)

// Passports implements the call.
func (s *Server) Passports(r *nodepb.PassportsRequest, out grpc.ServerStreamingServer[nodepb.PassportsReply]) error {
	generation, after := s.b.Generation(), r.After
	if r.Generation != generation {
		after = 0
	}
	for first := true; ; first = false {
		more := s.b.WaitPassports()
		var err error
		if after, err = s.sendChanges(out, generation, after); err != nil {
			return err
		}
		if first {
			if err := out.Send(&nodepb.PassportsReply{Generation: generation, Number: after, CaughtUp: true}); err != nil {
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

// change is a passport that changed, by the number of its last change.
type change struct {
	number uint64
	id     passport.ID
}

// sendChanges sends all passports that changed after a number, and returns the
// number of the last one. What is read from the store is bounded, so that the store
// does not wait for the client.
func (s *Server) sendChanges(out grpc.ServerStreamingServer[nodepb.PassportsReply], generation, after uint64) (uint64, error) {
	for {
		var batch []change
		err := s.b.PassportsChanged(after, func(number uint64, id passport.ID) bool {
			batch = append(batch, change{number, id})
			return len(batch) < passportBatch
		})
		if err != nil {
			return after, err
		}
		for _, c := range batch {
			if err := s.sendPassport(out, generation, c); err != nil {
				return after, err
			}
			after = c.number
		}
		if len(batch) < passportBatch {
			return after, nil
		}
	}
}

func (s *Server) sendPassport(out grpc.ServerStreamingServer[nodepb.PassportsReply], generation uint64, c change) error {
	p, err := s.b.Passport(c.id)
	if err != nil {
		return fmt.Errorf("passport %s: %w", c.id, err)
	}
	blocks := p.Blocks()
	for i, b := range blocks {
		if err := context.Cause(out.Context()); err != nil {
			return err
		}
		err := out.Send(&nodepb.PassportsReply{
			Generation: generation, Number: c.number, Id: c.id[:], Block: b.Bytes(), Last: i == len(blocks)-1,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// PutPassport implements the call.
func (s *Server) PutPassport(stream grpc.ClientStreamingServer[nodepb.PutPassportRequest, nodepb.PutPassportReply]) error {
	var chain chain
	for {
		r, err := stream.Recv()
		if isEnd(err) {
			break
		}
		if err != nil {
			return err
		}
		if err := chain.add(r.Block); err != nil {
			return invalid("block %d: %v", chain.blocks(), err)
		}
	}
	if chain.p == nil {
		return invalid("a passport without a block")
	}
	if err := s.b.PutPassport(stream.Context(), callerOf(stream.Context()).device, chain.p); err != nil {
		return err
	}
	return stream.SendAndClose(&nodepb.PutPassportReply{})
}

// chain puts a passport together of blocks that come one by one, checking each, so
// that no more is kept than one passport may have.
type chain struct{ p *passport.Passport }

func (c *chain) add(b []byte) error {
	block, err := passport.ParseBlock(b)
	if err != nil {
		return err
	}
	var next *passport.Passport
	if c.p == nil {
		next, err = passport.New(block)
	} else {
		next, err = c.p.Append(block)
	}
	if err != nil {
		return err
	}
	c.p = next
	return nil
}

func (c *chain) blocks() int {
	if c.p == nil {
		return 0
	}
	return c.p.Len()
}
