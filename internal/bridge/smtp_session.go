package bridge

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	msg "github.com/asmtp/asmtp/internal/message"
)

// maxLogins is how many logins of a connection may fail.
const maxLogins = 5

// smtpSession is what go-smtp calls for the commands of one connection, one after the
// other.
type smtpSession struct {
	srv    *smtpServer
	conn   *smtpConn
	served *served // nil before the login
	limit  int64   // the largest mail; set with served
	failed int     // logins
	mail   smtpEnvelope
}

var _ smtp.AuthSession = (*smtpSession)(nil)

// smtpReply is an answer with a text for the user of a mail program.
type smtpReply smtp.SMTPError

func reply(code int, enhanced smtp.EnhancedCode, format string, args ...any) *smtpReply {
	return &smtpReply{Code: code, EnhancedCode: enhanced, Message: msg.CleanLine(fmt.Sprintf(format, args...))}
}

// err is the reply for go-smtp, which also takes a success for an error.
func (r *smtpReply) err() error { return (*smtp.SMTPError)(r) }

func (r *smtpReply) line() string {
	e := r.EnhancedCode
	return fmt.Sprintf("%d %d.%d.%d %s", r.Code, e[0], e[1], e[2], r.Message)
}

func tooLarge(limit int64) *smtpReply {
	return reply(552, smtp.EnhancedCode{5, 3, 4}, "the mail is too large: the limit is %d bytes", limit)
}

// mayLogIn reports whether a password may be sent now: under TLS, or within this machine.
func (s *smtpSession) mayLogIn() bool {
	if s.conn.secure {
		return true
	}
	addr, ok := s.conn.Conn.RemoteAddr().(*net.TCPAddr)
	return !ok || addr.IP.IsLoopback()
}

// AuthMechanisms implements smtp.AuthSession.
func (s *smtpSession) AuthMechanisms() []string {
	if !s.mayLogIn() {
		return nil
	}
	return []string{sasl.Plain, sasl.Login}
}

// Auth implements smtp.AuthSession.
func (s *smtpSession) Auth(mechanism string) (sasl.Server, error) {
	if !s.mayLogIn() {
		return nil, reply(538, smtp.EnhancedCode{5, 7, 11}, "a login needs TLS: turn on STARTTLS in the mail program").err()
	}
	switch mechanism {
	case sasl.Plain:
		return sasl.NewPlainServer(func(identity, user, password string) error {
			if identity != "" && !strings.EqualFold(identity, user) {
				return reply(535, smtp.EnhancedCode{5, 7, 8}, "nobody may log in for somebody else").err()
			}
			return s.login(user, password)
		}), nil
	case sasl.Login:
		return &saslLogin{login: s.login}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

func (s *smtpSession) login(user, password string) error {
	a, err := s.srv.b.login(s.conn.ctx, s.conn.RemoteAddr(), user, password, func() { s.conn.cancel(errRevoked) })
	switch {
	case err == nil:
		s.served, s.limit = a, a.limit(s.conn.ctx)
		s.conn.setAuthed()
		return nil
	case errors.Is(err, errLogin):
		if s.failed++; s.failed >= maxLogins || errors.Is(err, errManyLogins) {
			s.conn.ended = true
		}
		return reply(535, smtp.EnhancedCode{5, 7, 8}, "%v", errLogin).err()
	case s.conn.ctx.Err() != nil:
		s.conn.ended = true
		return s.conn.farewell().err()
	}
	s.srv.b.log.Error("smtp: login", "error", err)
	return reply(454, smtp.EnhancedCode{4, 7, 0}, "the password could not be checked; try again").err()
}

// saslLogin is the mechanism LOGIN, which some programs have and no RFC describes.
type saslLogin struct {
	login func(user, password string) error
	user  string
	step  int
}

// Next implements sasl.Server.
func (l *saslLogin) Next(response []byte) (challenge []byte, done bool, err error) {
	if l.step == 0 {
		l.step++
		if response == nil {
			return []byte("Username:"), false, nil
		}
	}
	if l.step == 1 {
		l.step++
		l.user = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.login(l.user, string(response))
}

// Mail implements smtp.Session. RET is taken and means nothing: a notice names the mail,
// which is in the folder Sent as a whole.
func (s *smtpSession) Mail(from string, o *smtp.MailOptions) error {
	switch {
	case s.served == nil:
		return reply(530, smtp.EnhancedCode{5, 7, 0}, "log in first").err()
	case o.Size > s.limit:
		return tooLarge(s.limit).err()
	case len(o.EnvelopeID) > maxEnvelopeID:
		return reply(501, smtp.EnhancedCode{5, 5, 4}, "ENVID has more than %d characters", maxEnvelopeID).err()
	}
	if from != "" { // empty: a message that is not to be answered, such as a read receipt
		if err := s.served.acc.CheckSender(s.conn.ctx, from); err != nil {
			return reply(553, smtp.EnhancedCode{5, 7, 1}, "%q is not an address of this account: send as %s", from, strings.Join(s.served.acc.Addresses(), " or ")).err()
		}
	}
	s.mail = smtpEnvelope{never: from == "", id: o.EnvelopeID}
	return nil
}

// Rcpt implements smtp.Session.
func (s *smtpSession) Rcpt(to string, o *smtp.RcptOptions) error {
	if err := s.served.acc.CheckRecipient(s.conn.ctx, to); err != nil {
		return s.refused(err).err()
	}
	r := smtpRecipient{address: to, notify: o.Notify}
	if len(o.OriginalRecipient) > maxOriginal {
		return reply(501, smtp.EnhancedCode{5, 5, 4}, "ORCPT has more than %d characters", maxOriginal).err()
	}
	if o.OriginalRecipient != "" {
		r.original = strings.ToLower(string(o.OriginalRecipientType)) + ";" + o.OriginalRecipient
	}
	s.mail.recipients = append(s.mail.recipients, r)
	return nil
}

// Reset implements smtp.Session.
func (s *smtpSession) Reset() {
	s.mail = smtpEnvelope{}
}

// Logout implements smtp.Session.
func (s *smtpSession) Logout() error { return nil }
