package p2p

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// Parameters of gossipsub. Its queues of 32 lose messages in a burst; D = 6 in a mesh
// of friends would be the whole graph, and three copies of everything.
const (
	gossipQueue    = 1024
	gossipMessage  = 128 << 10 // one RPC
	gossipControl  = 32 << 10
	gossipValidate = 1024 // messages that are being stored
	gossipTimeout  = 30 * time.Second
	// publishBytes bounds what waits to be published; beyond it custody has to do.
	publishBytes = 8 << 20
)

// gossiper is the fast path of envelopes.
type gossiper struct {
	h       *Host
	topic   *pubsub.Topic
	queue   chan []byte
	waiting atomic.Int64 // bytes in queue
}

func newGossiper(h *Host) (*gossiper, error) {
	ps, err := pubsub.NewGossipSub(h.ctx, h.libp2p,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(gossipID),
		pubsub.WithGossipSubParams(gossipParams()),
		pubsub.WithFloodPublish(false), // a source must not send to more than a relay does
		pubsub.WithPeerExchange(false),
		pubsub.WithPeerOutboundQueueSize(gossipQueue),
		pubsub.WithValidateQueueSize(gossipQueue),
		pubsub.WithMaxMessageSize(gossipMessage),
		pubsub.WithMaxControlMessageSize(gossipControl),
		pubsub.WithSubscriptionFilter(pubsub.WrapLimitSubscriptionFilter(pubsub.NewAllowlistSubscriptionFilter(h.o.Secret.GossipTopic()), 8)),
	)
	if err != nil {
		return nil, err
	}
	g := &gossiper{h: h, queue: make(chan []byte, gossipQueue)}
	name := h.o.Secret.GossipTopic()
	if err := ps.RegisterTopicValidator(name, g.validate,
		pubsub.WithValidatorConcurrency(gossipValidate), pubsub.WithValidatorTimeout(gossipTimeout)); err != nil {
		return nil, fmt.Errorf("validator: %w", err)
	}
	if g.topic, err = ps.Join(name); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	// Relaying is taking part without a queue that somebody must read: the validator
	// has stored what was to be stored.
	if _, err := g.topic.Relay(); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return g, nil
}

func gossipParams() pubsub.GossipSubParams {
	p := pubsub.DefaultGossipSubParams()
	p.D, p.Dlo, p.Dhi, p.Dscore, p.Dout = 4, 3, 5, 2, 1
	p.Dlazy = 4
	return p
}

// gossipID names a message by its envelope. It is asked before validation, so for
// bytes that are none too.
func gossipID(m *pb.Message) string {
	g, err := parseGossip(m.GetData())
	if err != nil {
		id := noise.H32([]byte("no envelope"), m.GetData())
		return string(id[:])
	}
	return string(g.id[:])
}

// publish queues an own user's envelope.
func (g *gossiper) publish(e *envelope.Envelope) {
	b := encodeGossip(e)
	if g.waiting.Add(int64(len(b))) <= publishBytes {
		select {
		case g.queue <- b:
			return
		default:
		}
	}
	g.waiting.Add(-int64(len(b)))
	g.h.log.Debug("gossip queue full, left to custody")
}

func (g *gossiper) publishQueued() {
	for {
		select {
		case b := <-g.queue:
			g.waiting.Add(-int64(len(b)))
			if err := g.topic.Publish(g.h.ctx, b); err != nil && g.h.ctx.Err() == nil {
				g.h.log.Debug("gossip not published", "error", err)
			}
		case <-g.h.ctx.Done():
			return
		}
	}
}

// validate stores what a neighbour gossips before it lets it be relayed. Many run
// at once, so that they share the commits of the spool. What no honest node sends
// is rejected and costs the sender its connection: an honest one has validated what
// it relays.
func (g *gossiper) validate(ctx context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	if from == g.h.libp2p.ID() {
		return pubsub.ValidationAccept // own, and admitted
	}
	key, err := nodeKey(from)
	if err != nil {
		return pubsub.ValidationReject
	}
	message, err := parseGossip(m.GetData())
	if err != nil {
		g.h.goDo(func() { g.h.fault(key, "gossip", err) })
		return pubsub.ValidationReject
	}
	if g.take(ctx, key, message) {
		return pubsub.ValidationAccept
	}
	return pubsub.ValidationIgnore
}

// take reports whether the envelope of a message came new to the spool by it.
func (g *gossiper) take(ctx context.Context, from noise.PublicKey, m gossip) bool {
	if !g.inTime(m.expires) || len(g.h.o.Spool.Missing([]envelope.ID{m.id})) == 0 {
		return false
	}
	if m.envelope != nil {
		results, err := g.h.o.Spool.Put(ctx, from, []*envelope.Envelope{m.envelope})
		return err == nil && len(results) == 1 && results[0].Fresh
	}
	n := g.h.neighbour(from)
	if n == nil || !g.h.claims.claim(from, m.id) {
		return false
	}
	defer g.h.claims.release(from, true, m.id)
	return n.pull(ctx, m.id)
}

// inTime reports whether an envelope can still be of use and is no further off than
// the mesh keeps any; the spool decides exactly.
func (g *gossiper) inTime(expires passport.Time) bool {
	now := g.h.o.Now()
	end := expires.Time()
	return end.After(now) && end.Before(now.Add(g.h.o.Set.Charter().Retention+clockSlack))
}

// clockSlack is how much clocks of honest nodes may differ.
const clockSlack = 2 * time.Hour
