// Package transfer takes mail out of an account into the files of other programs, and in
// from them: [Export] and [Import]. The formats are those of package mailfile.
//
// Both can be repeated: what is there already is told by what wrote it, or by its bytes, and
// left as it is. Mail that is taken in counts as filed by hand: nobody's seal is claimed
// for it. Neither removes anything.
package transfer

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/mailfile"
)

// Files says where mail is kept outside: in a Maildir or in an mbox.
type Files struct {
	Maildir string // a directory; or
	Mbox    string // a file
}

// Result is what came of a transfer.
type Result struct {
	Added   int // messages
	Known   int // that were there already
	Changed int // of Known, whose flags differed and are right now
	Problems
}

// Problems are messages that could not be transferred, or not with all that belongs to them.
type Problems struct {
	Failed int
	Notes  []string // one line each, the first 100
}

const maxNotes = 100

func (p *Problems) note(format string, args ...any) {
	if len(p.Notes) < maxNotes {
		p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
	}
}

func (p *Problems) fail(what string, err error) {
	p.Failed++
	p.note("%s: %v", what, err)
}

// Progress is told how many of all messages of a folder are dealt with; all is 0 if that is
// not known.
type Progress func(folder string, done, all int)

// flags pairs the flags of accounts and files.
var flags = []struct {
	account account.Flag
	file    mailfile.Flags
}{
	{account.FlagSeen, mailfile.Seen}, {account.FlagAnswered, mailfile.Answered}, {account.FlagFlagged, mailfile.Flagged},
	{account.FlagDeleted, mailfile.Deleted}, {account.FlagDraft, mailfile.Draft},
}

func toFile(f account.Flag) (out mailfile.Flags) {
	for _, p := range flags {
		if f&p.account != 0 {
			out |= p.file
		}
	}
	return out
}

func ofFile(f mailfile.Flags) (out account.Flag) {
	for _, p := range flags {
		if f&p.file != 0 {
			out |= p.account
		}
	}
	return out
}

// job is one transfer.
type job struct {
	ctx context.Context
	acc *account.Account
	res Result
	say Progress
}

// idOf is how files name a message of the account.
func (j *job) idOf(f account.Folder, uid uint32) mailfile.ID {
	id := mailfile.ID{Validity: f.UIDValidity, UID: uid}
	own := j.acc.ID()
	copy(id.Account[:], own[:])
	return id
}

// source opens a message of the account.
func (j *job) source(f account.Folder, uid uint32) mailfile.Source {
	return func() (io.ReadCloser, error) { return j.acc.OpenPlace(j.ctx, f.ID, uid) }
}

func (j *job) places(f account.Folder) ([]account.Place, error) {
	c, err := j.acc.FolderChanges(j.ctx, f.ID, 0)
	return c.Places, err
}

// exists reports whether there is a file or a directory, to name a missing one before
// anything is done.
func exists(path string) error {
	_, err := os.Stat(path)
	return err
}
