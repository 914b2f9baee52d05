package transfer

import (
	"context"
	"errors"
	"slices"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/mailfile"
)

// Export writes the mail of a folder, of all folders if it is empty, into files. An mbox
// holds that of one folder, INBOX if none is named. What is in the files stays there, also if it
// is gone from the account; in a Maildir the flags are brought up to date.
//
// An error is one of the files or the account as a whole; what is wrong with single
// messages is in the result.
func Export(ctx context.Context, acc *account.Account, to Files, folder string, say Progress) (Result, error) {
	j := &job{ctx: ctx, acc: acc, say: say}
	if to.Mbox != "" && folder == "" {
		folder = mailfile.Inbox
	}
	folders, err := j.folders(folder)
	if err != nil {
		return j.res, err
	}
	if to.Mbox != "" {
		return j.res, j.exportMbox(to.Mbox, folders[0])
	}
	for _, f := range folders {
		if err := j.exportMaildir(to.Maildir, f); err != nil {
			return j.res, err
		}
	}
	return j.res, nil
}

func (j *job) folders(name string) ([]account.Folder, error) {
	if name == "" {
		return j.acc.Folders(j.ctx)
	}
	f, err := j.acc.FolderNamed(j.ctx, name)
	return []account.Folder{f}, err
}

func metaOf(id mailfile.ID, p account.Place) mailfile.Meta {
	return mailfile.Meta{ID: id, Flags: toFile(p.Flags), Keywords: p.Keywords, Date: p.Date}
}

func (j *job) exportMaildir(dir string, f account.Folder) error {
	places, err := j.places(f)
	if err != nil {
		return err
	}
	m, err := mailfile.CreateMaildir(dir, f.Name)
	if err != nil {
		return err
	}
	defer m.Close()
	list, err := m.Messages()
	if err != nil {
		return err
	}
	there := make(map[mailfile.ID]*mailfile.Message, len(list))
	for _, msg := range list {
		there[msg.ID] = msg
	}
	for i, p := range places {
		if err := j.ctx.Err(); err != nil {
			return err
		}
		j.say(f.Name, i, len(places))
		meta := metaOf(j.idOf(f, p.UID), p)
		if err := j.putMaildir(m, there[meta.ID], meta, f, p.UID); err != nil {
			return err
		}
	}
	return m.Sync()
}

// putMaildir writes a message, or changes the flags of the one that is there.
func (j *job) putMaildir(m *mailfile.Maildir, there *mailfile.Message, meta mailfile.Meta, f account.Folder, uid uint32) error {
	for {
		var err error
		before := ""
		if there == nil {
			err = m.Add(meta, j.source(f, uid))
		} else {
			before = there.Path
			err = m.SetMeta(there, meta)
		}
		var full *mailfile.KeywordsError
		switch {
		case errors.As(err, &full):
			j.res.note("%s, message %d: %v", f.Name, uid, err)
			meta.Keywords = slices.DeleteFunc(slices.Clone(meta.Keywords), func(k string) bool { return k == full.Keyword })
			continue
		case errors.Is(err, account.ErrNotFound): // removed meanwhile
			return nil
		case err != nil:
			return err
		case there == nil:
			j.res.Added++
		default:
			if j.res.Known++; there.Path != before {
				j.res.Changed++
			}
		}
		return nil
	}
}

func (j *job) exportMbox(path string, f account.Folder) (err error) {
	places, err := j.places(f)
	if err != nil {
		return err
	}
	m, err := mailfile.OpenMboxFile(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	for i, p := range places {
		if err := j.ctx.Err(); err != nil {
			return err
		}
		j.say(f.Name, i, len(places))
		meta := metaOf(j.idOf(f, p.UID), p)
		if m.Has(meta.ID) {
			j.res.Known++
			continue
		}
		err := m.Add(meta, j.source(f, p.UID))
		if errors.Is(err, account.ErrNotFound) { // removed meanwhile
			continue
		}
		if err != nil {
			return err
		}
		j.res.Added++
	}
	return nil
}
