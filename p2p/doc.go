// Package p2p joins a node with the other nodes of its mesh: a libp2p host on the
// handshake of ASMTP, and the protocols by which nodes hand on statements,
// envelopes and passports.
//
// Start with [New], which builds a [Host], and [Host.Run]. [Host.MeshGate] is what
// internal/port asks before it answers a member; the listener that internal/port
// fills with members' connections goes into [Options]. [Host.Offer],
// [Host.PassportChanged] and [Host.StatementsChanged] tell the host what is new on
// this node.
//
// The package keeps nothing on disk and decides nothing about mail: what it needs
// of the spool and the store stands in its interfaces, and every envelope goes
// through [Spool.Put] before it is passed on. It is no way to find nodes outside
// the mesh, and it hides from nobody who watches links that two nodes talk.
//
// # Connections
//
// A connection is a noise.Conn of version 3, both sides certified, with yamux on it
// at once: no multistream for security or muxer, so a stranger gets no byte. Its
// first stream is /asmtp/mesh/1, by which both sides give each other the
// statements that they lack; only when that is done and both still count as
// members does libp2p learn of the connection. So nothing else can be asked of a
// node before.
//
// # Messages
//
// All protocols but gossip use messages of u32 length | kind u8 | body, integers
// big-endian. A length beyond the limit of its place is an error before anything
// is allocated. Everything is read under a deadline, except for the first byte of
// the next request on a stream that lies idle.
//
//	/asmtp/mesh/1, both sides at once
//	 1 hello       version n u8, n bytes of printable ASCII | n u32 | n × statement hash 16
//	 2 statements  n u16 | n × (length u16 | statement)
//	 3 addresses   n u16 | n × (node key 32 | n u8 | n × (length u8 | HOST:PORT))   ends what a side has to give
//	 4 done        empty: all of the other side's is kept
//
//	/asmtp/custody/1, the opener asks
//	 1 offer       n u16 | n × envelope id 32        "I store these"
//	 2 answer      n u16 | n × code u8               0 stored, 1 want, 2 refused, 3 later
//	 3 envelope    bytes                             those wanted, in order; then a second answer for them
//	 4 gone        envelope id 32                    instead of 3
//	 5 get         n u16 | n × envelope id 32        answered with 3 or 4 for each, in order
//	 6 challenge   n u16 | n × (nonce 16 | envelope id 32)
//	 7 proof       n u16 | n × (code u8 | hash 32)   0: H32(nonce | key of who proves | envelope); 1: not stored, hash zero
//
//	/asmtp/passport/1, the opener tells
//	 1 tips        n u16 | n × (passport id 16 | tip 16)
//	 2 wants       n u16 | n × (code u8 | tip 16 | length u32)   0 nothing, 1 all, 2 what follows tip
//	 3 block       bytes                             of those wanted, in order
//	 4 end         empty, after the blocks of each wanted
//	 5 ask         n u16 | n × H32(passport id | tip)   not answered: the other side tells of them as of any
//
//	/asmtp/reconcile/1, the opener finds out how two sets differ
//	 1 opening     version u8 = 1 | set u8 | from u32 | to u32 | clock u64   sets: 1 envelopes, 2 passports; clock: ms since 1970
//	 2 reply       code u8 | clock u64               0 go on, 1 busy, 2 version or set unknown
//	 3 frame       bytes                             of package reconcile; the opener's first follows its opening at once
//
//	gossip, one message
//	 0 | envelope                                    the three smaller size classes
//	 1 | expires u32 | tag 16 | seal hash 32         the largest: the sender has it, ask there
//
// # Spreading
//
// An envelope that came new to the spool is offered to every neighbour but the one
// it came from, whichever way it came. One of an own user's is also given to
// gossip. A node relays by gossip what it has stored, so every relay and every
// offer is true. Gossip is the fast path; custody is what makes it certain, and its
// answers are what "held" is made of.
//
// # Reconciliation
//
// Two nodes compare what they store when they connect, every few minutes with two
// neighbours, and when something was lost on the way: the envelopes whose end lies in
// the window that the opener names, in the order of end and id, and the passports, named
// by H32(id | tip), whose end is 0. The secret of a session is
// H32("asmtp/2 reconcile" | 0x00 | handshake hash 64 | body of the opening). The opener
// then offers what the other side lacks, fetches what it lacks itself, and counts the
// other side as holder of what that has shown to have: by a fingerprint under its own
// key or in a list, in this session.
//
// A session may cost 5 minutes, 32 MiB, 256 round trips and 16,384 ids found for each
// side; another one follows for the rest. Between two readings of a large index there is a
// rest of ten times as long. What a neighbour refused, for want of room
// above all, is not offered to it again for an hour.
//
// # Challenges
//
// At random times a node asks a neighbour for the proof that it stores some envelopes.
// Most are any that the node itself stores; up to two are of own users, each asked for
// once, and of those the neighbour must count as holder. Who fails does not count any more
// for them, and not by its word again: only by a proof. What a neighbour could not prove is
// offered to it, and doubted, also if it never counted for it: so it does not see for which
// it did. A proof is of one node, and of no use to another. Who asks us for the envelope
// meanwhile has failed, and so has who gives no answer three times in a row. Somebody who
// gets the envelope from a third node within the minute passes.
//
// # What has ended
//
// What a node keeps four hours after its end is the mail of its own users. To neighbours it
// is as if it were not there, whatever they ask.
package p2p
