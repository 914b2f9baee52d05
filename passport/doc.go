// Package passport implements the identity of an ASMTP user: a chain of signed
// blocks that says which keys speak for that user now.
//
// Every block after the first names its parent by hash and is signed by a master
// key active at that parent, so a passport can be verified from its bytes alone.
// Its [ID], the hash of the first block, never changes. Use [Parse] for an export
// from the network, [Passport.Append] for one block from it, [Create] and
// [Passport.Change] for one's own. A [Passport] never changes: what would change
// it gives another one.
//
// A passport holds no name and no proof that a key belongs to a person. Two valid
// blocks with one parent are a fork: Append refuses the second with a [ForkError]
// that holds both, since choosing is for a human. The package knows no clock and
// keeps nothing on disk; nobody checks that a block's time is true.
//
// # Format and compatibility
//
// A block is a 136-byte header and its entries, integers big-endian, as FORMAT.md
// section 4 of the reference gives them; an export is section 7. Encodings are
// canonical: for every b that [Parse] or [ParseBlock] accepts, encoding the result
// gives b again. Of the choices that FORMAT.md section 9 leaves open:
//
//   - signatures are checked as RFC 8032 demands;
//   - a block of a version other than 0 is refused, so that a later version can
//     mean something else by the same bytes;
//   - a first block that names a parent is read, and never written;
//   - a shared key for no recipient is read, and never written;
//   - truncated input and a first block without its author are errors;
//   - chains of many blocks work, up to the limits of limits.go.
package passport
