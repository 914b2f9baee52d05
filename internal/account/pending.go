package account

import (
	"context"
	"errors"
	"io"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

var errPending = errors.New("pending")

// Account is an open account. It is safe for use by several goroutines.
type Account struct{}

// Exists reports whether dir holds an account.
func Exists(dir string) bool { return false }

// NeedsPassphrase reports whether the account in dir is opened with a passphrase.
func NeedsPassphrase(dir string) (bool, error) { return false, errPending }

// Create makes an account in dir, which may exist and be empty: a master key for this
// device, a passport, and the files for both. name is how others see the user.
func Create(ctx context.Context, dir, name string, o Options) (*Account, error) {
	return nil, errPending
}

// Open opens the account in dir.
func Open(ctx context.Context, dir string, o Options) (*Account, error) { return nil, errPending }

// Close closes the account. It waits for calls that run.
func (a *Account) Close() error { return errPending }

// Name returns the user's own name.
func (a *Account) Name() string { return "" }

// ID returns the id of the user's passport.
func (a *Account) ID() passport.ID { return passport.ID{} }

// Key returns the public key of this device.
func (a *Account) Key() noise.PublicKey { return noise.PublicKey{} }

// Overview returns what the account knows by itself; it asks nobody.
func (a *Account) Overview(ctx context.Context) (Overview, error) { return Overview{}, errPending }

// Connect tries the node, publishes the passport and the tag keys there, and keeps it
// as the account's node.
func (a *Account) Connect(ctx context.Context, n Node) (NodeStatus, error) {
	return NodeStatus{}, errPending
}

// NodeStatus asks the node how it is.
func (a *Account) NodeStatus(ctx context.Context) (NodeStatus, error) {
	return NodeStatus{}, errPending
}

// AddContact makes id a contact under name. Its passport may be unknown: mail for it
// then waits until the passport comes from the node.
func (a *Account) AddContact(ctx context.Context, name string, id passport.ID) (Contact, error) {
	return Contact{}, errPending
}

// AddContactExport makes the owner of an exported passport a contact under name.
func (a *Account) AddContactExport(ctx context.Context, name string, export []byte) (Contact, error) {
	return Contact{}, errPending
}

// Contacts returns all contacts by name.
func (a *Account) Contacts(ctx context.Context) ([]Contact, error) { return nil, errPending }

// Contact returns the contact of a name, NAME@asmtp, id or ID@asmtp; else a [NoContactError].
func (a *Account) Contact(ctx context.Context, who string) (Contact, error) {
	return Contact{}, errPending
}

// RemoveContact removes a contact: mail from it is not taken any more. Mail that was exchanged stays.
func (a *Account) RemoveContact(ctx context.Context, who string) error { return errPending }

// SetVerified keeps whether the user compared the contact's passport by another way.
func (a *Account) SetVerified(ctx context.Context, who string, verified bool) error {
	return errPending
}

// Import takes an exported passport: a contact's newer chain, or the user's own. It returns whose it is.
func (a *Account) Import(ctx context.Context, export []byte) (passport.ID, error) {
	return passport.ID{}, errPending
}

// Send puts a mail into the outbox. When it returns, the mail is on disk for every
// recipient, in the order To, Cc, Bcc. Nothing is sent yet: that is [Account.Sync].
func (a *Account) Send(ctx context.Context, d Draft) ([]Outgoing, error) { return nil, errPending }

// Sync sends what is due and takes in what came. With Follow it returns only when ctx
// ends, with its error.
func (a *Account) Sync(ctx context.Context, o SyncOptions) (SyncResult, error) {
	return SyncResult{}, errPending
}

// Wait syncs until every recipient of the mail is in state want or beyond, and returns
// them. It ends early, without error, when a recipient can no longer get there (refused,
// cancelled, unconfirmed); see [State.Reached]. When ctx ends first the error is a [WaitError].
func (a *Account) Wait(ctx context.Context, id MailID, want State, o SyncOptions) ([]Outgoing, error) {
	return nil, errPending
}

// Inbox lists received mail, newest first.
func (a *Account) Inbox(ctx context.Context, o InboxOptions) ([]Summary, error) {
	return nil, errPending
}

// Sent lists sent mail, newest first; From is the user and Read is true.
func (a *Account) Sent(ctx context.Context, o InboxOptions) ([]Summary, error) {
	return nil, errPending
}

// Find returns the id of the mail whose id begins with prefix, at least 4 hex digits:
// received mail and sent mail. Errors: [ErrNotFound], [AmbiguousError].
func (a *Account) Find(ctx context.Context, prefix string) (MailID, error) {
	return MailID{}, errPending
}

// Mail opens a received or sent mail. It does not mark it as read.
func (a *Account) Mail(ctx context.Context, id MailID) (*Mail, error) { return nil, errPending }

// Raw writes the RFC 5322 message of a mail to w, byte for byte as it was sent.
func (a *Account) Raw(ctx context.Context, id MailID, w io.Writer) error { return errPending }

// SaveAttachments writes the attachments of a mail into dir, which is made if it is
// missing, under names that are safe and not taken yet. It returns the paths.
func (a *Account) SaveAttachments(ctx context.Context, id MailID, dir string) ([]string, error) {
	return nil, errPending
}

// MarkRead sets whether a mail was read.
func (a *Account) MarkRead(ctx context.Context, id MailID, read bool) error { return errPending }

// Delete removes a mail from this device. A sent mail that is still on its way goes on.
func (a *Account) Delete(ctx context.Context, id MailID) error { return errPending }

// Reply returns a draft that answers a mail: to its sender, with the subject and the references set.
func (a *Account) Reply(ctx context.Context, id MailID) (Draft, error) { return Draft{}, errPending }

// Queue lists mail that is on its way, oldest first: all that is not delivered, refused, cancelled or unconfirmed.
func (a *Account) Queue(ctx context.Context) ([]Outgoing, error) { return nil, errPending }

// Status returns a sent mail, one entry per recipient, with history.
func (a *Account) Status(ctx context.Context, id MailID) ([]Outgoing, error) { return nil, errPending }

// Retry makes a mail due now.
func (a *Account) Retry(ctx context.Context, id MailID) error { return errPending }

// Cancel stops a mail that the node does not have yet. The error for recipients it may be on its way to wraps [ErrTooLate].
func (a *Account) Cancel(ctx context.Context, id MailID) error { return errPending }
