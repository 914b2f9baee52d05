package clientapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi/nodepb"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// ErrAnswer is wrapped by the errors for an answer of the node that breaks the
// protocol.
var ErrAnswer = errors.New("the node's answer cannot be read")

// Status asks the node what it is and holds.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	r, err := c.call.Status(ctx, &nodepb.StatusRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask for the status: %w", fromStatus(ctx, err))
	}
	s := &Status{
		Version: r.Version, Protocol: r.Protocol, Time: time.Unix(r.Time, 0).UTC(),
		Generation: r.Generation, LastNumber: r.LastNumber,
		MailLimit: r.MailLimit, Retention: seconds(r.Retention),
		Members: int(r.Members), Peers: int(r.Peers),
		Envelopes: int64(r.Envelopes), Bytes: int64(r.Bytes), TagKeys: int(r.TagKeys), Addresses: r.Addresses,
	}
	var bad error
	s.Node, err = fixed[noise.PublicKey](r.Node)
	bad = errors.Join(bad, err)
	s.Mesh, err = fixed[mesh.ID](r.Mesh)
	bad = errors.Join(bad, err)
	if len(r.Passport) > 0 {
		s.Passport, err = fixed[passport.ID](r.Passport)
		bad = errors.Join(bad, err)
	}
	if bad != nil {
		return nil, fmt.Errorf("ask for the status: %w", ErrAnswer)
	}
	return s, nil
}

// seconds makes a duration of n seconds, the longest if it is longer than that.
func seconds(n uint64) time.Duration {
	if n > math.MaxInt64/uint64(time.Second) {
		return math.MaxInt64
	}
	return time.Duration(n) * time.Second
}

// RegisterTagKeys makes the node recognise envelopes. It sends batches, in the order
// given; after an error some may be registered. Keys that are there are no error.
func (c *Client) RegisterTagKeys(ctx context.Context, keys []envelope.TagKey) error {
	for batch := range slices.Chunk(keys, tagKeyBatch) {
		r := &nodepb.RegisterTagKeysRequest{Keys: make([]*nodepb.TagKey, len(batch))}
		for i, k := range batch {
			r.Keys[i] = &nodepb.TagKey{Epoch: k.Epoch, Handle: k.Handle[:], Key: k.Key[:]}
		}
		if _, err := c.call.RegisterTagKeys(ctx, r); err != nil {
			return fmt.Errorf("register tag keys: %w", fromStatus(ctx, err))
		}
	}
	return nil
}

// DeregisterTagKeys makes the node forget keys. Unknown handles are no error.
func (c *Client) DeregisterTagKeys(ctx context.Context, handles []envelope.Handle) error {
	for batch := range slices.Chunk(handles, handleBatch) {
		if _, err := c.call.DeregisterTagKeys(ctx, &nodepb.DeregisterTagKeysRequest{Handles: pack(batch)}); err != nil {
			return fmt.Errorf("deregister tag keys: %w", fromStatus(ctx, err))
		}
	}
	return nil
}

// Acknowledge tells the node which deliveries this device has taken in for good.
func (c *Client) Acknowledge(ctx context.Context, numbers []uint64) error {
	for batch := range slices.Chunk(numbers, acknowledgeSize) {
		if _, err := c.call.Acknowledge(ctx, &nodepb.AcknowledgeRequest{Numbers: batch}); err != nil {
			return fmt.Errorf("acknowledge: %w", fromStatus(ctx, err))
		}
	}
	return nil
}

// PutPassport gives the node a chain. Nil means it is on the node's disk, or that the
// node has a longer one that continues it.
func (c *Client) PutPassport(ctx context.Context, pass *passport.Passport) error {
	ctx, p, cancel := c.patient(ctx)
	defer cancel()
	stream, err := c.call.PutPassport(ctx)
	if err != nil {
		return fmt.Errorf("put passport %s: %w", pass.ID(), fromStatus(ctx, err))
	}
	for _, b := range pass.Blocks() {
		// io.EOF: the node has ended the call; its answer says why.
		_, err := during(p, func() (any, error) { return nil, stream.Send(&nodepb.PutPassportRequest{Block: b.Bytes()}) })
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("put passport %s: %w", pass.ID(), fromStatus(ctx, err))
		} else if err != nil {
			break
		}
	}
	if _, err := during(p, stream.CloseAndRecv); err != nil {
		return fmt.Errorf("put passport %s: %w", pass.ID(), fromStatus(ctx, err))
	}
	return nil
}

// PassportChange is a passport that changed, or the news that there are no more.
type PassportChange struct {
	Generation uint64
	Number     uint64
	CaughtUp   bool // only Generation and Number are set

	ID       passport.ID
	Passport *passport.Passport // nil if the chain cannot be read
	Err      error              // why it cannot
}

// PassportsChanged calls fn for each passport that changed after (generation, after),
// then once with CaughtUp, then, with follow, for what changes until ctx is done. In
// another generation the node starts at 0. An error of fn ends it and is returned.
func (c *Client) PassportsChanged(ctx context.Context, generation, after uint64, follow bool, fn func(PassportChange) error) error {
	ctx, p, cancel := c.patient(ctx)
	defer cancel()
	stream, err := c.call.Passports(ctx, &nodepb.PassportsRequest{Generation: generation, After: after, Follow: follow})
	if err != nil {
		return fmt.Errorf("ask for passports: %w", fromStatus(ctx, err))
	}
	var next gathered
	for {
		r, err := during(p, stream.Recv)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ask for passports: %w", fromStatus(ctx, err))
		}
		change, complete, err := next.add(r)
		if err != nil {
			return fmt.Errorf("ask for passports: %w", err)
		}
		if !complete {
			continue
		}
		if err := fn(change); err != nil {
			return err
		}
		next = gathered{}
		if change.CaughtUp && follow {
			p = nil // from now on nothing is due
		}
	}
}

// gathered is a passport of which not all blocks have come.
type gathered struct {
	chain chain
	id    passport.ID
	bad   error // of the first block that did not fit; the rest is skipped
	any   bool
}

// add takes the next message and returns what is complete by it.
func (g *gathered) add(r *nodepb.PassportsReply) (change PassportChange, complete bool, err error) {
	change = PassportChange{Generation: r.Generation, Number: r.Number, CaughtUp: r.CaughtUp}
	if r.CaughtUp {
		if g.any {
			return change, false, fmt.Errorf("%w: a passport has no end", ErrAnswer)
		}
		return change, true, nil
	}
	id, err := fixed[passport.ID](r.Id)
	if err != nil || g.any && id != g.id {
		return change, false, fmt.Errorf("%w: blocks of two passports are mixed", ErrAnswer)
	}
	g.id, g.any = id, true
	if g.bad == nil {
		g.bad = g.chain.add(r.Block)
	}
	if !r.Last {
		return change, false, nil
	}
	change.ID, change.Err = g.id, g.bad
	if g.bad == nil && g.chain.p.ID() != g.id {
		change.Err = fmt.Errorf("%w: passport %s came as %s", ErrAnswer, g.chain.p.ID(), g.id)
	}
	if change.Err == nil {
		change.Passport = g.chain.p
	}
	return change, true, nil
}

// Item is a delivery of the mailbox, or the news that there are no more.
type Item struct {
	Generation uint64
	Number     uint64
	CaughtUp   bool // only Generation and Number are set

	Handle   envelope.Handle
	Envelope []byte // encoded; not looked into
	// With follow an envelope may come without a Number, while the node is still storing it and
	// may yet lose it. Its Number comes later, without the Envelope. Both have its ID.
	ID envelope.ID
}

// Position is where somebody stands in a mailbox: of the largest size class all up to
// Large was read, and of the others all up to Small.
type Position struct{ Generation, Large, Small uint64 }

// Sync calls fn for each delivery behind a position, then once with CaughtUp, then, with
// follow, for what arrives until ctx is done. Deliveries of the largest size class come
// last and each of both kinds in the order of their numbers; from a node that does
// not know this all come in that order. In another generation the node starts at 0. An error of fn
// ends it and is returned. While fn works, no more than gRPC's window is read ahead.
func (c *Client) Sync(ctx context.Context, at Position, follow bool, fn func(Item) error) error {
	ctx, p, cancel := c.patient(ctx)
	defer cancel()
	stream, err := c.call.Sync(ctx, &nodepb.SyncRequest{Generation: at.Generation, After: min(at.Large, at.Small), Follow: follow,
		SmallFirst: true, AfterSmall: at.Small, AfterLarge: at.Large, Early: follow})
	if err != nil {
		return fmt.Errorf("take in mail: %w", fromStatus(ctx, err))
	}
	for {
		r, err := during(p, stream.Recv)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("take in mail: %w", fromStatus(ctx, err))
		}
		item := Item{Generation: r.Generation, Number: r.Number, CaughtUp: r.CaughtUp, Envelope: r.Envelope}
		if !r.CaughtUp {
			if item.Handle, err = fixed[envelope.Handle](r.Handle); err != nil {
				return fmt.Errorf("take in mail: %w: a delivery without a handle", ErrAnswer)
			}
			if r.Early != (r.Number == 0) {
				return fmt.Errorf("take in mail: %w: a delivery without a number", ErrAnswer)
			}
			if r.Early || len(r.Envelope) == 0 {
				if item.ID, err = fixed[envelope.ID](r.Id); err != nil {
					return fmt.Errorf("take in mail: %w: a delivery without an id", ErrAnswer)
				}
			}
		}
		if err := fn(item); err != nil {
			return err
		}
		if item.CaughtUp && follow {
			p = nil // from now on nothing is due
		}
	}
}

// WatchCustody calls fn with how many other members store an envelope: once for each
// of ids, then, with follow, at each change until ctx is done. Without follow it
// returns when each was told. An error of fn ends it and is returned.
func (c *Client) WatchCustody(ctx context.Context, ids []envelope.ID, follow bool, fn func(id envelope.ID, count int) error) error {
	ctx, p, cancel := c.patient(ctx)
	defer cancel()
	stream, err := c.call.WatchCustody(ctx)
	if err != nil {
		return fmt.Errorf("watch custody: %w", fromStatus(ctx, err))
	}
	for batch := range slices.Chunk(distinct(ids), watchBatch) {
		// io.EOF: the node has ended the call; Recv says why.
		_, err := during(p, func() (any, error) {
			return nil, stream.Send(&nodepb.WatchCustodyRequest{Ids: pack(batch), Follow: follow})
		})
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("watch custody: %w", fromStatus(ctx, err))
		}
	}
	if err := stream.CloseSend(); err != nil {
		return fmt.Errorf("watch custody: %w", fromStatus(ctx, err))
	}
	if follow {
		p = nil // nothing is due
	}
	for {
		r, err := during(p, stream.Recv)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch custody: %w", fromStatus(ctx, err))
		}
		id, err := fixed[envelope.ID](r.Id)
		if err != nil {
			return fmt.Errorf("watch custody: %w", ErrAnswer)
		}
		if err := fn(id, int(r.Count)); err != nil {
			return err
		}
	}
}
