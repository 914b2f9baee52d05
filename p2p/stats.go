package p2p

import (
	"sync"
	"time"

	"github.com/asmtp/asmtp/noise"
)

// Reconciled says how the reconciliations went that this node opened since its start.
type Reconciled struct {
	Last     time.Time // when the last one ended in agreement; zero: none yet
	Sessions int       // that settled something; each round has one for envelopes and one for passports
	Failed   int       // rounds that ended with an error
	Bytes    int64     // of the sessions, both ways, without the envelopes
	Lacking  int       // envelopes that neighbours lacked
	Missing  int       // envelopes that this node lacked
	Fetched  int       // of them, and stored
	Peers    map[noise.PublicKey]PeerReconciled
}

// PeerReconciled is how it went with one neighbour.
type PeerReconciled struct {
	Last       time.Time     // when the last round ended well
	Bytes      int64         // of the last session over envelopes
	RoundTrips int           // of the same
	Took       time.Duration // the same, without what was transferred after it
	Lacking    int           // envelopes that the neighbour lacked then
	Missing    int           // envelopes that this node lacked then
	Refused    int           // envelopes that the neighbour refused within the last hour
	Gone       int           // envelopes that it said to have and had not, in all
	Err        string        // of the last round; empty: none
}

// Reconciled returns statistics of reconciliation.
func (h *Host) Reconciled() Reconciled {
	all := h.stats.copy()
	for key, p := range all.Peers {
		p.Refused = h.refusals.count(key)
		all.Peers[key] = p
	}
	return all
}

// maxStats bounds the neighbours of which statistics are kept.
const maxStats = 1024

type stats struct {
	mu sync.Mutex
	r  Reconciled
}

func newStats() *stats { return &stats{r: Reconciled{Peers: map[noise.PublicKey]PeerReconciled{}}} }

func (s *stats) copy() Reconciled {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.r
	r.Peers = make(map[noise.PublicKey]PeerReconciled, len(s.r.Peers))
	for key, p := range s.r.Peers {
		r.Peers[key] = p
	}
	return r
}

// change changes the figures of a neighbour.
func (s *stats) change(key noise.PublicKey, f func(r *Reconciled, p *PeerReconciled)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, known := s.r.Peers[key]
	f(&s.r, &p)
	if known || len(s.r.Peers) < maxStats {
		s.r.Peers[key] = p
	}
}

func (s *stats) session(key noise.PublicKey, set byte, done *session) {
	s.change(key, func(r *Reconciled, p *PeerReconciled) {
		r.Sessions++
		r.Bytes += done.bytes
		if set != setEnvelopes {
			return
		}
		p.Bytes, p.RoundTrips, p.Took = done.bytes, done.trips, done.took
		p.Lacking, p.Missing = len(done.Lacking()), len(done.Missing())
		r.Lacking += p.Lacking
		r.Missing += p.Missing
	})
}

func (s *stats) fetched(key noise.PublicKey, fetched, gone int) {
	s.change(key, func(r *Reconciled, p *PeerReconciled) {
		r.Fetched += fetched
		p.Gone += gone
	})
}

func (s *stats) ended(key noise.PublicKey, now time.Time, err error) {
	s.change(key, func(r *Reconciled, p *PeerReconciled) {
		if err != nil {
			r.Failed++
			p.Err = err.Error()
			return
		}
		r.Last, p.Last, p.Err = now, now, ""
	})
}
