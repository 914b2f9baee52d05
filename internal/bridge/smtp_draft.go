package bridge

import (
	"io"

	"github.com/emersion/go-smtp"

	"github.com/asmtp/asmtp/internal/account"
)

// smtpEnvelope is what MAIL and RCPT said.
type smtpEnvelope struct {
	never      bool // the empty return path: nothing may be reported
	id         string
	recipients []smtpRecipient
}

type smtpRecipient struct {
	address  string
	notify   []smtp.DSNNotify
	original string // type;address
}

// draft is the mail for the account.
func (e *smtpEnvelope) draft(raw io.Reader) account.Draft {
	d := account.Draft{Raw: raw}
	for _, r := range e.recipients {
		d.To = append(d.To, r.address)
	}
	return d
}
