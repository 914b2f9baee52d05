package p2p

import (
	"sync"
	"time"

	"github.com/asmtp/asmtp/envelope"
)

const (
	// maxPending bounds the ids that wait to be offered to one neighbour. Beyond it the
	// store is read again instead.
	maxPending = 8192
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

// offers is what one neighbour is still to be told of: new ids by class, and a walk
// through the store. Small classes come first.
type offers struct {
	mu      sync.Mutex
	classes [len(envelope.Sizes)][]envelope.ID // may hold ids that are not pending any more
	pending map[envelope.ID]struct{}
	walk    walk
	again   bool          // walk once more from the start
	wake    chan struct{} // capacity 1
}

// walk is how far the store was read: one class after the other, each in order of ids.
type walk struct {
	class int
	after envelope.ID
}

var walked = walk{class: len(envelope.Sizes)}

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
		if len(o.pending) >= maxPending {
			o.again = true
			break
		}
		o.pending[item.id] = struct{}{}
		o.classes[item.class] = append(o.classes[item.class], item.id)
	}
	o.poke()
}

// restart has the whole store offered again, after something was lost on the way.
func (o *offers) restart() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.again = true
	o.poke()
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

// nextWalk returns where the walk goes on, false when there is nothing left to walk.
func (o *offers) nextWalk() (walk, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.walk == walked && o.again {
		o.walk, o.again = walk{}, false
	}
	return o.walk, o.walk != walked
}

func (o *offers) walkedTo(w walk) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.walk = w
}
