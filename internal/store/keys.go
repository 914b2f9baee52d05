package store

import (
	"encoding/binary"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// The keys of the store: one byte for the kind, then fields of fixed length, integers
// big-endian, so that the order of keys is that of the fields.
//
//	! name                        single records, see below
//	b envelope                    body: the encoded envelope
//	e envelope                    index: see index
//	x due u32 | envelope          when to look at an envelope's end; no value
//	m user | number u64           mailbox entry: see entry
//	M user | envelope             number u64: an envelope has one number per user
//	n user                        last number u64 given out, never decreases
//	d user | number | device      device acknowledged: time u32
//	y due u32 | user | number     when to remove an acknowledged entry; no value
//	h user | handle               bytes u64 of its entries that no device acknowledged
//	t user | handle               tag key: epoch u32 | key 32
//	o expires u32 | envelope      brought by an own user, and its end not dealt with; no value
//	c envelope | member           member confirmed that it stores it; no value
//	w neighbour                   share: small u64 | large u64, of what is kept for others
//	z hour u32                    what came in | what was removed in it, each as in !usage
//	p passport | hash             block; the tip names the last one, each its parent
//	q passport                    tip 16 | blocks u32 | change u64
//	Q change u64                  passport 16, the last change of each passport only
//	a key | passport              key is active in it; change u64 at which it became so
//	f passport | hash             block of a fork, proof: our block's hash 16 | their block
//	s hash                        statement of the mesh
//	u name                        user: added u32
//	r key                         peer: seen u32 | n × (length u8 | address)
//	k hash                        token: see token
//	g kind u8 | key               stamps seen: up to 64 × u64, ascending
const (
	kindBody      = 'b'
	kindIndex     = 'e'
	kindDue       = 'x'
	kindEntry     = 'm'
	kindNumber    = 'M'
	kindLast      = 'n'
	kindDevice    = 'd'
	kindRemove    = 'y'
	kindHandle    = 'h'
	kindTagKey    = 't'
	kindOwn       = 'o'
	kindCustody   = 'c'
	kindShare     = 'w'
	kindHour      = 'z'
	kindBlock     = 'p'
	kindTip       = 'q'
	kindChange    = 'Q'
	kindActive    = 'a'
	kindFork      = 'f'
	kindStatement = 's'
	kindUser      = 'u'
	kindPeer      = 'r'
	kindToken     = 'k'
	kindStamps    = 'g'
)

var (
	keySchema     = []byte("!schema")     // u32
	keyGeneration = []byte("!generation") // u64
	keyStamp      = []byte("!stamp")      // u64: no stamp above it was used
	keyUsage      = []byte("!usage")      // see Usage
	keyLastChange = []byte("!change")     // u64: last change of a passport
	keyMesh       = []byte("!mesh")       // id 16 | secret 32 | founder's seed, 32 or none
)

func key(kind byte, fields ...[]byte) []byte {
	n := 1
	for _, f := range fields {
		n += len(f)
	}
	k := append(make([]byte, 0, n), kind)
	for _, f := range fields {
		k = append(k, f...)
	}
	return k
}

func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func ownKey(end passport.Time, id envelope.ID) []byte   { return key(kindOwn, be32(uint32(end)), id[:]) }
func bodyKey(id envelope.ID) []byte                     { return key(kindBody, id[:]) }
func indexKey(id envelope.ID) []byte                    { return key(kindIndex, id[:]) }
func dueKey(at passport.Time, id envelope.ID) []byte    { return key(kindDue, be32(uint32(at)), id[:]) }
func entryKey(user passport.ID, n uint64) []byte        { return key(kindEntry, user[:], be64(n)) }
func numberKey(u passport.ID, id envelope.ID) []byte    { return key(kindNumber, u[:], id[:]) }
func lastKey(user passport.ID) []byte                   { return key(kindLast, user[:]) }
func handleKey(u passport.ID, h envelope.Handle) []byte { return key(kindHandle, u[:], h[:]) }
func tagKeyKey(u passport.ID, h envelope.Handle) []byte { return key(kindTagKey, u[:], h[:]) }

func deviceKey(user passport.ID, n uint64, device noise.PublicKey) []byte {
	return key(kindDevice, user[:], be64(n), device[:])
}

func removeKey(at passport.Time, user passport.ID, n uint64) []byte {
	return key(kindRemove, be32(uint32(at)), user[:], be64(n))
}

// getUint64 reads a record of one integer; none is 0.
func getUint64(txn *badger.Txn, k []byte) (uint64, error) {
	v, err := get(txn, k)
	return parseUint64(k, v, err)
}

func (t *tx) getUint64(k []byte) (uint64, error) {
	v, err := t.get(k)
	return parseUint64(k, v, err)
}

func parseUint64(k, v []byte, err error) (uint64, error) {
	switch {
	case err != nil:
		return 0, err
	case v == nil:
		return 0, nil
	case len(v) != 8:
		return 0, damaged(k)
	}
	return binary.BigEndian.Uint64(v), nil
}

func damaged(k []byte) error { return fmt.Errorf("%w %x", ErrDamaged, k) }
