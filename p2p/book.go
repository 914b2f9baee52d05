package p2p

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/asmtp/asmtp/internal/retry"
	"github.com/asmtp/asmtp/noise"
)

// Limits and times of the book.
const (
	backoffMin   = time.Second
	backoffMax   = 5 * time.Minute
	maxContacts  = 1024
	maxPerPeer   = 8               // addresses kept of one peer
	steady       = 1 * time.Minute // a connection that lasted as long resets the backoff
	fullMesh     = 8               // up to so many other members a node connects to all
	targetDegree = 6               // with more, to so many
)

// book knows where other nodes are and when to dial whom. It has no clock and does
// no network, so that its rules can be tested.
type book struct {
	mu       sync.Mutex
	contacts map[noise.PublicKey]*contact
	changed  chan struct{} // capacity 1: what is due may have changed
}

type contact struct {
	addresses []string  // what the peer said of itself, or its user of it, first
	own       int       // how many of addresses are such
	away      time.Time // since when it is not reached, or not for long; zero: it is not known to be
	next      time.Time // when to dial again
	dialing   bool
	connected bool
	since     time.Time
	seen      time.Time
	version   string
	clock     time.Duration // its clock minus ours
	clocked   bool
}

func newBook() *book {
	return &book{contacts: map[noise.PublicKey]*contact{}, changed: make(chan struct{}, 1)}
}

// poke wakes who waits for changes.
func (b *book) poke() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// learn notes addresses of a peer: its own word, or that of another, which cannot
// push out what the peer itself said. A new address makes it due at once. It
// reports whether there was one.
func (b *book) learn(key noise.PublicKey, addresses []string, own bool, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contact(key)
	if c == nil {
		return false
	}
	before := slices.Clone(c.addresses)
	if own {
		c.setOwn(addresses)
	} else {
		c.addHearsay(addresses)
	}
	fresh := slices.ContainsFunc(c.addresses, func(a string) bool { return !slices.Contains(before, a) })
	if fresh {
		c.away, c.next = time.Time{}, now
	}
	return fresh
}

// contact returns the entry of key, made if there is room.
func (b *book) contact(key noise.PublicKey) *contact {
	c := b.contacts[key]
	if c == nil && len(b.contacts) < maxContacts {
		c = new(contact)
		b.contacts[key] = c
	}
	return c
}

func (c *contact) setOwn(addresses []string) {
	rest := c.addresses
	c.addresses = nil
	for i, a := range slices.Concat(addresses, rest) {
		if len(c.addresses) < maxPerPeer && !slices.Contains(c.addresses, a) {
			c.addresses = append(c.addresses, a)
		}
		if i == len(addresses)-1 {
			c.own = len(c.addresses)
		}
	}
}

// addHearsay puts new addresses behind the own ones, and drops the oldest hearsay.
func (c *contact) addHearsay(addresses []string) {
	for _, a := range addresses {
		if slices.Contains(c.addresses, a) {
			continue
		}
		if len(c.addresses) >= maxPerPeer {
			if c.own >= maxPerPeer {
				return
			}
			c.addresses = slices.Delete(c.addresses, c.own, c.own+1)
		}
		c.addresses = append(c.addresses, a)
	}
}

func (b *book) connected(key noise.PublicKey, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contact(key); c != nil {
		c.connected, c.since, c.seen = true, now, now
	}
	b.poke()
}

func (b *book) disconnected(key noise.PublicKey, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contacts[key]; c != nil && c.connected {
		lasted := now.Sub(c.since)
		c.connected, c.since, c.seen = false, now, now
		if lasted >= steady {
			c.away = time.Time{}
		}
		c.backOff(now)
	}
	b.poke()
}

// failed notes that dialling a peer failed, or that it was dropped for a reason.
func (b *book) failed(key noise.PublicKey, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contacts[key]; c != nil {
		c.dialing = false
		c.backOff(now)
	}
	b.poke()
}

// dialed notes that dialling a peer ended with a connection.
func (b *book) dialed(key noise.PublicKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contacts[key]; c != nil {
		c.dialing = false
	}
	b.poke()
}

// backOff sets the time of the next dial: at first every second, later seldom, with jitter, so
// that two nodes or many do not go on in step.
func (c *contact) backOff(now time.Time) {
	if c.away.IsZero() {
		c.away = now
	}
	c.next = now.Add(jitter(retry.Wait(now.Sub(c.away), backoffMin, backoffMax)))
}

// jitter returns a random time from half of d to d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// due returns whom to dial now, marked as being dialled, and when to ask again; zero
// if only a change can make anybody due. members is how many others there are.
func (b *book) due(now time.Time, members int) (keys []noise.PublicKey, next time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	active := 0
	var waiting []noise.PublicKey
	for key, c := range b.contacts {
		switch {
		case c.connected || c.dialing:
			active++
		case len(c.addresses) > 0:
			waiting = append(waiting, key)
		}
	}
	room := len(waiting)
	if members > fullMesh {
		room = max(0, targetDegree-active)
	}
	// In random order, so that all of a large mesh get their share of neighbours.
	rand.Shuffle(len(waiting), func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })
	for _, key := range waiting {
		if room == 0 {
			return keys, time.Time{}
		}
		c := b.contacts[key]
		if c.next.After(now) {
			if next.IsZero() || c.next.Before(next) {
				next = c.next
			}
			continue
		}
		c.dialing = true
		keys = append(keys, key)
		room--
	}
	return keys, next
}

// addresses returns where a peer may be.
func (b *book) addresses(key noise.PublicKey) []string {
	addresses, _ := b.saved(key)
	return addresses
}

// saved returns what is to be remembered of a peer.
func (b *book) saved(key noise.PublicKey) (addresses []string, seen time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contacts[key]; c != nil {
		return slices.Clone(c.addresses), c.seen
	}
	return nil, time.Time{}
}

func (b *book) version(key noise.PublicKey, version string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contact(key); c != nil {
		c.version = version
	}
}

func (b *book) clock(key noise.PublicKey, off time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contact(key); c != nil {
		c.clock, c.clocked = off, true
	}
}

func (b *book) peers() []Peer {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]Peer, 0, len(b.contacts))
	for key, c := range b.contacts {
		all = append(all, Peer{ID: key, Addresses: slices.Clone(c.addresses), Connected: c.connected, Since: c.since, Version: c.version,
			Clock: c.clock, ClockKnown: c.clocked})
	}
	slices.SortFunc(all, func(a, b Peer) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return all
}
