// Package mesh is the membership of a mesh of nodes: signed statements, what
// follows from their union, the secret that members share, and the lines of text
// by which people invite each other.
//
// [Found] makes a mesh. [ParseStatement] reads one statement from the network or
// from disk and checks its signature; [Set] holds the union of one mesh's
// statements and answers who is a member now ([Set.CheckCertificate],
// [Set.Members]) and what a peer lacks ([Set.Missing]). [ParseLine] reads what a
// user pasted.
//
// The package knows no clock, no network and no disk. It does not count how often
// an invitation was used (the node that gave it out does, durably), and it does
// not keep the mesh secret, which no statement and no line contains.
//
// # Statements
//
// Integers are big-endian, times are seconds since 2020-01-01 UTC.
//
//	statement  = version u8 = 1 | kind u8 | mesh id 16 | issuer 32 | made u32 | payload | signature 64
//	signature  = Ed25519 of the issuer over "asmtp/2 statement" 0x00 | all before the signature
//	hash       = H16(statement); the mesh id is the hash of the founding statement
//
//	1 founding   payload empty; the mesh id is zero, the issuer is the founding key
//	2 charter    number u32 | retention s u32 | mail limit u64 | daily bytes u64 | flags u8 (bit 0: every member may invite)
//	3 certify    node key 32 | not before u32 | not after u32, 90 days at most
//	4 invitation H32(token) 32 | uses u32 | end u32
//	5 admit-admin, 6 remove-admin, 7 revoke: reserved
//
// A statement has 498 bytes at most, so that each fits into a handshake payload of
// 512 beside the stamp and the length. An encoding is canonical: for every b that
// ParseStatement accepts, [Statement.Bytes] is b.
//
// A kind or version that this program does not know is refused with [ErrNewer]: a
// statement that is kept but not obeyed could be a revocation that a node passes
// on and still ignores, while its operator believes that it is in force. What was
// refused is not passed on either; a newer node gets it from another newer one.
//
// # What counts
//
// Only statements of the founding key count in this version. The result depends
// on the set alone, never on the order in which it was put together: the charter
// with the highest number is in force, of two with one number that with the
// smaller hash; a certificate counts from not before to not after, with two hours
// for clocks that differ.
//
// # Lines
//
//	line     = "asmtp-" kind "1" base32(head | body | check), RFC 4648's alphabet in lower case, no padding
//	head     = length u16 of body and check | first 3 bytes of H16("asmtp/2 line head" | kind | length)
//	body     = version u8 = 1 | mesh id 16 | node key 32 | token 32 | end u32 | n u8 | n × (length u8 | host:port)
//	check    = first 5 bytes of H16("asmtp/2 line" | kind | head | body)
//
// The head makes a cut line look different from a mistyped one. Case and white
// space mean nothing, so a line survives being wrapped by a mail program; in upper
// case it is in the alphanumeric set of QR codes, which makes the picture smaller.
package mesh
