package account

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/message"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// Options are what [Create] and [Open] take besides the directory. The zero value works.
type Options struct {
	// Passphrase opens the key file. Empty with [Create] needs NoPassphrase.
	Passphrase string
	// NoPassphrase lets Create leave the key file in clear (mode 0600).
	NoPassphrase bool
	// Node, if its address is set, is used by this process in place of those that
	// Connect keeps.
	Node Node
	// ReceiptDelay is the longest random wait before receipts are sent; 0 means the
	// default of two seconds, below 0 means none.
	ReceiptDelay time.Duration
	// ReadReceipts tells senders when their mail was read. It is off unless set.
	ReadReceipts bool
	Log          *slog.Logger     // nil: nothing is logged
	Now          func() time.Time // nil: time.Now
}

// Node is where a user's node listens and the key it must hold.
type Node struct {
	Address string // HOST:PORT
	Key     noise.PublicKey
}

// isLocal reports whether the node runs on this machine.
func (n Node) isLocal() bool {
	host, _, err := net.SplitHostPort(n.Address)
	return err == nil && port.IsLoopback(host)
}

// NodeInfo is what the account knows of one of its nodes.
type NodeInfo struct {
	Node     Node
	Primary  bool      // mail goes out through it while it answers
	LastSync time.Time // when mail was last taken in there; zero if never
	Problem  string    // why it could not be used the last time; empty if it could
}

// NodeStatus is what a node says about itself.
type NodeStatus struct {
	Node      Node
	Err       error         // why it could not be used; what is unknown is then zero
	Took      time.Duration // until it answered
	Off       time.Duration // by how much its clock is before ours
	Version   string
	Mesh      mesh.ID
	Members   int           // of the mesh, the node included
	Peers     int           // members it is connected with now
	Clock     time.Time     // the node's
	Retention time.Duration // how long the mesh keeps mail
	MailLimit int64         // the largest mail it takes
}

// Contact is somebody to write to.
type Contact struct {
	Name     string
	Passport passport.ID
	Verified bool   // the user compared the passport by another way
	Waiting  bool   // the passport itself is not known yet; mail for it waits
	Problem  string // why no mail can be exchanged, if so; empty otherwise
	Added    time.Time
}

// Draft is a mail to be sent.
type Draft struct {
	// To, Cc and Bcc are contacts: NAME, NAME@asmtp, a passport id or ID@asmtp, each
	// alone or as in `Somebody <NAME@asmtp>`. Bcc stands in no header.
	To, Cc, Bcc []string
	Subject     string
	Text        string
	Attachments []Attachment
	// Reply, if not zero, is the mail that this one answers: it sets In-Reply-To and
	// References.
	Reply MailID
	// Raw, if not nil, is a whole RFC 5322 message that is sent in place of Subject,
	// Text and Attachments. Its addresses are rewritten, Bcc is taken out, From is
	// set to the sender, missing Date and Message-ID are added; the rest stays as it is.
	// Recipients are To, Cc and Bcc above or, if there are none, those of its header.
	Raw io.Reader
	// Recipients, if there are any, are all that the mail goes to, as the envelope of SMTP
	// says, whatever stands in To, Cc, Bcc and the header.
	Recipients []Recipient
	// Notify is of what the user is told in the inbox, for recipients that do not say it
	// themselves. Failures and delays are told in any case but that of NotifyNever.
	Notify message.Notify
	// EnvID is given back in such notices (RFC 3461).
	EnvID string
	// Lifetime is how long delivery is tried, from MinLifetime to MaxLifetime; 0 means
	// 14 days.
	Lifetime time.Duration
}

// Recipient is a recipient of an SMTP envelope.
type Recipient struct {
	Address string         // as in Draft.To
	Notify  message.Notify // 0: that of the draft
	ORCPT   string         // the original recipient (RFC 3461), TYPE;ADDRESS, given back in notices
}

// Attachment is a file of a draft.
type Attachment struct {
	Name string // as the recipient sees it; directories are cut off
	Type string // media type; empty means by the ending of Name
	Open func() (io.ReadCloser, error)
}

// Change is one step of a mail's way.
type Change struct {
	State State
	Held  int
	Time  time.Time
	Note  string
}

// Outgoing is a sent mail on its way to one recipient.
type Outgoing struct {
	ID       MailID
	To       string // petname, or ID@asmtp of somebody who is no contact any more
	Passport passport.ID
	Subject  string
	Size     int64
	State    State
	Held     int       // members of the mesh that confirmed they store all of it
	Since    time.Time // of the present state
	Reason   string    // why it is not further, if known
	Created  time.Time
	Next     time.Time // when it is tried again; zero if it is not
	// History, oldest first, and Envelopes, the parts as sealed last, are filled by Status
	// and Wait only.
	History   []Change
	Envelopes []envelope.ID
}

// Summary is a line of the inbox.
type Summary struct {
	ID          MailID
	From        string // petname, or ID@asmtp
	Sender      passport.ID
	Certain     bool // false: sealed with a key that a removed device knows too
	Subject     string
	Date        time.Time // from the header; the time of arrival if it names none
	Received    time.Time
	Size        int64
	Read        bool
	Attachments int

	n int64 // its row
}

// Mail is an opened mail.
type Mail struct {
	Summary
	To, Cc      []string
	Text        string // clean for a terminal
	Attachments []AttachmentInfo
	MessageID   string
}

// AttachmentInfo describes an attachment of a mail.
type AttachmentInfo struct {
	Name string // safe as a file name
	Type string
	Size int64
}

// InboxOptions choose what [Account.Inbox] lists, newest first.
type InboxOptions struct {
	Unread bool   // only what was not read yet
	Search string // words that must all occur in subject, sender or text
	Limit  int    // 0: all
}

// SyncOptions are what [Account.Sync] does besides one exchange.
type SyncOptions struct {
	// Follow keeps the connection and goes on until the context ends, connecting again
	// when it breaks.
	Follow bool
	// OnMail is called once for each new mail, after it is on disk, from one goroutine.
	OnMail func(Summary)
	// OnProgress is told what happens, for people, from any goroutine.
	OnProgress func(Progress)
}

// Progress is a step of a [Account.Sync].
type Progress struct {
	Step string // "connecting", "connected", "sending", "receiving", "caught up", "disconnected"
	Done int64  // bytes, of sending and receiving
	All  int64  // bytes; 0 if not known
	Err  error  // of "disconnected": why
	Node Node   // which one
}

// SyncResult is what one [Account.Sync] did.
type SyncResult struct {
	Received int // new mails
	Sent     int // mails the node accepted now
	Pending  int // mails still queued after it
	// Nodes are those that were tried, in the order of connecting; empty with Follow.
	Nodes []NodeStatus
}

// Overview is what the account knows without asking anybody.
type Overview struct {
	Name     string
	Passport passport.ID
	Key      noise.PublicKey // of this device
	Node     Node            // the primary one; zero if none is known
	Nodes    []NodeInfo      // in the order of connecting
	LastSync time.Time       // with any of them; zero if never
	Unread   int
	Queued   int // not accepted by the node yet
	OnTheWay int // accepted and not delivered
	Newer    int // parts that need a newer program
	// Forked are the names of those of whom a second chain was seen, that of the user
	// first. Somebody used a master key on two devices, or stole it.
	Forked []string
}

var (
	// ErrExists is the error of Create where an account is already.
	ErrExists = errors.New("there is an account already")
	// ErrNoAccount is the error of Open where there is no account.
	ErrNoAccount = errors.New("no account here")
	// ErrPassphrase is the error for a passphrase that does not open the key file.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrNeedPassphrase is the error of Open without the passphrase it needs.
	ErrNeedPassphrase = errors.New("the account has a passphrase")
	// ErrNewerAccount is wrapped by the error for an account that a newer program wrote.
	ErrNewerAccount = errors.New("the account was written by a newer program")
	// ErrNoNode is the error of what needs a node before one is named.
	ErrNoNode = errors.New("no node is known")
	// ErrLifetime is wrapped by the error of Send for a lifetime out of bounds.
	ErrLifetime = errors.New("a lifetime is from 1 hour to 60 days")
	// ErrNotFound is wrapped by the errors for a mail or contact that is not there.
	ErrNotFound = errors.New("not found")
	// ErrTooLate is wrapped by the error of Cancel for a mail that may be on the node.
	ErrTooLate = errors.New("too late to cancel")
	// ErrNoRecipient is the error of Send for a draft to nobody.
	ErrNoRecipient = errors.New("no recipient")
	// ErrTampered is wrapped by the errors for a database that was changed from outside.
	ErrTampered = errors.New("the database was changed from outside")
)

// NoContactError is the error for mail to, or a question about, somebody who is no contact.
type NoContactError struct {
	Name string      // as the user wrote it
	ID   passport.ID // if Name holds one
}

func (e *NoContactError) Error() string { return fmt.Sprintf("no contact %q", e.Name) }

// ContactError is the error for a contact that cannot be added.
type ContactError struct {
	Name   string
	Other  string // the contact in the way, if one is
	Reason string
}

func (e *ContactError) Error() string { return fmt.Sprintf("contact %q: %s", e.Name, e.Reason) }

// NameError is the error of Create for a name that cannot be one's own.
type NameError struct{ Name, Reason string }

func (e *NameError) Error() string { return fmt.Sprintf("name %q: %s", e.Name, e.Reason) }

// AmbiguousError is the error for the beginning of an id that fits several mails.
type AmbiguousError struct {
	Prefix string
	IDs    []MailID
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%d mails have an id that begins with %s", len(e.IDs), e.Prefix)
}

// SizeError is the error of Send for a mail that is too large.
type SizeError struct{ Size, Limit int64 }

func (e *SizeError) Error() string {
	return fmt.Sprintf("the mail has %d bytes, the limit is %d", e.Size, e.Limit)
}

// WaitError is the error of Wait when its context ended first.
type WaitError struct {
	Want  State
	Mails []Outgoing // as they are now
	Err   error      // why the node could not be reached, if that was it; else the context's error
}

func (e *WaitError) Error() string {
	return fmt.Sprintf("waited in vain for %q: %v", e.Want, e.Err)
}

func (e *WaitError) Unwrap() error { return e.Err }
