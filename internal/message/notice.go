package message

import (
	"fmt"
	"io"
	"time"

	gomessage "github.com/emersion/go-message"
	"github.com/emersion/go-message/mail"
)

// Failure is what a [Notice] reports. The words for Action are those of RFC 3464,
// section 2.3.3: "failed", "delayed".
type Failure struct {
	To        Address // the sender of the mail, who reads the notice
	Recipient Address
	Action    string
	Status    string // enhanced status code (RFC 3463), such as "5.7.0"
	Reason    string
	Subject   string    // of the mail
	OrigID    string    // its Message-ID, without brackets
	Sent      time.Time // when it was sent
	Date      time.Time // of the notice
	MessageID string    // of the notice, without brackets
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
	title := "Not delivered: "
	if f.Action == "delayed" {
		title = "Not delivered yet: "
	}
	h.SetSubject(title + oneLine(f.Subject))
	h.Set("To", formatAddresses([]Address{f.To}))
	h.Set("From", formatAddresses([]Address{{Name: "Mail delivery", Addr: "postmaster@asmtp"}}))
	h.SetContentType("multipart/report", map[string]string{"report-type": "delivery-status"})
	e, err := gomessage.CreateWriter(w, h.Header)
	if err != nil {
		return fmt.Errorf("notice: %w", err)
	}
	who := oneLine(f.Recipient.Name)
	if who == "" {
		who = oneLine(f.Recipient.Addr)
	}
	text := fmt.Sprintf("Your mail %q of %s\ncould not be delivered to %s:\n\n    %s\n",
		oneLine(f.Subject), f.Sent.UTC().Format("2006-01-02 15:04 UTC"), who, oneLine(f.Reason))
	if f.Action == "delayed" {
		text = fmt.Sprintf("Your mail %q of %s\nwas not delivered to %s yet:\n\n    %s\n\nIt is tried on; there is nothing to do.\n",
			oneLine(f.Subject), f.Sent.UTC().Format("2006-01-02 15:04 UTC"), who, oneLine(f.Reason))
	}
	status := fmt.Sprintf("Reporting-MTA: dns; asmtp\r\nArrival-Date: %s\r\n\r\nFinal-Recipient: rfc822; %s\r\nAction: %s\r\nStatus: %s\r\nDiagnostic-Code: x-asmtp; %s\r\n",
		f.Sent.UTC().Format(time.RFC1123Z), oneLine(f.Recipient.Addr), oneLine(f.Action), oneLine(f.Status), asciiLine(f.Reason))
	headers := fmt.Sprintf("Subject: %s\r\nMessage-ID: <%s>\r\n", asciiLine(f.Subject), oneLine(f.OrigID))
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
