package account

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
)

// To a device that follows, the node gives a small envelope while it is still storing it. What
// is taken in then is shown sooner, and cannot be acknowledged: it has no number yet, and a
// node that ends at that moment knows nothing of it. Its number comes afterwards, in the order
// of all others, so the place in the mailbox never moves beyond what is taken in. An envelope
// that the node lost comes once more from elsewhere, as any that is delivered twice.

// maxEarly is how many early envelopes may wait for their number: more than any node sends.
const maxEarly = 1024

// early reports whether the node may yet lose the envelope: there is nothing to acknowledge.
func (d *delivery) early() bool { return d.number == 0 }

// again reports whether this is but the number of an envelope that was early.
func (d *delivery) again() bool { return len(d.envelope) == 0 }

// settle puts the envelopes of early deliveries into those that come again, unless they are
// taken in: what is early and comes again in one batch is an ordinary delivery.
func (in *intake) settle(batch []delivery) ([]delivery, error) {
	early := make(map[envelope.ID]int)
	list := make([]delivery, 0, len(batch))
	for _, d := range batch {
		switch i, here := early[d.id]; {
		case d.early():
			if len(in.early)+len(early) >= maxEarly {
				return nil, fmt.Errorf("%w: too much that is not stored", clientapi.ErrAnswer)
			}
			early[d.id] = len(list)
		case d.again() && here:
			d.envelope, list[i].envelope = list[i].envelope, nil
			delete(early, d.id)
		case d.again():
			known, ok := in.early[d.id]
			if !ok {
				return nil, fmt.Errorf("%w: the number of an envelope that never came", clientapi.ErrAnswer)
			}
			d.envelope = known.untaken
			delete(in.early, d.id)
		}
		list = append(list, d)
	}
	return slices.DeleteFunc(list, func(d delivery) bool { return d.early() && d.again() }), nil
}

// settled keeps what is early of a batch that was stored.
func (in *intake) settled(batch []delivery, t *taken) {
	for _, d := range batch {
		if !d.early() {
			continue
		}
		var e earlyEnvelope
		if t.heldEarly { // perhaps this one
			e.untaken = d.envelope
		}
		in.early[d.id] = e
	}
}

// earlyEnvelope is one of which the number did not come yet.
type earlyEnvelope struct {
	untaken []byte // the envelope, unless it is taken in
}

// withCompany waits a short time for more if all of a batch is taken in already: nobody waits
// for it to be acknowledged, and with what comes next it costs no transaction of its own.
func (in *intake) withCompany(ctx context.Context, batch []mailboxItem) []mailboxItem {
	timer := time.NewTimer(company)
	defer timer.Stop()
	for !slices.ContainsFunc(batch, func(i mailboxItem) bool { return !i.again() }) {
		select {
		case item, ok := <-in.small:
			if !ok {
				return batch
			}
			batch = gather(append(batch, item), in.small)
		case <-timer.C:
			return batch
		case <-ctx.Done():
			return batch
		}
	}
	return batch
}
