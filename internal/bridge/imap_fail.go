package bridge

import (
	"context"
	"errors"

	"github.com/emersion/go-imap/v2"

	"github.com/asmtp/asmtp/internal/account"
)

// fail turns an error into an answer. What the program or its user can do something about
// is told; the rest is logged.
func (s *imapSession) fail(doing string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*imap.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*account.FolderError](err); ok {
		if errors.Is(err, account.ErrExists) {
			return no(imap.ResponseCodeAlreadyExists, e.Error())
		}
		if !errors.Is(err, account.ErrNotFound) {
			return no(imap.ResponseCodeCannot, e.Error())
		}
	}
	if e, ok := errors.AsType[*account.KeywordError](err); ok {
		return no(imap.ResponseCodeLimit, e.Error())
	}
	if e, ok := errors.AsType[*account.SizeError](err); ok {
		return no(imap.ResponseCodeTooBig, e.Error())
	}
	switch {
	case errors.Is(err, account.ErrNotFound):
		return no(imap.ResponseCodeNonExistent, "there is no such folder")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return no(imap.ResponseCodeUnavailable, "the bridge is closing")
	}
	s.server.o.Log.Error("imap: "+doing, "account", s.accountName(), "err", err)
	return no(imap.ResponseCodeServerBug, doing+" failed, see the log of the bridge")
}

// tryCreate is for commands that name where messages go (RFC 9051, 6.3.12).
func (s *imapSession) tryCreate(doing string, err error) error {
	if errors.Is(err, account.ErrNotFound) {
		return no(imap.ResponseCodeTryCreate, "there is no such folder; it can be created")
	}
	return s.fail(doing, err)
}
