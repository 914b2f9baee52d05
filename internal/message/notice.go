package message

import (
	"fmt"
	"io"
	"strings"
	"time"

	gomessage "github.com/emersion/go-message"
	"github.com/emersion/go-message/mail"
	"github.com/emersion/go-message/textproto"
)

// Notify says of what the sender of a mail wants a notice (RFC 3461, section 4.1). The bits
// are stored. 0 means that nothing was said.
type Notify uint8

// What there are notices of.
const (
	NotifySuccess Notify = 1 << iota
	NotifyFailure
	NotifyDelay
	NotifyNever // of nothing at all
)

// Failure is what a [Notice] reports. The words for Action are those of RFC 3464,
// section 2.3.3: "failed", "delayed", "delivered".
type Failure struct {
	To        Address // the sender of the mail, who reads the notice
	Recipient Address
	Action    string
	Status    string // enhanced status code (RFC 3463), such as "5.7.0"
	Reason    string
	// Uncertain says of a failure that the mail may have arrived all the same.
	Uncertain  bool
	RetryUntil time.Time // of a delay: until when delivery is tried; zero: not said
	Subject    string    // of the mail
	OrigID     string    // its Message-ID, without brackets
	Sent       time.Time // when it was sent
	EnvID      string    // what the sender called the mail (RFC 3461), if anything
	ORCPT      string    // what the sender called the recipient, TYPE;ADDRESS
	Date       time.Time // of the notice
	MessageID  string    // of the notice, without brackets
}

// Notice writes the delivery status notification (RFC 3464) of one recipient.
func Notice(w io.Writer, f Failure) error {
	var h mail.Header
	h.Set("Mime-Version", "1.0")
	if refs := validIDs([]string{f.OrigID}); len(refs) > 0 {
		h.SetMsgIDList("References", refs)
		h.SetMsgIDList("In-Reply-To", refs)
	}
	h.Set("Auto-Submitted", "auto-replied")
	h.SetMessageID(f.MessageID)
	h.SetDate(f.Date)
	h.SetSubject(f.title() + oneLine(f.Subject))
	h.Set("To", formatAddresses([]Address{f.To}))
	h.Set("From", formatAddresses([]Address{{Name: "Mail delivery", Addr: "postmaster@asmtp"}}))
	h.SetContentType("multipart/report", map[string]string{"report-type": "delivery-status"})
	e, err := gomessage.CreateWriter(w, h.Header)
	if err != nil {
		return fmt.Errorf("notice: %w", err)
	}
	text, status := f.text(), f.status()
	headers, err := f.headers()
	if err != nil {
		return fmt.Errorf("notice: %w", err)
	}
	for _, p := range []struct{ kind, body string }{
		{"text/plain", text}, {"message/delivery-status", status}, {"text/rfc822-headers", headers},
	} {
		var ph gomessage.Header
		if p.kind == "text/plain" {
			setText(&ph, p.body)
		} else {
			ph.SetContentType(p.kind, nil)
		}
		pw, err := e.CreatePart(ph)
		if err != nil {
			return fmt.Errorf("notice: %w", err)
		}
		if err := writeText(pw, p.body); err != nil {
			return fmt.Errorf("notice: %w", err)
		}
	}
	return e.Close()
}

func (f *Failure) title() string {
	switch {
	case f.Action == "delayed":
		return "Not delivered yet: "
	case f.Action == "delivered":
		return "Delivered: "
	case f.Uncertain:
		return "Not confirmed: "
	}
	return "Not delivered: "
}

// text is what people read.
func (f *Failure) text() string {
	const minutes = "2006-01-02 15:04 UTC"
	who := oneLine(f.Recipient.Name)
	if who == "" {
		who = oneLine(f.Recipient.Addr)
	}
	what, after := "could not be delivered to "+who, ""
	switch {
	case f.Action == "delivered":
		what = "was delivered to " + who
	case f.Action == "delayed":
		what, after = "was not delivered to "+who+" yet", "\nIt is tried on"
		if !f.RetryUntil.IsZero() {
			after += " until " + f.RetryUntil.UTC().Format(minutes)
		}
		after += "; there is nothing to do.\n"
	case f.Uncertain:
		what = "was not confirmed by " + who
		after = "\nIt is not tried on. Ask " + who + " whether it came before you send it again.\n"
	}
	return fmt.Sprintf("Your mail %q of %s\n%s:\n\n    %s\n%s", oneLine(f.Subject), f.Sent.UTC().Format(minutes), what, oneLine(f.Reason), after)
}

// status is what programs read: the fields of RFC 3464, sections 2.2 and 2.3.
func (f *Failure) status() string {
	var s string
	if f.EnvID != "" {
		s = fmt.Sprintf("Original-Envelope-Id: %s\r\n", asciiLine(f.EnvID))
	}
	s += fmt.Sprintf("Reporting-MTA: dns; asmtp\r\nArrival-Date: %s\r\n\r\n", f.Sent.UTC().Format(time.RFC1123Z))
	if f.ORCPT != "" {
		s += fmt.Sprintf("Original-Recipient: %s\r\n", asciiLine(f.ORCPT))
	}
	s += fmt.Sprintf("Final-Recipient: rfc822; %s\r\nAction: %s\r\nStatus: %s\r\nDiagnostic-Code: x-asmtp; %s\r\n",
		oneLine(f.Recipient.Addr), oneLine(f.Action), oneLine(f.Status), asciiLine(f.Reason))
	if f.Action == "delayed" && !f.RetryUntil.IsZero() {
		s += fmt.Sprintf("Will-Retry-Until: %s\r\n", f.RetryUntil.UTC().Format(time.RFC1123Z))
	}
	return s
}

// headers are those of the mail itself by which a person or a program knows it again.
func (f *Failure) headers() (string, error) {
	var h mail.Header
	if ids := validIDs([]string{f.OrigID}); len(ids) > 0 {
		h.SetMessageID(ids[0])
	}
	h.SetSubject(oneLine(f.Subject))
	var b strings.Builder
	err := textproto.WriteHeader(&b, h.Header.Header)
	return strings.TrimSuffix(b.String(), "\r\n"), err
}

// asciiLine is oneLine with a question mark for what is not ASCII.
func asciiLine(s string) string {
	b := []rune(shorten(oneLine(s), 900))
	for i, r := range b {
		if r > 0x7e {
			b[i] = '?'
		}
	}
	return string(b)
}
