// Package topic names conversations and makes the tags by which a node finds its
// users' mail.
//
// Start with [Derive]: both sides of a pair of passports compute the same [Topic].
// [NewPairSecret] makes of it what only these two can compute, one value for each
// direction; [PairSecret.TagKey] is its share for one fortnight, which a client
// gives to its node; [TagKey.Tag] is what stands on one envelope. A node tries all
// the tag keys it holds on an envelope with a [Matcher].
//
// The package keeps nothing: deriving a topic is slow on purpose, so callers derive
// each once, in parallel where there are many, and keep it. It knows no clock and
// does no network traffic.
//
// # What it protects and what not
//
// A topic is made of two public keys. Whoever holds a list of passports can try all
// pairs of it, and a topic never changes, so it never travels. A tag needs the pair
// secret: without the tag key nobody can make one or see for whom one is, two tags
// of a pair cannot be linked, and a tag fits one sealed part only. The node that
// holds a tag key can do all of that for its fortnight and direction; it learns
// that envelopes come from one contact, not from whom.
//
// # Format and compatibility
//
// Topics are those of the reference (FORMAT.md section 3, proven by
// testdata/vectors.json). Pair secrets, tag keys and tags are those of
// docs/formats.md; a later kind of sealing gets another number in place of [Suite].
package topic
