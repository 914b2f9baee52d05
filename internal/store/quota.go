package store

import (
	"encoding/binary"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
)

// Quotas is how many bytes of envelopes there may be, the largest size class apart from
// the others. They hold for what is kept for others, and once more for the own users',
// so that neither can take the room of the other.
type Quotas struct{ Small, Large int64 }

// The quotas of a store that is told none.
const (
	DefaultSmallQuota = 1 << 30
	DefaultLargeQuota = 4 << 30
)

// minShares is into how many shares a quota is split at least. A neighbour may fill its
// share and no more; in a mesh of fewer members than that some room stays for those to come.
const minShares = 8

func (q Quotas) withDefaults() Quotas {
	if q.Small == 0 {
		q.Small = DefaultSmallQuota
	}
	if q.Large == 0 {
		q.Large = DefaultLargeQuota
	}
	return q
}

func (q Quotas) of(large bool) int64 {
	if large {
		return q.Large
	}
	return q.Small
}

// Quotas returns the quotas in force.
func (s *Store) Quotas() Quotas { return s.quotas }

// share is the bytes that one neighbour brought first and that are kept for others:
// small u64 | large u64. A record of zeros is not kept.
type share [2]int64

func class(large bool) int {
	if large {
		return 1
	}
	return 0
}

func shareKey(neighbour noise.PublicKey) []byte { return key(kindShare, neighbour[:]) }

func (s share) bytes() []byte {
	return binary.BigEndian.AppendUint64(be64(uint64(s[0])), uint64(s[1]))
}

func parseShare(k, b []byte) (s share, err error) {
	if b == nil {
		return s, nil
	}
	if len(b) != 16 {
		return s, damaged(k)
	}
	return share{int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))}, nil
}

// full says whether a new envelope finds room on the disk and in its account. It looks at what the batch
// has counted so far, so the answer is exact however many write at once.
func (s *Store) full(t *tx, x *index, members int) envelope.Full {
	if t.room < roomy {
		return envelope.FullDisk
	}
	large := isLarge(x.size)
	limit := s.quotas.of(large)
	if t.used(x.mine, large)+int64(x.size) > limit {
		if large {
			return envelope.FullLarge
		}
		return envelope.FullSmall
	}
	if !x.mine && t.share(x.from, large)+int64(x.size) > limit/int64(max(minShares, members)) {
		return envelope.FullShare
	}
	return envelope.NotFull
}
