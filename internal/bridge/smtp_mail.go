package bridge

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/asmtp/asmtp/internal/account"
	mailmessage "github.com/asmtp/asmtp/internal/message"
)

// Data implements smtp.Session: it takes a mail. Only when the account has it on disk the
// answer is 250, with its id. What go-smtp would read is nothing: smtpConn has it.
func (s *smtpSession) Data(io.Reader) error {
	mail := s.mail
	if chunks := s.conn.chunks; chunks != nil {
		s.conn.chunks = nil
		return s.sendChunks(mail, chunks).err()
	}
	body := newSMTPData(s.conn.in, s.limit)
	answer := s.send(mail, body)
	if errors.Is(body.err, errSmuggling) {
		s.conn.ended = true
	}
	if !body.drain(s.limit) {
		answer = s.cut(answer)
	}
	return answer.err()
}

// sendChunks is send for a mail that comes by BDAT.
func (s *smtpSession) sendChunks(mail smtpEnvelope, chunks *smtpChunks) *smtpReply {
	answer := s.send(mail, chunks)
	if chunks.instead != nil {
		return chunks.instead
	}
	if chunks.skip() != nil {
		answer = s.cut(answer)
	}
	return answer
}

// cut is the answer to a mail whose end was not found.
func (s *smtpSession) cut(answer *smtpReply) *smtpReply {
	s.conn.ended = true
	if s.conn.ctx.Err() != nil {
		return s.conn.farewell()
	}
	return answer
}

// send gives a mail to the account, and returns the answer. It is not interrupted: an
// answer that the mail is not stored has to be true.
func (s *smtpSession) send(mail smtpEnvelope, body io.Reader) *smtpReply {
	in := &watchedReader{r: body}
	out, err := s.served.acc.Send(context.WithoutCancel(s.conn.ctx), mail.draft(in))
	if err == nil {
		return reply(250, smtp.EnhancedCode{2, 0, 0}, "queued as %s", out[0].ID)
	}
	switch {
	case errors.Is(in.err, errSMTPTooLarge):
		return tooLarge(s.limit)
	case errors.Is(in.err, errSmuggling):
		return reply(554, smtp.EnhancedCode{5, 6, 0}, "refused: a line of the mail is a single dot between bare CR or LF, which others would take for the end of the mail; lines end with CR LF")
	case in.err != nil:
		return reply(451, smtp.EnhancedCode{4, 4, 2}, "the mail did not arrive as a whole")
	}
	return s.refused(err)
}

// refused is the answer for an error of the account.
func (s *smtpSession) refused(err error) *smtpReply {
	if e, ok := errors.AsType[*account.NoContactError](err); ok {
		return s.noContact(e)
	}
	if e, ok := errors.AsType[*account.SizeError](err); ok {
		return tooLarge(e.Limit)
	}
	if e, ok := errors.AsType[*mailmessage.HeaderError](err); ok {
		return reply(554, smtp.EnhancedCode{5, 6, 0}, "the mail cannot be sent: %v", e)
	}
	if errors.Is(err, account.ErrNoRecipient) {
		return reply(554, smtp.EnhancedCode{5, 5, 1}, "the mail has no recipient")
	}
	s.srv.b.log.Error("smtp: a mail was not taken", "account", s.served.acc.Name(), "error", err)
	return reply(451, smtp.EnhancedCode{4, 3, 0}, "the mail could not be stored: %v", err)
}

// noContact says how to get to know a recipient.
func (s *smtpSession) noContact(e *account.NoContactError) *smtpReply {
	command := "asmtp-cli "
	if len(s.srv.b.accounts) > 1 && s.served.home != "" {
		command += "--home " + s.served.home + " "
	}
	if !e.ID.IsZero() {
		return reply(550, smtp.EnhancedCode{5, 1, 1}, `%s is no contact: add it with "%scontact add NAME %s"`, e.ID, command, e.ID)
	}
	name, domain, _ := strings.Cut(e.Name, "@")
	if domain != "" && !strings.EqualFold(domain, "asmtp") {
		return reply(550, smtp.EnhancedCode{5, 1, 2}, `no contact %q: mail goes to contacts only, whose addresses are NAME@asmtp; add one with "%scontact add NAME ID"`, e.Name, command)
	}
	return reply(550, smtp.EnhancedCode{5, 1, 1}, `no contact %q: ask %s for the passport id, then run "%scontact add %s ID"`, name, name, command, name)
}

// watchedReader keeps the error of a reader, to tell it from those of who reads.
type watchedReader struct {
	r   io.Reader
	err error // without io.EOF
}

// Read implements io.Reader.
func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}
