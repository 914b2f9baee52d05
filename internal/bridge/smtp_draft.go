package bridge

import (
	"io"

	"github.com/emersion/go-smtp"

	"github.com/asmtp/asmtp/internal/account"
	msg "github.com/asmtp/asmtp/internal/message"
)

// RFC 3461 (4.2, 4.4) bounds what is given back in notices.
const (
	maxEnvelopeID = 100
	maxOriginal   = 500
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
	d := account.Draft{Raw: raw, EnvID: e.id, Recipients: make([]account.Recipient, len(e.recipients))}
	if e.never {
		d.Notify = msg.NotifyNever
	}
	for i, r := range e.recipients {
		d.Recipients[i] = account.Recipient{Address: r.address, ORCPT: r.original}
		if !e.never {
			d.Recipients[i].Notify = notifyOf(r.notify)
		}
	}
	return d
}

func notifyOf(list []smtp.DSNNotify) (n msg.Notify) {
	for _, v := range list {
		switch v {
		case smtp.DSNNotifySuccess:
			n |= msg.NotifySuccess
		case smtp.DSNNotifyFailure:
			n |= msg.NotifyFailure
		case smtp.DSNNotifyDelayed:
			n |= msg.NotifyDelay
		case smtp.DSNNotifyNever:
			n |= msg.NotifyNever
		}
	}
	return n
}
