package p2p

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// tipQueue holds the passports that one neighbour is still to be told of.
type tipQueue struct {
	mu    sync.Mutex
	lost  bool // there were more
	some  map[passport.ID]struct{}
	wake  chan struct{} // capacity 1
	limit int
}

func newTipQueue() *tipQueue {
	return &tipQueue{some: map[passport.ID]struct{}{}, wake: make(chan struct{}, 1), limit: 4096}
}

func (q *tipQueue) add(ids ...passport.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		if len(q.some) >= q.limit {
			q.lost = true
			break
		}
		q.some[id] = struct{}{}
	}
	q.poke()
}

func (q *tipQueue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take empties the queue, and reports whether there was more than fitted.
func (q *tipQueue) take() (some map[passport.ID]struct{}, lost bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	some, lost = q.some, q.lost
	q.some, q.lost = map[passport.ID]struct{}{}, false
	return some, lost
}

// spreadPassport tells all neighbours but one of a passport.
func (h *Host) spreadPassport(but noise.PublicKey, id passport.ID) {
	for _, n := range h.allNeighbours() {
		if n.key != but {
			n.tips.add(id)
		}
	}
}

// tellPassports tells n of passports that change, and of those that a reconciliation
// found, and sends the blocks that n lacks.
func (n *neighbour) tellPassports() {
	n.keepStream(passportProtocol, func(ctx context.Context, t timed) error {
		err := n.tellOn(ctx, t)
		if ctx.Err() != nil {
			return nil
		}
		n.reconcileSoon() // what was on its way is lost
		return err
	})
}

func (n *neighbour) tellOn(ctx context.Context, t timed) error {
	for {
		some, lost := n.tips.take()
		tips, err := n.h.tips(some)
		if err != nil {
			return err
		}
		for len(tips) > 0 {
			batch := tips[:min(len(tips), maxTips)]
			tips = tips[len(batch):]
			if err := n.h.tellBatch(t, batch); err != nil {
				return err
			}
		}
		if lost {
			n.reconcileSoon()
		}
		select {
		case <-n.tips.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tips returns the tips of some passports.
func (h *Host) tips(some map[passport.ID]struct{}) (tips []tip, err error) {
	if len(some) == 0 {
		return nil, nil
	}
	err = h.o.Passports.PassportTips(func(id passport.ID, last passport.Hash) bool {
		if _, ok := some[id]; ok {
			tips = append(tips, tip{id, last})
		}
		return true
	})
	return tips, err
}

// tellBatch tells of some passports and sends what is wanted of them.
func (h *Host) tellBatch(t timed, batch []tip) error {
	if err := t.write(kindTips, encodeTips(batch)); err != nil {
		return err
	}
	body, err := t.expect(kindWants, 2+maxTips*wantSize)
	if err != nil {
		return err
	}
	wants, err := parseWants(body, len(batch))
	if err != nil {
		return err
	}
	for i, w := range wants {
		if w.code == wantNothing {
			continue
		}
		if err := h.sendBlocks(t, batch[i].id, w); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) sendBlocks(t timed, id passport.ID, w want) error {
	p, err := h.o.Passports.Passport(id)
	if err != nil {
		return fmt.Errorf("read passport %s: %w", id.Short(), err)
	}
	for _, b := range blocksFor(p, w) {
		if err := t.write(kindBlock, b.Bytes()); err != nil {
			return err
		}
	}
	return t.write(kindEnd, nil)
}

// blocksFor returns what a neighbour needs that wants w. A tip that is not in a
// chain at least as long as the neighbour's is proof of a fork: then it gets all, to
// keep both ends as proof. In a shorter chain it is only news, which the neighbour
// will tell by itself.
func blocksFor(p *passport.Passport, w want) []*passport.Block {
	blocks := p.Blocks()
	if w.code == wantAll {
		return blocks
	}
	for i, b := range blocks {
		if b.Hash() == w.last {
			return blocks[i+1:]
		}
	}
	if int64(len(blocks)) < int64(w.length) {
		return nil
	}
	return blocks
}

// servePassports takes what a neighbour tells of passports.
func (h *Host) servePassports(ctx context.Context, key noise.PublicKey, t timed) error {
	for {
		m, err := t.next(maxTipsSize)
		if err != nil {
			return err
		}
		switch m.kind {
		case kindTips:
			var tips []tip
			if tips, err = parseTips(m.body); err == nil {
				err = h.takeTips(ctx, key, t, tips)
			}
		case kindAsk:
			err = h.tellAsked(key, m.body)
		default:
			err = foreign("message %d where tips are due", m.kind)
		}
		if err != nil {
			return err
		}
	}
}

// tellAsked tells a neighbour of the passports that it asked for. It gets them on the
// stream on which we tell it of all others.
func (h *Host) tellAsked(key noise.PublicKey, body []byte) error {
	names, err := parseAsk(body)
	if err != nil {
		return err
	}
	if !h.asks.enter(key) {
		return nil // its next session asks again
	}
	defer h.asks.leave(key)
	ids, err := h.passportsOf(names)
	if err != nil {
		return err
	}
	if n := h.neighbour(key); n != nil {
		n.tips.add(ids...)
	}
	return nil
}

func (h *Host) takeTips(ctx context.Context, from noise.PublicKey, t timed, tips []tip) error {
	have := make(map[passport.ID]passport.Hash, len(tips))
	known, err := h.tipsOf(tips)
	if err != nil {
		return err
	}
	for _, k := range known {
		have[k.id] = k.last
	}
	wants := make([]want, len(tips))
	for i, theirs := range tips {
		if wants[i], err = h.wantOf(from, theirs, have); err != nil {
			return err
		}
	}
	if err := t.write(kindWants, encodeWants(wants)); err != nil {
		return err
	}
	for i, w := range wants {
		if w.code == wantNothing {
			continue
		}
		if err := h.takeBlocks(ctx, from, t, tips[i]); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) tipsOf(tips []tip) ([]tip, error) {
	some := make(map[passport.ID]struct{}, len(tips))
	for _, t := range tips {
		some[t.id] = struct{}{}
	}
	return h.tips(some)
}

// wantOf decides what to ask for, seeing a neighbour's tip.
func (h *Host) wantOf(from noise.PublicKey, theirs tip, have map[passport.ID]passport.Hash) (want, error) {
	if h.declined.has(from, passportItem(theirs.id, theirs.last)) {
		return want{}, nil
	}
	ours, known := have[theirs.id]
	if !known {
		return want{code: wantAll}, nil
	}
	if ours == theirs.last {
		return want{}, nil
	}
	p, err := h.o.Passports.Passport(theirs.id)
	if err != nil {
		return want{}, fmt.Errorf("read passport %s: %w", theirs.id.Short(), err)
	}
	if p.Contains(theirs.last) {
		return want{}, nil // the neighbour is behind; we tell it
	}
	return want{code: wantRest, last: p.Tip(), length: uint32(p.Len())}, nil
}

// takeBlocks reads the blocks of one passport, checks the chain and keeps it. The other end
// of a fork, and what the store does not take, is not asked for again for an hour: it would
// come with every reconciliation.
func (h *Host) takeBlocks(ctx context.Context, from noise.PublicKey, t timed, theirs tip) error {
	blocks, err := readBlocks(t)
	if err != nil || len(blocks) == 0 {
		return err
	}
	id := theirs.id
	p, err := h.chain(id, blocks)
	if err != nil || p == nil {
		return err
	}
	changed, err := h.o.Passports.PutPassport(ctx, p)
	var fork *passport.ForkError
	switch {
	case errors.As(err, &fork):
		h.declined.add(from, passportItem(id, theirs.last))
		// Whoever made it, the neighbour only passes it on.
		h.log.Warn("passport has two continuations; the first one stays in force", "passport", id.Short())
	case err != nil && ctx.Err() == nil:
		if h.declined.add(from, passportItem(id, theirs.last)) {
			h.log.Warn("passports of a neighbour are not kept", "peer", from.Short(), "error", err)
		}
	case err != nil:
		return fmt.Errorf("keep passport %s: %w", id.Short(), err)
	case changed:
		h.spreadPassport(from, id)
	}
	return nil
}

// readBlocks reads blocks up to the end message, no more than a passport can have.
func readBlocks(t timed) (blocks []*passport.Block, err error) {
	for size := 0; ; {
		m, err := t.read(maxBlock)
		if err != nil {
			return nil, err
		}
		switch m.kind {
		case kindEnd:
			if len(m.body) != 0 {
				return nil, foreign("end with a body")
			}
			return blocks, nil
		case kindBlock:
			if size += len(m.body); size > passport.MaxSize || len(blocks) == passport.MaxBlocks {
				return nil, foreign("passport too large")
			}
			b, err := passport.ParseBlock(m.body)
			if err != nil {
				return nil, foreign("%v", err)
			}
			blocks = append(blocks, b)
		default:
			return nil, foreign("message %d where a block is due", m.kind)
		}
	}
}

// chain puts blocks on what is known of id, or begins it with them. It returns nil
// if there is nothing new in them. A chain that goes another way than ours is
// returned whole, for the store to keep as proof.
func (h *Host) chain(id passport.ID, blocks []*passport.Block) (*passport.Passport, error) {
	if first, err := passport.New(blocks[0]); err == nil && first.ID() == id {
		return extend(first, blocks[1:])
	}
	p, err := h.o.Passports.Passport(id)
	if err != nil {
		return nil, foreign("blocks that do not begin passport %s", id.Short())
	}
	return extend(p, blocks)
}

// extend appends blocks to p.
func extend(p *passport.Passport, blocks []*passport.Block) (*passport.Passport, error) {
	for _, b := range blocks {
		longer, err := p.Append(b)
		var fork *passport.ForkError
		switch {
		case errors.Is(err, passport.ErrKnown):
			continue
		case errors.Is(err, passport.ErrNotNext) || errors.As(err, &fork):
			// Our chain has grown since we said what we have, or is forked: both come
			// up again with the next tip.
			return nil, nil
		case err != nil:
			return nil, foreign("%v", err)
		}
		p = longer
	}
	return p, nil
}
