// Package noise is the cryptography that ASMTP shares with its reference
// implementation: the two kinds of keys, the random stream and the seeds derived
// from passwords, one-shot sealing with the Noise patterns X and N, and the
// connection of the pattern IK that is rekeyed after every frame.
//
// Start with [PrivateKey] for who somebody is (nodes, devices, authors of blocks)
// and with [SharedPrivate] for what mail is sealed with. [SealX] and [SealN] seal
// one message; [Client] and [Server] make a [Conn] of a net.Conn.
//
// The package keeps no state on disk, knows no clock, dials nothing and logs
// nothing. It does not protect an initiator's first message from being replayed:
// callers put a stamp into its payload and remember it.
//
// # Format and compatibility
//
// Bytes are those of the reference as FORMAT.md sections 1 and 2 give them and
// testdata/vectors.json proves them, with its safe choices of section 9:
// signatures are checked as RFC 8032 demands and a Diffie-Hellman result of zero
// is an error.
package noise
