package reconcile

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"math/bits"
)

// KeySize is the length of the secret that two sides share for one session.
const KeySize = 32

const (
	printSize = 16
	// step is how many items lie between two sums that are kept: a fingerprint costs at
	// most 2 × step calls of the pseudorandom function, and a view half a byte per item.
	step = 32
)

// side says whose fingerprint it is.
type side int

const (
	initiator side = iota
	responder
)

// View is a window of a set under the key of one session. It is for one goroutine.
type View struct {
	set    *Set
	lo, hi int
	prf    cipher.Block
	seal   [2]cipher.Block // of the fingerprints of each side
	sums   []sum           // sums[i] is of the first i × step items
	buf    [aes.BlockSize]byte
}

// NewView returns the view of the items with from <= end < to. It takes about 30 ns per
// item where the processor has AES.
func NewView(s *Set, from, to uint32, secret [KeySize]byte) *View {
	v := &View{set: s}
	v.lo = s.search(0, s.n, bound{Item: Item{Expires: from}})
	v.hi = max(v.lo, s.search(0, s.n, bound{Item: Item{Expires: to}}))
	v.prf = block(secret, "ids")
	v.seal = [2]cipher.Block{block(secret, "initiator"), block(secret, "responder")}
	v.sums = make([]sum, 1, 2+(v.hi-v.lo)/step)
	var total sum
	for i := v.lo; i < v.hi; i++ {
		total = total.plus(v.hash(&s.at(i).ID))
		if (i-v.lo+1)%step == 0 {
			v.sums = append(v.sums, total)
		}
	}
	return v
}

func block(secret [KeySize]byte, name string) cipher.Block {
	k, err := hkdf.Key(sha512.New, secret[:], nil, "asmtp/2 reconcile "+name, 16)
	if err != nil {
		panic(err) // only for a length that SHA-512 cannot give
	}
	b, err := aes.NewCipher(k)
	if err != nil {
		panic(err) // only for a wrong length
	}
	return b
}

// Len returns how many items are in the window.
func (v *View) Len() int { return v.hi - v.lo }

// hash is the pseudorandom function: the CBC-MAC with AES, which is one for messages of
// one length (Bellare, Kilian, Rogaway 1994).
func (v *View) hash(id *ID) sum {
	v.prf.Encrypt(v.buf[:], id[:aes.BlockSize])
	subtle.XORBytes(v.buf[:], v.buf[:], id[aes.BlockSize:])
	v.prf.Encrypt(v.buf[:], v.buf[:])
	return sum{binary.BigEndian.Uint64(v.buf[:]), binary.BigEndian.Uint64(v.buf[8:])}
}

// print returns the fingerprint that a side has for the items at [lo, hi).
func (v *View) print(of side, lo, hi int) (p [printSize]byte) {
	total := v.upTo(hi).minus(v.upTo(lo))
	binary.BigEndian.PutUint64(v.buf[:], total.hi)
	binary.BigEndian.PutUint64(v.buf[8:], total.lo^uint64(hi-lo))
	v.seal[of].Encrypt(v.buf[:], v.buf[:])
	return v.buf
}

// same reports whether p is the fingerprint that a side has to have for [lo, hi).
func (v *View) same(of side, p []byte, lo, hi int) bool {
	own := v.print(of, lo, hi)
	return subtle.ConstantTimeCompare(own[:], p) == 1
}

// upTo returns the sum of the items of the window in front of place i.
func (v *View) upTo(i int) sum {
	n := (i - v.lo) / step
	total := v.sums[n]
	for at := v.lo + n*step; at < i; at++ {
		total = total.plus(v.hash(&v.set.at(at).ID))
	}
	return total
}

func (v *View) search(b bound) int { return v.set.search(v.lo, v.hi, b) }

// cut returns where a piece that ends in front of place i ends: at the upper bound of the
// range if nothing of it follows.
func (v *View) cut(i, hi int, upper bound) bound {
	if i >= hi {
		return upper
	}
	return between(v.set.at(i-1), v.set.at(i))
}

// sum is a number modulo 2^128.
type sum struct{ hi, lo uint64 }

func (s sum) plus(o sum) sum {
	lo, carry := bits.Add64(s.lo, o.lo, 0)
	hi, _ := bits.Add64(s.hi, o.hi, carry)
	return sum{hi, lo}
}

func (s sum) minus(o sum) sum {
	lo, borrow := bits.Sub64(s.lo, o.lo, 0)
	hi, _ := bits.Sub64(s.hi, o.hi, borrow)
	return sum{hi, lo}
}
