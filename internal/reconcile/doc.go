// Package reconcile finds in few round trips how two sets of ids differ: range-based
// set reconciliation, after the negentropy protocol, version 1, in binary.
//
// Start with [Set], which holds the ids of one side in order, and [NewView], which is a
// window of a set under the key of one session. The side that begins makes an
// [Initiator] of its view, the other one a [Responder]; they hand each other frames
// until the initiator is done. Only the initiator learns the differences.
//
// The package is the algorithm alone: no network, no clock, no store, and it starts no
// goroutine. What it reads comes from the other side and may be hostile: a frame that
// no honest side sends is an error wrapping [ErrPeer], never a panic, and [Limits]
// bound memory, rounds and the differences that are gathered.
//
// # Method
//
// Items are ordered by (end, id). A side describes a range of that order by a
// fingerprint, or by its ids if there are few. Who gets a fingerprint that is not its
// own for the range cuts the range in 16 and answers with fingerprints of the pieces, or
// with its ids if there are few.
//
// A fingerprint is the sum, modulo 2^128, of a keyed pseudorandom function of the ids,
// and their count, enciphered under a key of the side that sends it. The key is a secret
// of the two sides and of one session, so that nobody else can prepare ids by which two
// different sets look the same; and no side can answer with the other's own words that
// it has the same: an agreement is proved by the fingerprint under the own key.
//
// # Frames
//
//	frame  range*                                    what follows the last range is left out
//	range  upper bound | mode u8 | payload           it begins where the one before ends, the first at the start
//	bound  end varint | n varint | n bytes           end: 0 is the end of everything, else 1 + what it is more than in the bound before;
//	                                                 n bytes: the first ones of an id, of which the last is not 0
//	varint                                           7 bits in a byte, the highest first; bit 7 of all but the last is set; no leading zeros
//
//	mode 0 skip         nothing
//	mode 1 fingerprint  16
//	mode 2 ids          n varint | n × 32            all that the sender has in the range
//	mode 3 agreed       16                           answers fingerprints of one or more ranges side by side: the responder's of all of them
//	mode 4 difference   ceil(n / 8) | m varint | m × 32   answers n ids: bit i, from the lowest of the first byte, is set if the responder lacks the
//	                                                 i-th; then what it has besides
//
// The initiator sends modes 0 to 2. What of its ranges the responder's frame does not
// cover it asks again: that is how the responder keeps to the limit of a frame.
//
// Negentropy has modes 0 to 2 alone and takes a hash of an unkeyed sum. Modes 3 and 4
// are ours: the proof that a side has what it agrees to, and half the bytes where the
// initiator sends ids.
package reconcile
