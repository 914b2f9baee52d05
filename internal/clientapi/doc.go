// Package clientapi is what a client and its own node say to each other: gRPC over a
// connection that package port has authenticated. It holds both halves.
//
// The node makes a [Server] over a [Backend] and gives it the port's listener. A
// client gets a [Client] from [Dial] and, when the connection breaks, dials again:
// nothing here retries, so that a command can say why it failed. [Redeem] uses a user
// line, which makes a node admit this device.
//
// # What the node promises
//
// What a call reports as done is on the node's disk. Every call is authorised against
// the newest chains and lists: when a device is revoked or its user is removed, its
// calls fail with [ErrNotAllowed], those under way too, and its connection is closed.
// A device has at most [MaxSessions] connections; one more closes the oldest, which
// most likely is one whose end the node has not noticed yet.
//
// # What bounds it
//
// The limits of limits.go. Messages are small and flow control is gRPC's: neither
// half keeps more than one batch of a stream in memory, whatever the size of the mail.
//
// # Compatibility
//
// The protocol is nodepb's node.proto with a number in Status. Within one number,
// fields and calls are only added.
package clientapi
