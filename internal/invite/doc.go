// Package invite is the one exchange on a connection of version 4: who holds the
// token of an invitation line asks to be let in, and the node that made the line
// answers. [Ask] is the guest's half, [Answer] the host's.
//
// The connection is authenticated by the handshake before, in which both sides prove
// the token and their keys, so the request names nobody. The package does not count
// how often a token is used. The host uses the token up durably before it answers;
// if the answer is lost, a guest that asks again with the same key should get the
// same answer.
//
// # Format
//
// Integers are big-endian. The reply is the length of the rest as u32, then the rest;
// one encoding per content, so that for every b which [ParseReply] accepts, encoding
// the result gives b again.
//
//	request = kind u8: 1 join the mesh, 2 be admitted as a user
//	reply   = length u32 | code u8 | body
//	code    = 0 let in; 1 used up, 2 ended, 3 not allowed, 4 try again later: no body
//	body    = of kind 1: mesh secret 32 | n u16 | certificate | statements | peers; of kind 2: nothing
//	statements = n u32 × (length u16 | statement)
//	peers      = n u16 × (key 32 | n u8 × (length u8 | host:port))
package invite
