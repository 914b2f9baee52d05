package p2p

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/fault"
	"github.com/asmtp/asmtp/noise"
)

const (
	// gatherMin and gatherMax are how long new ids wait for others to share an offer;
	// the time is random, so that it does not show who stored an envelope first.
	gatherMin = 50 * time.Millisecond
	gatherMax = 200 * time.Millisecond
	// putBytes is how much of what a neighbour sends is gathered for one commit.
	putBytes = 512 << 10
)

// offerAll offers to n what this node stores and n may lack, and sends what n wants.
func (n *neighbour) offerAll() {
	n.keepStream(custodyProtocol, func(ctx context.Context, t timed) error {
		err := n.offerOn(ctx, t)
		if ctx.Err() != nil {
			return nil
		}
		n.reconcileSoon() // what was on its way is lost
		return err
	})
}

func (n *neighbour) offerOn(ctx context.Context, t timed) error {
	for {
		batch, err := n.nextBatch(ctx)
		if err != nil {
			return err
		}
		if err := n.offerBatch(ctx, t, batch); err != nil {
			if t.replaced() {
				n.offers.add(batch...)
			}
			return err
		}
	}
}

// nextBatch returns what to offer next. It waits until there is something.
func (n *neighbour) nextBatch(ctx context.Context) ([]offered, error) {
	for {
		if batch := n.offers.take(); len(batch) > 0 {
			return batch, nil
		}
		if n.offers.forgot() {
			n.reconcileSoon()
		}
		select {
		case <-n.offers.wake:
			if !wait(ctx, gatherMin+rand.N(gatherMax-gatherMin)) {
				return nil, ctx.Err()
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// offerBatch makes one offer and does what the answers say.
func (n *neighbour) offerBatch(ctx context.Context, t timed, batch []offered) error {
	ids := make([]envelope.ID, len(batch))
	for i, b := range batch {
		ids[i] = b.id
	}
	if err := t.write(kindOffer, encodeIDs(ids)); err != nil {
		return err
	}
	wanted, err := n.answered(ctx, t, batch, true)
	if err != nil || len(wanted) == 0 {
		return err
	}
	n.moved.Add(int64(len(wanted)))
	for _, w := range wanted {
		if err := n.h.sendEnvelope(t, w.id); err != nil {
			return err
		}
	}
	_, err = n.answered(ctx, t, wanted, false)
	return err
}

// sendEnvelope sends an envelope, or says that it is gone.
func (h *Host) sendEnvelope(t timed, id envelope.ID) error {
	b, err := h.o.Spool.Envelope(id)
	if err != nil {
		h.log.Debug("envelope not found", "error", err)
		return t.write(kindGone, id[:])
	}
	return t.write(kindEnvelope, b)
}

// answered reads the answer for batch, records custody, and returns what is wanted.
func (n *neighbour) answered(ctx context.Context, t timed, batch []offered, mayWant bool) (wanted []offered, err error) {
	body, err := t.expect(kindAnswer, 2+maxOffer)
	if err != nil {
		return nil, err
	}
	codes, err := parseAnswer(body, len(batch))
	if err != nil {
		return nil, err
	}
	var stored, lacks []envelope.ID
	var later []offered
	for i, code := range codes {
		if code != codeLater {
			delete(n.postponed, batch[i].id)
		}
		if n.suspects.take(batch[i].id) && code != codeStored {
			lacks = append(lacks, batch[i].id)
		}
		switch code {
		case codeStored:
			stored = append(stored, batch[i].id)
		case codeWant:
			if !mayWant {
				return nil, foreign("wants again what was sent")
			}
			n.exam.wants(batch[i].id)
			wanted = append(wanted, batch[i])
		case codeRefused:
			n.refused(batch[i].id)
		case codeLater:
			later = append(later, batch[i])
		}
	}
	n.postpone(later)
	if err := n.takeBack(lacks); err != nil {
		return nil, err
	}
	return wanted, n.h.custody(ctx, n.key, stored)
}

// takeBack has n not count any more for what it has lost. Its word still does: it did not
// hide it.
func (n *neighbour) takeBack(ids []envelope.ID) error {
	if len(ids) == 0 {
		return nil
	}
	n.h.counting.Lock()
	defer n.h.counting.Unlock()
	n.h.log.Warn("neighbour has lost what it stored; it does not count any more for that", "peer", n.key.Short(), "envelopes", len(ids))
	return n.h.o.Custody.DropCustody(n.h.ctx, n.key, ids)
}

// suspects are own users' envelopes for which a neighbour counts and that it showed to lack.
type suspects struct {
	mu  sync.Mutex
	ids map[envelope.ID]bool // of one session, so no more than it finds
}

func (s *suspects) set(ids map[envelope.ID]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = ids
}

// take reports whether id is one, and is no more.
func (s *suspects) take(id envelope.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	is := s.ids[id]
	delete(s.ids, id)
	return is
}

// maxPostponed bounds the exponent of the pause before an id is offered again: to about
// the time that a claim lasts.
const maxPostponed = 5

// postpone offers items once more after a pause, which grows each time: a neighbour that
// always says "later" costs little.
func (n *neighbour) postpone(items []offered) {
	if len(n.postponed) > maxPending {
		n.postponed = nil
	}
	if n.postponed == nil {
		n.postponed = map[envelope.ID]int{}
	}
	var after [maxPostponed + 1][]offered
	for _, item := range items {
		times := min(n.postponed[item.id], maxPostponed)
		n.postponed[item.id] = times + 1
		after[times] = append(after[times], item)
	}
	for times, items := range after {
		if len(items) == 0 {
			continue
		}
		n.h.goDo(func() {
			if wait(n.ctx, jitter(laterPause<<times)) {
				n.offers.add(items...)
			}
		})
	}
}

// custody records that a member stores envelopes. It said so; of one that failed to
// prove it for an envelope the word does not count for that, but has it asked again.
func (h *Host) custody(ctx context.Context, member noise.PublicKey, ids []envelope.ID) error {
	h.counting.RLock() // no doubt comes between the look and the record
	defer h.counting.RUnlock()
	trusted, doubted := h.doubts.split(member, ids)
	if doubted {
		h.recheck(member)
	}
	if len(trusted) == 0 {
		return nil
	}
	return h.o.Custody.PutCustody(ctx, member, trusted)
}

// holds reports whether it is recorded that member stores id.
func (h *Host) holds(member noise.PublicKey, id envelope.ID) (bool, error) {
	members, err := h.o.Custody.Holders(id)
	return slices.Contains(members, member), err
}

// refused remembers that n did not take an envelope.
func (n *neighbour) refused(id envelope.ID) {
	if n.h.refusals.add(n.key, id) {
		n.h.log.Info("neighbour refuses envelopes; they are offered again in an hour", "peer", n.key.Short())
	}
}

// decline remembers that this node did not take an envelope from a neighbour. There may
// be room for it if it comes from another one.
func (h *Host) decline(from noise.PublicKey, id envelope.ID, reason error) {
	if h.declined.add(from, id) {
		h.log.Info("envelopes of a neighbour are refused", "peer", from.Short(), "error", reason)
	}
}

// serveCustody answers a neighbour's offers and gets.
func (h *Host) serveCustody(ctx context.Context, key noise.PublicKey, t timed) error {
	for {
		m, err := t.next(maxOfferSize)
		if err != nil {
			return err
		}
		switch m.kind {
		case kindOffer:
			err = h.takeOffer(ctx, key, t, m.body)
		case kindGet:
			err = h.answerGet(key, t, m.body)
		case kindChallenge:
			err = h.answerChallenge(t, m.body)
		default:
			err = foreign("message %d where a request is due", m.kind)
		}
		if err != nil {
			return err
		}
	}
}

func (h *Host) answerGet(key noise.PublicKey, t timed, body []byte) error {
	ids, err := parseIDs(body, maxGet)
	if err != nil {
		return err
	}
	if n := h.neighbour(key); n != nil {
		for _, id := range ids {
			n.exam.wants(id)
		}
	}
	for _, id := range ids {
		if err := h.sendEnvelope(t, id); err != nil {
			return err
		}
	}
	return nil
}

// takeOffer answers an offer, and takes what we lack. An offer says that the
// neighbour stores what is offered; that counts for what we have as well.
func (h *Host) takeOffer(ctx context.Context, key noise.PublicKey, t timed, body []byte) error {
	ids, err := parseIDs(body, maxOffer)
	if err != nil {
		return err
	}
	if n := h.neighbour(key); n != nil {
		n.offers.remove(ids)
	}
	codes, stored, wanted := h.judge(key, ids)
	defer h.claims.release(key, false, wanted...) // what is not settled by then
	if err := h.custody(ctx, key, stored); err != nil {
		return err
	}
	if err := t.write(kindAnswer, encodeAnswer(codes)); err != nil || len(wanted) == 0 {
		return err
	}
	codes, got, err := h.takeWanted(ctx, key, t, wanted)
	if err != nil {
		return err
	}
	if err := h.custody(ctx, key, got); err != nil {
		return err
	}
	return t.write(kindAnswer, encodeAnswer(codes))
}

// judge decides on the ids of an offer. What it wants is claimed.
func (h *Host) judge(from noise.PublicKey, ids []envelope.ID) (codes []byte, stored, wanted []envelope.ID) {
	missing := make(map[envelope.ID]bool, len(ids))
	for _, id := range h.o.Spool.Missing(ids) {
		missing[id] = true
	}
	codes = make([]byte, len(ids))
	for i, id := range ids {
		switch {
		case !missing[id] || fault.ForgetCustody:
			codes[i] = codeStored
			stored = append(stored, id)
		case h.declined.has(from, id):
			codes[i] = codeRefused
		case h.claims.claim(from, id):
			codes[i] = codeWant
			wanted = append(wanted, id)
		default:
			codes[i] = codeLater
		}
	}
	return codes, stored, wanted
}

// takeWanted reads the wanted envelopes in their order and stores them, some at a
// time. It returns the second answer and what is stored now.
func (h *Host) takeWanted(ctx context.Context, from noise.PublicKey, t timed, wanted []envelope.ID) (codes []byte, stored []envelope.ID, err error) {
	codes = bytes.Repeat([]byte{codeRefused}, len(wanted))
	var batch []*envelope.Envelope
	var places []int
	size := 0
	put := func() error {
		if len(batch) == 0 {
			return nil
		}
		results, err := h.o.Spool.Put(ctx, from, batch)
		if err != nil {
			return err
		}
		for i, r := range results {
			id := wanted[places[i]]
			h.claims.release(from, true, id)
			if r.Err != nil {
				h.decline(from, id, r.Err)
				continue
			}
			codes[places[i]] = codeStored
			stored = append(stored, id)
		}
		batch, places, size = nil, nil, 0
		return nil
	}
	for i, id := range wanted {
		e, err := readEnvelope(t, id)
		if err != nil {
			return nil, nil, err
		}
		if e == nil {
			continue
		}
		batch, places, size = append(batch, e), append(places, i), size+len(e.Sealed)
		if size >= putBytes {
			if err := put(); err != nil {
				return nil, nil, err
			}
		}
	}
	return codes, stored, put()
}

// readEnvelope reads the envelope of an id; nil: the neighbour has it no more.
func readEnvelope(t timed, id envelope.ID) (*envelope.Envelope, error) {
	m, err := t.read(envelope.MaxSize)
	if err != nil {
		return nil, err
	}
	switch m.kind {
	case kindGone:
		if !bytes.Equal(m.body, id[:]) {
			return nil, foreign("gone is what was not asked for")
		}
		return nil, nil
	case kindEnvelope:
		e, err := envelope.Parse(m.body)
		if err != nil {
			return nil, foreign("%v", err)
		}
		if e.ID() != id {
			return nil, foreign("envelope that was not asked for")
		}
		return e, nil
	default:
		return nil, foreign("message %d where an envelope is due", m.kind)
	}
}
