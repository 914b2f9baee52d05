package chaos

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
	"github.com/asmtp/asmtp/test/chaos/check"
)

// checkpoint stops all nodes under load, most often by SIGKILL, and looks into their
// stores. Clients go on meanwhile: what they call accepted now was confirmed before.
// All nodes are started again, also those that were to be away for longer.
func (r *run) checkpoint(ctx context.Context) error {
	r.hurry.set(true)
	pause(ctx, 700*time.Millisecond)
	how := syscall.SIGKILL
	if r.rand.IntN(4) == 0 && r.Break != "ack-before-fsync" {
		how = syscall.SIGTERM
	}
	r.stopAll(how)
	r.hurry.set(false)
	err := r.compare(ctx, how)
	for _, n := range r.nodes {
		r.restart(n)
	}
	return err
}

// compare looks into all stores and has them compared.
func (r *run) compare(ctx context.Context, how syscall.Signal) error {
	r.counts.add("checkpoints", 1)
	began := time.Now()
	at := r.now()
	r.mu.Lock()
	acks := append([]check.Ack(nil), r.acks...)
	r.mu.Unlock()
	now := map[string]*check.Store{}
	var mu sync.Mutex
	var errs []error
	var group sync.WaitGroup
	places := make(chan struct{}, 2)
	for _, n := range r.nodes {
		group.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			if n.disk != nil {
				n.disk.free()
			}
			s, err := r.lookInto(ctx, n, at)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			now[n.name] = s
		})
	}
	more, held := r.accepted(at)
	acks = append(acks, more...)
	group.Wait()
	for _, err := range errs {
		r.fault("store does not open", "%v", err)
	}
	total := 0
	for _, s := range now {
		total += len(s.Envelopes)
	}
	list := check.Stores(r.stores, now, acks)
	if len(now) == len(r.nodes) {
		list = append(list, check.Holders(now, held)...)
	}
	r.faults(list...)
	r.stores = now
	r.forgetAcks(now)
	mails, states := r.mails.Counts(r.lives())
	r.say("checkpoint after %v: %d envelopes in %d stores, %d acknowledged; %d mails, %v; took %.1f s", how, total, len(now), len(acks), mails, states, time.Since(began).Seconds())
	return ctx.Err()
}

// lookInto reads the store of a stopped node and has it check itself.
func (r *run) lookInto(ctx context.Context, n *node, at time.Duration) (*check.Store, error) {
	names := map[noise.PublicKey]string{}
	for _, other := range r.nodes {
		names[other.key] = other.name
	}
	clock := passport.TimeOf(r.clocks.highest(n.name))
	st, err := store.Open(filepath.Join(n.data, "store"), store.Options{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.name, err)
	}
	defer st.Close()
	s := &check.Store{Node: n.name, At: at, Clock: clock, Envelopes: map[envelope.ID]passport.Time{}, Holders: map[envelope.ID][]string{}}
	if err := st.Verify(ctx, func(p string) { s.Problems = append(s.Problems, p) }); err != nil {
		return nil, fmt.Errorf("%s: %w", n.name, err)
	}
	err = st.Envelopes(envelope.ID{}, func(m envelope.Meta) bool {
		s.Envelopes[m.ID] = m.Expires
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.name, err)
	}
	for id := range s.Envelopes {
		members, err := st.Holders(id)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.name, err)
		}
		for _, m := range members {
			if name, ok := names[m]; ok {
				s.Holders[id] = append(s.Holders[id], name)
			}
		}
	}
	return s, nil
}

// accepted asks all clients, now that no node runs, for the envelopes of the mails that
// they call accepted or held.
func (r *run) accepted(at time.Duration) (acks []check.Ack, held []check.Held) {
	for _, a := range r.accounts {
		a.folder.RLock()
		res, ok := a.local("queue")
		var ids []string
		seen := map[string]bool{}
		if ok {
			_ = each(res.out, func(o outgoing) {
				a.told(res.Span, o)
				if o.State != "queued" && !seen[o.ID] {
					seen[o.ID] = true
					ids = append(ids, o.ID)
				}
			})
		}
		const most = 60 // of one account, the newest: asking takes time while no node runs
		for _, id := range ids[max(0, len(ids)-most):] {
			more, by := a.acknowledged(id, at)
			acks, held = append(acks, more...), append(held, by...)
		}
		a.folder.RUnlock()
	}
	return acks, held
}

// acknowledged returns what the nodes of an account must have of a mail that is on its
// way, and what others must have.
func (a *account) acknowledged(id string, at time.Duration) (acks []check.Ack, held []check.Held) {
	res, ok := a.local("status", id)
	if !ok {
		return nil, nil
	}
	var nodes []string
	for _, n := range a.nodes {
		nodes = append(nodes, n.name)
	}
	_ = each(res.out, func(o outgoing) {
		a.told(res.Span, o)
		if o.State != "accepted" && o.State != "held" {
			return
		}
		end, ok := a.r.mails.EnvelopeEnd(id)
		if !ok {
			return
		}
		h := check.Held{Mail: id, By: a.name, Count: o.Held, Expires: passport.TimeOf(end)}
		for _, text := range o.Envelopes {
			e, err := envelope.ParseID(text)
			if err != nil {
				a.r.fault("harness", "envelope of mail %s: %v", id, err)
				continue
			}
			h.Parts = append(h.Parts, e)
			acks = append(acks, check.Ack{Node: nodes[0], Nodes: nodes, ID: e, Expires: passport.TimeOf(end), At: at, By: a.name, Mail: id})
		}
		// Sealed anew before the end of its first envelopes, others may still hold those alone.
		if o.State == "held" && len(h.Parts) > 0 && a.r.clocks.highest(a.name).Add(3*time.Hour).Before(end) {
			held = append(held, h)
		}
	})
	return acks, held
}

// forgetAcks drops what nodes may have removed by now.
func (r *run) forgetAcks(now map[string]*check.Store) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.acks[:0]
	for _, a := range r.acks {
		if s := now[a.Node]; s == nil || a.Expires.Add(4*time.Hour) > s.Clock {
			left = append(left, a)
		}
	}
	r.acks = left
}
