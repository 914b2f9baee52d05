package clientapi

import "time"

// Protocol is the number of the protocol that this package speaks.
const Protocol = 1

// Limits of a connection.
const (
	// MaxSessions is how many connections one device may have.
	MaxSessions = 8

	maxStreams = 64        // calls under way on one connection
	maxMessage = 128 << 10 // bytes of a message, in both directions
	maxHeaders = 8 << 10   // bytes of the headers of a call

	// What a peer may send on one call and on all of a connection before it is read.
	streamWindow     = 256 << 10
	connectionWindow = 1 << 20
)

// Limits of the calls. They keep every message below maxMessage.
const (
	offerSize       = 256  // ids of one offer, hence envelopes of a batch
	tagKeyBatch     = 1024 // keys of one registration
	handleBatch     = 4096 // handles of one deregistration
	acknowledgeSize = 4096 // numbers of one acknowledgement
	watchBatch      = 1024 // ids of one message
	deliveryBatch   = 16   // deliveries read from the store at once, below 1 MiB
	largeBatch      = 4    // those of the largest size class, before it is looked for smaller ones again
	passportBatch   = 64   // changes read from the store at once

	maxWatched = 1 << 16 // ids of one WatchCustody
	maxSubmits = 4       // Submit calls of one device at one time

	// putBytes is how much of a batch is gathered for one call of the backend, which
	// costs an fsync.
	putBytes = 1 << 20
)

// Times.
const (
	// A device that has moved or sleeps is noticed within serverPing and pingTimeout; a
	// client notices a dead node while it waits for something.
	serverPing  = 2 * time.Minute
	clientPing  = 30 * time.Second
	pingTimeout = 20 * time.Second
	// minPing is the shortest time between pings that a node takes.
	minPing = 20 * time.Second
	// revokedGrace is how long a revoked device's connection stays open, so that its
	// calls can end with the reason.
	revokedGrace = 2 * time.Second
	// custodyPause is the shortest time between two looks at the counts of one
	// WatchCustody; while mail pours in, they change all the time.
	custodyPause = 100 * time.Millisecond
)

// maxEarly is how many envelopes of a mailbox may have been sent before they were stored.
const maxEarly = 256
