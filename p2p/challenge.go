package p2p

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

const (
	// defaultChallengeEvery is the mean pause between two challenges of a node with a small
	// store; the times are random.
	defaultChallengeEvery = 10 * time.Minute
	// storedPerRate is with how many stored envelopes a node asks twice as often, three
	// times with twice as many, and so on up to fastestRate. That depends on nothing that
	// only its own users do, and leaves each of their envelopes enough questions in its life.
	storedPerRate = 4096
	fastestRate   = 30
	// Of challengeSize envelopes up to challengeOwn are own users' of which the neighbour
	// counts as holder, each once in its life; all others are any. So a question is about
	// any envelope, most of the time, and says little about whose it is.
	challengeSize = 8
	challengeOwn  = 2
	// recheckSize is how many are asked that a neighbour claims again.
	recheckSize = 6
	// proofTime bounds the answer: who has the envelopes only has to read and hash them.
	proofTime = time.Minute
)

// challengeRounds asks neighbours now and then whether they keep what they said to store.
func (h *Host) challengeRounds() {
	for wait(h.ctx, h.nextChallenge()) {
		all := h.allNeighbours()
		if len(all) == 0 {
			continue
		}
		n := all[mrand.N(len(all))]
		if err := n.challenge(); err != nil && n.ctx.Err() == nil {
			h.fault(n.key, string(custodyProtocol), err)
		}
	}
}

// nextChallenge draws a pause. An exponential one tells nobody when the next one is due.
func (h *Host) nextChallenge() time.Duration {
	rate := min(1+float64(h.stored.Load())/storedPerRate, fastestRate)
	mean := float64(h.o.ChallengeEvery) / rate
	return time.Duration(min(mrand.ExpFloat64(), 4) * mean)
}

// recheck asks member before long for the envelopes that it claims to store again.
func (h *Host) recheck(member noise.PublicKey) {
	n := h.neighbour(member)
	if n == nil || !h.doubts.await(member) {
		return
	}
	h.goDo(func() {
		ok := wait(n.ctx, jitter(h.o.ChallengeEvery/5))
		h.doubts.awaited(member)
		if !ok {
			return
		}
		if err := n.challenge(); err != nil && n.ctx.Err() == nil {
			h.fault(n.key, string(custodyProtocol), err)
		}
	})
}

// asked remembers for which own users' envelopes a holder was asked. Each is asked for once:
// who is asked for one again and again would see that it matters to us.
type asked struct {
	mu  sync.Mutex
	ids map[envelope.ID]struct{}
}

// maxAsked bounds it; beyond it all begin anew.
const maxAsked = 65536

func (a *asked) add(id envelope.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ids == nil || len(a.ids) >= maxAsked {
		a.ids = map[envelope.ID]struct{}{}
	}
	a.ids[id] = struct{}{}
}

func (a *asked) has(id envelope.ID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.ids[id]
	return ok
}

// check is one question, what the answer has to be, and why it is asked.
type check struct {
	question
	want    [32]byte
	class   int
	ends    time.Time // when it does not matter any more
	counts  bool      // it is recorded that the neighbour stores it
	doubted bool      // the neighbour failed for it, and claims it again
}

// challenge asks n for proofs and does what the answer says.
func (n *neighbour) challenge() error {
	n.exam.one.Lock()
	defer n.exam.one.Unlock()
	checks, err := n.checks()
	if err != nil || len(checks) == 0 {
		return err
	}
	n.exam.begin(checks)
	proofs, err := n.ask(checks)
	fetched := n.exam.end()
	switch late := net.Error(nil); {
	case err == nil:
		n.h.unanswered.clear(n.key)
	case n.h.ctx.Err() != nil:
		return err
	case errors.As(err, &late) && late.Timeout() && n.ctx.Err() == nil:
		// A neighbour that is there and does not answer has not proved anything.
		proofs, err = make([]proof, len(checks)), nil
	case !n.h.unanswered.add(n.key):
		return err
	default:
		proofs = make([]proof, len(checks))
	}
	for i, c := range checks {
		if fetched[c.id] {
			proofs[i] = proof{code: proofNone}
		}
	}
	return errors.Join(err, n.judgeProofs(checks, proofs))
}

// ask puts the questions to n.
func (n *neighbour) ask(checks []check) (proofs []proof, err error) {
	questions := make([]question, len(checks))
	for i, c := range checks {
		questions[i] = c.question
	}
	err = n.onStream(custodyProtocol, func(_ context.Context, t timed) error {
		if err := t.write(kindChallenge, encodeChallenge(questions)); err != nil {
			return err
		}
		t.limit = max(t.limit, proofTime)
		body, err := t.expect(kindProof, maxProofsSize)
		if err == nil {
			proofs, err = parseProofs(body, len(questions))
		}
		return err
	})
	return proofs, err
}

// judgeProofs counts a neighbour for what it proved after a doubt, and not any more for
// what it did not prove. What it lacks it is offered. All of that is the same for what it
// never counted for, so that it does not see for what it did.
func (n *neighbour) judgeProofs(checks []check, proofs []proof) error {
	var proved []envelope.ID
	var failed []check
	for i, c := range checks {
		ok := proofs[i].code == proofGiven && subtle.ConstantTimeCompare(proofs[i].hash[:], c.want[:]) == 1
		switch {
		case !ok:
			failed = append(failed, c)
		case c.doubted:
			proved = append(proved, c.id)
		}
		if c.counts {
			n.h.asked.add(c.id)
		}
	}
	n.h.log.Debug("challenged", "peer", n.key.Short(), "questions", len(checks), "failed", len(failed), "proved_again", len(proved))
	n.h.doubts.settle(n.key, proved...)
	if len(proved) > 0 {
		if err := n.h.o.Custody.PutCustody(n.h.ctx, n.key, proved); err != nil {
			return err
		}
	}
	err := n.distrust(failed)
	for _, c := range failed {
		if !n.h.refusals.has(n.key, c.id) {
			n.offers.add(offered{c.id, c.class})
		}
	}
	if len(n.h.doubts.claimed(n.key, 1)) > 0 {
		n.h.recheck(n.key) // there are more than one challenge holds
	}
	return err
}

// distrust notes what n failed to prove, and takes back that it stores that.
func (n *neighbour) distrust(failed []check) error {
	var counted []envelope.ID
	n.h.counting.Lock()
	defer n.h.counting.Unlock()
	for _, c := range failed {
		counts, err := n.h.holds(n.key, c.id) // it may have said so while it was asked
		if err != nil {
			return err
		}
		n.h.doubts.add(n.key, c.id, c.ends, counts)
		if counts {
			counted = append(counted, c.id)
		}
	}
	if len(counted) == 0 {
		return nil
	}
	n.h.log.Warn("neighbour could not prove that it stores what it said to store; it does not count any more for that",
		"peer", n.key.Short(), "envelopes", len(counted))
	return n.h.o.Custody.DropCustody(n.h.ctx, n.key, counted)
}

// checks chooses what to ask n, in random order.
func (n *neighbour) checks() (checks []check, err error) {
	doubted := n.h.doubts.claimed(n.key, recheckSize)
	own, err := n.ownHeld(challengeOwn)
	if err != nil {
		return nil, err
	}
	random, err := n.h.randomStored(challengeSize)
	if err != nil {
		return nil, err
	}
	seen := map[envelope.ID]bool{}
	for kind, ids := range [][]envelope.ID{doubted, own, random} {
		for _, id := range ids {
			if seen[id] || len(checks) == challengeSize {
				continue
			}
			seen[id] = true
			c, err := n.check(id)
			if err != nil {
				return nil, err
			}
			if c == nil && kind == 0 {
				n.h.doubts.settle(n.key, id) // gone here
			}
			if c != nil {
				c.doubted = kind == 0
				checks = append(checks, *c)
			}
		}
	}
	mrand.Shuffle(len(checks), func(i, j int) { checks[i], checks[j] = checks[j], checks[i] })
	return checks, nil
}

// check prepares the question for one envelope; nil: it is not stored here any more.
func (n *neighbour) check(id envelope.ID) (*check, error) {
	b, err := n.h.o.Spool.Envelope(id)
	if err != nil {
		return nil, nil
	}
	e, err := envelope.Parse(b)
	if err != nil {
		return nil, err
	}
	c := &check{question: question{id: id}, class: e.Class(), ends: e.Expires.Time().Add(windowSlack)}
	if c.counts, err = n.h.holds(n.key, id); err != nil {
		return nil, err
	}
	rand.Read(c.nonce[:])
	c.want = proofOf(n.key, c.nonce, b)
	return c, nil
}

// candidates is how many own users' envelopes are looked at for one challenge.
const candidates = 64

// ownHeld chooses own users' envelopes that n is recorded to store and for which nobody
// was asked yet.
func (n *neighbour) ownHeld(most int) (chosen []envelope.ID, err error) {
	now := passport.TimeOf(n.h.o.Now())
	var fresh sample
	err = n.h.o.Custody.OwnEnvelopes(func(id envelope.ID, expires passport.Time) bool {
		if expires > now && !n.h.asked.has(id) {
			fresh.add(id)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	for _, id := range fresh.ids {
		if len(chosen) == most {
			break
		}
		held, err := n.h.holds(n.key, id)
		if err != nil {
			return nil, err
		}
		if held {
			chosen = append(chosen, id)
		}
	}
	return chosen, nil
}

// sample draws candidates evenly from what it is given, in random order.
type sample struct {
	ids  []envelope.ID
	seen int
}

func (s *sample) add(id envelope.ID) {
	s.seen++
	at := mrand.N(s.seen)
	if len(s.ids) < candidates {
		s.ids = append(s.ids, id)
		s.ids[at], s.ids[len(s.ids)-1] = id, s.ids[at]
	} else if at < candidates {
		s.ids[at] = id
	}
}

// randomStored draws stored envelopes that have not ended. Ids are hashes, so the next
// one behind a random place is any.
func (h *Host) randomStored(n int) (ids []envelope.ID, err error) {
	now := passport.TimeOf(h.o.Now())
	for range n {
		var place envelope.ID
		rand.Read(place[:])
		for _, from := range []envelope.ID{place, {}} { // behind the last one is the first
			found := false
			err := h.o.Spool.Envelopes(from, func(m envelope.Meta) bool {
				found = m.Expires > now
				if found {
					ids = append(ids, m.ID)
				}
				return !found
			})
			if err != nil {
				return nil, fmt.Errorf("choose what to ask for: %w", err)
			}
			if found {
				break
			}
		}
	}
	return ids, nil
}

// answerChallenge proves to a neighbour what is stored here.
func (h *Host) answerChallenge(t timed, body []byte) error {
	questions, err := parseChallenge(body)
	if err != nil {
		return err
	}
	proofs := make([]proof, len(questions))
	for i, q := range questions {
		b, err := h.o.Spool.Envelope(q.id)
		if err != nil {
			proofs[i].code = proofNone
			continue
		}
		proofs[i].hash = proofOf(h.self, q.nonce, b)
	}
	return t.write(kindProof, encodeProofs(proofs))
}
