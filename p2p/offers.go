package p2p

import (
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
)

const (
	// maxPending bounds the ids that wait to be offered to one neighbour: what one
	// reconciliation finds, and as much new. Beyond it a reconciliation has to do.
	maxPending = 2 * maxFound
	// maxBatchBytes bounds what one offer may make the neighbour ask for.
	maxBatchBytes = 1 << 20
	// laterPause is after how long ids are offered again that another neighbour was
	// just sending.
	laterPause = 2 * time.Second
)

// offered is an envelope to offer.
type offered struct {
	id    envelope.ID
	class int
}

// offers is what one neighbour is still to be told of, by class. Small classes come first.
type offers struct {
	mu      sync.Mutex
	classes [len(envelope.Sizes)][]envelope.ID // may hold ids that are not pending any more
	pending map[envelope.ID]struct{}
	lost    bool          // there is more, that did not fit
	wake    chan struct{} // capacity 1
}

func newOffers() *offers {
	return &offers{pending: map[envelope.ID]struct{}{}, wake: make(chan struct{}, 1)}
}

func (o *offers) add(items ...offered) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, item := range items {
		if _, known := o.pending[item.id]; known {
			continue
		}
		if len(o.pending) >= maxPending || len(o.classes[item.class]) >= 2*maxPending {
			o.lost = true
			break
		}
		o.pending[item.id] = struct{}{}
		o.classes[item.class] = append(o.classes[item.class], item.id)
	}
	o.poke()
}

// more says that there is more to offer, which a reconciliation has to find.
func (o *offers) more() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lost = true
	o.poke()
}

// forgot reports, once, whether there is more to offer than was added.
func (o *offers) forgot() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	lost := o.lost
	o.lost = false
	return lost
}

func (o *offers) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// remove forgets ids that the neighbour has, as it said.
func (o *offers) remove(ids []envelope.ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		delete(o.pending, id)
	}
}

// take returns the next new ids, as many as fit into one offer.
func (o *offers) take() (batch []offered) {
	o.mu.Lock()
	defer o.mu.Unlock()
	size := 0
	for class := range o.classes {
		for len(o.classes[class]) > 0 {
			id := o.classes[class][0]
			if _, ok := o.pending[id]; ok {
				if len(batch) == maxOffer || size+envelope.Sizes[class] > maxBatchBytes {
					return batch
				}
				size += envelope.Sizes[class]
				batch = append(batch, offered{id, class})
				delete(o.pending, id)
			}
			o.classes[class] = o.classes[class][1:]
		}
		o.classes[class] = nil
	}
	return batch
}
