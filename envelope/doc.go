// Package envelope is mail on its way: what travels between nodes, and what is
// sealed inside for the recipient's devices.
//
// A sender begins with [Split], which cuts a body into parts, and seals each with a
// [Sealer] into an [Envelope]. A node begins with [Parse]; it sees the time of
// expiry, the tag, the size class and nothing else. A recipient opens the envelopes
// that its node's tag keys matched with [Sealer.Open] and puts the parts of one mail
// together with a [Group].
//
// The package keeps nothing on disk, knows no clock and does no network traffic. It
// does not guard against an envelope that comes twice: whoever keeps mail remembers
// mail ids. It does not say who may send: that the sealed part is from the expected
// passport is checked, that this passport is a contact is the caller's business.
//
// # Format and compatibility
//
// Bytes are those of docs/formats.md. Encodings are canonical: for every b that
// [Parse], [ParsePart] or [ParseReceipts] accepts, encoding the result to the same
// size gives b again. What a newer program may have sent is refused with [ErrNewer],
// so that it can be kept sealed until this program is replaced.
package envelope
