package chaos

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/test/chaos/check"
)

// probe hands envelopes that nobody can open to one node, and notes what the node said to
// have. It also hands in what it or other probes handed in before, to its own node again.
func (r *run) probe(n *node, i uint64) {
	random := rand.New(rand.NewPCG(r.Seed, 2000+i))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-r.quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	device, err := noise.GenerateKey(nil)
	if err != nil {
		r.fault("harness", "probe: %v", err)
		return
	}
	own, _, err := passport.Create(nil, device, passport.TimeOf(r.clocks.now()))
	if err != nil {
		r.fault("harness", "probe: %v", err)
		return
	}
	p := &prober{r: r, n: n, random: random, device: device, own: own, stamps: port.NewClockStamps(nil)}
	for ctx.Err() == nil {
		if err := p.session(ctx); err != nil && ctx.Err() == nil {
			r.note("probe of %s: %v", n.name, err)
		}
		pause(ctx, 300*time.Millisecond)
	}
}

type prober struct {
	r      *run
	n      *node
	random *rand.Rand
	device *noise.PrivateKey
	own    *passport.Passport
	stamps port.StampSource
	known  bool // to the node
}

// session submits until the connection breaks.
func (p *prober) session(ctx context.Context) error {
	if !p.known {
		err := p.n.control(ctx, func(ctx context.Context, c *control.Client) error {
			_, err := c.UserAdd(ctx, control.KeyName(p.device.Public()))
			return err
		})
		if err != nil {
			return err
		}
		p.known = true
	}
	dialling, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	c, err := clientapi.Dial(dialling, p.n.public, p.n.key, p.device, p.stamps)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.PutPassport(dialling, p.own); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := p.submit(ctx, c); err != nil {
			return err
		}
		select {
		case <-p.r.hurry.opened():
		case <-ctx.Done():
		case <-time.After(time.Duration(500+p.random.IntN(3000)) * time.Millisecond):
		}
	}
	return nil
}

// submit hands in some envelopes, new ones and old ones, in an order of its own.
func (p *prober) submit(ctx context.Context, c *clientapi.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var list []*envelope.Envelope
	for range 1 + p.random.IntN(3) {
		e, err := p.envelope()
		if err != nil {
			return err
		}
		list = append(list, e)
		p.r.shared.put(e)
	}
	for range p.random.IntN(3) {
		if e := p.r.shared.any(p.random); e != nil {
			list = append(list, e)
			p.r.counts.add("envelopes submitted again", 1)
		}
	}
	p.random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	ids := make([]envelope.ID, len(list))
	bodies := map[envelope.ID]*envelope.Envelope{}
	for i, e := range list {
		ids[i] = e.ID()
		bodies[ids[i]] = e
	}
	refused, err := c.Submit(ctx, ids, func(id envelope.ID) ([]byte, error) { return bodies[id].Bytes(), nil })
	if err != nil {
		return err
	}
	at := p.r.now()
	for _, x := range refused {
		p.r.counts.add("envelopes refused: "+x.Reason.String(), 1)
		if x.Reason == clientapi.ReasonInvalid || x.Reason == clientapi.ReasonOther {
			p.r.fault("good envelope refused", "%s: %s", p.n.name, x.Text)
		}
		delete(bodies, x.ID)
	}
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	for id, e := range bodies {
		p.r.acks = append(p.r.acks, check.Ack{Node: p.n.name, ID: id, Expires: e.Expires, At: at, By: "the probe of " + p.n.name})
	}
	p.r.counts.add("envelopes acknowledged to probes", len(bodies))
	return nil
}

// envelope draws one, mostly small, that ends in three hours to thirteen days.
func (p *prober) envelope() (*envelope.Envelope, error) {
	class := [...]int{0, 0, 0, 0, 0, 0, 1, 1, 2, 3}[p.random.IntN(10)]
	if class == 3 && p.random.IntN(4) > 0 {
		class = 0
	}
	b := make([]byte, envelope.HeaderSize+envelope.Sizes[class])
	if _, err := crand.Read(b); err != nil {
		return nil, err
	}
	hours := 3 + p.random.IntN(13*24-3)
	if p.random.IntN(3) == 0 {
		hours = 3 + p.random.IntN(12)
	}
	end := passport.TimeOf(p.r.clocks.now().Add(time.Duration(hours) * time.Hour))
	end -= end % envelope.ExpiresStep
	b[0] = envelope.Version
	b[1], b[2], b[3], b[4] = byte(end>>24), byte(end>>16), byte(end>>8), byte(end)
	e, err := envelope.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	return e, nil
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
