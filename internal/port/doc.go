// Package port owns the one TCP port of a node, and dials those of others.
//
// Every connection begins with a version byte and a Noise IK first message of fixed
// length. [New] takes a listener and a [Gate] for each [Version] that the node serves;
// [Port.Run] reads first messages, lets the gate decide and hands connections that
// were authenticated to the listener of their version, [Port.Listener]. [Dial] is the
// other side.
//
// Whoever fails, in whatever way, gets not one byte of answer: the connection is read
// and discarded until a deadline drawn for it alone, then reset, so that a prober
// cannot tell garbage from a refusal, or a node from a silent port. Why a connection
// failed stands in the log only. Connections that are not authenticated are bounded in
// number, in all and per source; above that a random one is reset.
//
// The package keeps nothing: stamps go to a [StampStore]. It knows nothing of what is
// spoken inside a connection.
package port
