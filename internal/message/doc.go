// Package message makes and reads RFC 5322 messages: what stands in the body of a
// mail of ASMTP once it is opened.
//
// [Compose] makes a message of a text and files, [Rewrite] takes a finished one from
// a mail program and changes only its header, [Parse] reads any message for showing,
// [SaveAttachments] writes its files, [Notice] is the RFC 3464 report of what became of
// a mail.
//
// A header is never written anew: [Rewrite] changes it for the way, [Arrived] and [Sent]
// make of it what mail programs are shown, and all three keep every byte of what they
// do not name, in its order. docs/mail.md says which fields those are, and why.
//
// Everything that is read was written by a stranger. Nothing here panics on it, sizes
// and depths are bounded by the constants in limits.go, and what is shown or used as a
// file name is cleaned first, see [Clean] and [SafeName]. The package does no network
// traffic and knows no contacts; callers say how addresses are to be written.
package message
