package clientapi

import (
	"context"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// Backend is the node behind the server. Its methods are called from many goroutines.
// They return soon, or when ctx is done.
//
// An error that wraps one of this package's sentinels reaches the client with its
// text; of any other the client learns nothing but that the node failed, and the log
// has the text. A [passport.ForkError] counts as [ErrFork].
//
// The methods named Wait return a channel that is closed at the next event after the
// call, and that the caller may forget: call it, look, and then wait. A node may give
// one channel to all callers.
type Backend interface {
	// Admitted reports whether a device may use the node now: it is listed itself, or
	// active in a listed passport, and not revoked.
	Admitted(device noise.PublicKey) bool
	// User returns the passport in which a device is active now.
	User(device noise.PublicKey) (passport.ID, bool)
	// WaitUsers is for changes of what Admitted and User return.
	WaitUsers() <-chan struct{}

	// Status fills in what it knows; user is zero if there is none.
	Status(ctx context.Context, user passport.ID) (Status, error)

	// RegisterTagKeys and DeregisterTagKeys return once the change is durable and,
	// for new keys, all stored envelopes were matched. Keys that are there are no error.
	RegisterTagKeys(ctx context.Context, user passport.ID, keys []envelope.TagKey) error
	DeregisterTagKeys(ctx context.Context, user passport.ID, handles []envelope.Handle) error

	// Generation returns that of the numbers of mailboxes and passport changes.
	Generation() uint64
	// Deliveries returns those of a user's mailbox with a number greater than after, in
	// order, at most limit.
	Deliveries(user passport.ID, after uint64, limit int) ([]envelope.Delivery, error)
	// DeliveriesOf is Deliveries for those of the largest size class only, or those of
	// the others. It also returns up to which number there are no more of that kind.
	DeliveriesOf(user passport.ID, large bool, after uint64, limit int) (list []envelope.Delivery, upTo uint64, err error)
	// Wait is for new deliveries of a user.
	Wait(user passport.ID) <-chan struct{}
	// Expect returns a channel on which come, until stop is called, envelopes of the user that
	// will be deliveries once they are durable. The node does not wait for who is not receiving.
	Expect(user passport.ID) (early <-chan envelope.Early, stop func())
	// Acknowledge notes that a device has taken in these numbers; unknown ones are no error.
	Acknowledge(ctx context.Context, user passport.ID, device noise.PublicKey, numbers []uint64) error

	// Missing returns those of ids that are not stored.
	Missing(ids []envelope.ID) ([]envelope.ID, error)
	// Submit takes in envelopes of an own user and returns once those not refused are
	// durable. It may keep the envelopes.
	Submit(ctx context.Context, user passport.ID, device noise.PublicKey, envelopes []*envelope.Envelope) ([]Refusal, error)
	// Custody returns how many other members confirmed that they store an envelope.
	Custody(id envelope.ID) (int, error)
	// WaitCustody is for changes of what Custody returns for any id.
	WaitCustody() <-chan struct{}

	// PutPassport takes in a chain that a device sent and returns once it is durable. A
	// chain that the node knows or whose continuation it knows is no error.
	PutPassport(ctx context.Context, device noise.PublicKey, p *passport.Passport) error
	// Passport returns the newest chain of a passport.
	Passport(id passport.ID) (*passport.Passport, error)
	// PassportsChanged calls fn for the passports whose last change has a number
	// greater than after, in order, until fn returns false.
	PassportsChanged(after uint64, fn func(number uint64, id passport.ID) bool) error
	// WaitPassports is for new changes.
	WaitPassports() <-chan struct{}
}

// Status is what a node tells its users of itself.
type Status struct {
	Node       noise.PublicKey
	Version    string      // of the program
	Protocol   uint32      // set by the server
	Time       time.Time   // the node's clock
	Generation uint64      // set by the server
	LastNumber uint64      // of the user's mailbox
	Passport   passport.ID // set by the server; zero while the node knows none of the caller
	Mesh       mesh.ID
	MailLimit  uint64        // bytes of one mail
	Retention  time.Duration // how long an envelope is kept at most
	Members    int           // of the mesh, this node included
	Peers      int           // connected now
	Envelopes  int64         // stored
	Bytes      int64         // stored
	TagKeys    int           // registered for the user
	Addresses  []string      // HOST:PORT at which others reach the node
}

// Refusal says that a node did not take one envelope. The others of its batch are
// not affected.
type Refusal struct {
	ID     envelope.ID
	Reason Reason
	Text   string // for people
}

// Err returns the refusal as an error, which is [ErrNodeFull] if that is the reason.
func (r Refusal) Err() error { return &RefusedError{r} }

// Reason is why an envelope was refused.
type Reason uint8

// The reasons. A node newer than the client may have others.
const (
	ReasonOther   Reason = 0
	ReasonFull    Reason = 1 // the node has no room: try later
	ReasonEnded   Reason = 2 // its end has passed: seal it anew
	ReasonTooFar  Reason = 3 // its end is further away than the mesh keeps mail: seal it anew
	ReasonInvalid Reason = 4 // no envelope that this node knows
)

var reasonNames = [...]string{"refused", "no room", "its end has passed", "its end is too far away", "not an envelope the node knows"}

// String returns words for the reason.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return reasonNames[0]
}
