package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/mailfile"
	"github.com/asmtp/asmtp/internal/message"
)

// Import files the mail of a Maildir with all its folders, or of an mbox, in the account. Folders
// that are missing are made. With folder what is INBOX outside goes there, and the other
// folders below it; without it each goes where it is called, and an mbox into INBOX.
//
// A message is there already if it was written from this account and is still where it was,
// or if the folder has one of the same bytes; its flags stay as they are here.
//
// An error is one of the files or the account as a whole; what is wrong with single messages
// is in the result.
func Import(ctx context.Context, acc *account.Account, from Files, folder string, say Progress) (Result, error) {
	j := &job{ctx: ctx, acc: acc, say: say}
	if from.Mbox != "" {
		return j.res, j.importMbox(from.Mbox, target(folder, mailfile.Inbox))
	}
	if err := exists(from.Maildir); err != nil {
		return j.res, err
	}
	names, broken, err := mailfile.FindMaildirs(from.Maildir)
	if err != nil {
		return j.res, err
	}
	for _, name := range broken {
		j.res.fail("folder "+name, errors.New("its name cannot be read; rename it"))
	}
	for _, name := range names {
		if err := j.importMaildir(from.Maildir, name, target(folder, name)); err != nil {
			return j.res, err
		}
	}
	return j.res, nil
}

// target is the folder that takes the mail of one outside.
func target(folder, name string) string {
	switch {
	case folder == "":
		return name
	case name == mailfile.Inbox:
		return folder
	}
	return folder + "/" + name
}

// into opens or makes a folder of the account.
func (j *job) into(name string) (*intake, error) {
	f, err := j.acc.FolderNamed(j.ctx, name)
	if errors.Is(err, account.ErrNotFound) {
		f, err = j.acc.CreateFolder(j.ctx, name)
	}
	if err != nil {
		return nil, err
	}
	places, err := j.places(f)
	if err != nil {
		return nil, err
	}
	in := &intake{job: j, folder: f, uids: make(map[uint32]bool), sizes: make(map[int64][]uint32), sums: make(map[uint32][sha256.Size]byte)}
	for _, p := range places {
		in.uids[p.UID] = true
		in.sizes[p.Size] = append(in.sizes[p.Size], p.UID)
	}
	return in, nil
}

func (j *job) importMaildir(dir, name, folder string) error {
	m, err := mailfile.OpenMaildir(dir, name)
	if err != nil {
		return err
	}
	defer m.Close()
	list, err := m.Messages()
	if err != nil {
		return err
	}
	in, err := j.into(folder)
	if fe := new(account.FolderError); errors.As(err, &fe) {
		j.res.fail("folder "+name, err)
		return nil
	}
	if err != nil {
		return err
	}
	for i, msg := range list {
		j.say(folder, i, len(list))
		err := in.take(msg.Meta, func() (io.ReadCloser, error) { return m.Open(msg) })
		if err := j.settle(name+"/"+msg.Path, err); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) importMbox(path, folder string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := mailfile.NewMboxReader(f)
	var in *intake
	for n := 1; ; n++ {
		body, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if in == nil {
			if in, err = j.into(folder); err != nil {
				return err
			}
		}
		j.say(folder, n-1, 0)
		if err := j.settle(fmt.Sprintf("message %d", n), in.takeOnce(r, body)); err != nil {
			return err
		}
	}
}

// settle counts a message that was refused, and returns what ends the whole import.
func (j *job) settle(what string, err error) error {
	var size *account.SizeError
	var path *os.PathError
	if errors.As(err, &size) || errors.As(err, &path) {
		j.res.fail(what, err)
		return nil
	}
	return err
}

// intake is a folder that takes messages in.
type intake struct {
	*job
	folder account.Folder
	uids   map[uint32]bool
	sizes  map[int64][]uint32 // of what is there
	sums   map[uint32][sha256.Size]byte
}

// take files a message, unless it is there.
func (in *intake) take(meta mailfile.Meta, open mailfile.Source) error {
	if err := in.ctx.Err(); err != nil {
		return err
	}
	if meta.ID == in.idOf(in.folder, meta.ID.UID) && in.uids[meta.ID.UID] {
		in.res.Known++
		return nil
	}
	file := open
	open = func() (io.ReadCloser, error) { return imported(file) }
	r, err := open()
	if err != nil {
		return err
	}
	sum, size, err := sumOf(r)
	r.Close()
	if err != nil {
		return err
	}
	known, err := in.known(sum, size)
	if err != nil {
		return err
	}
	if known {
		in.res.Known++
		return nil
	}
	if r, err = open(); err != nil {
		return err
	}
	defer r.Close()
	filing := account.Filing{Folder: in.folder.ID, Flags: ofFile(meta.Flags), Keywords: meta.Keywords, Date: meta.Date, Size: size}
	uid, err := in.acc.Append(in.ctx, filing, r)
	if k := new(account.KeywordError); errors.As(err, &k) { // before anything was read
		in.res.note("%s: %v", in.folder.Name, err)
		filing.Keywords = in.allowed(filing.Keywords)
		uid, err = in.acc.Append(in.ctx, filing, r)
	}
	if err != nil {
		return err
	}
	if in.uids[uid] { // the copy of a sent mail
		in.res.Known++
		return nil
	}
	in.uids[uid], in.sums[uid] = true, sum
	in.sizes[size] = append(in.sizes[size], uid)
	in.res.Added++
	return nil
}

// allowed leaves out the keywords that an account does not take.
func (in *intake) allowed(keywords []string) []string {
	return slices.DeleteFunc(slices.Clone(keywords), func(k string) bool { return account.CheckKeyword(k) != nil })
}

// takeOnce is take for a message that can be read once only: it is kept in a temporary file.
func (in *intake) takeOnce(r *mailfile.MboxReader, body io.Reader) error {
	f, err := os.CreateTemp("", "asmtp-import-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := io.Copy(f, body); err != nil {
		return err
	}
	return in.take(r.Meta(), func() (io.ReadCloser, error) {
		_, err := f.Seek(0, io.SeekStart)
		return io.NopCloser(f), err
	})
}

// known reports whether the folder has a message of these bytes.
func (in *intake) known(sum [sha256.Size]byte, size int64) (bool, error) {
	for _, uid := range in.sizes[size] {
		have, ok := in.sums[uid]
		if !ok {
			r, err := in.acc.OpenPlace(in.ctx, in.folder.ID, uid)
			if errors.Is(err, account.ErrNotFound) { // removed meanwhile
				continue
			}
			if err != nil {
				return false, err
			}
			have, _, err = sumOf(r)
			r.Close()
			if err != nil {
				return false, err
			}
			in.sums[uid] = have
		}
		if have == sum {
			return true, nil
		}
	}
	return false, nil
}

// imported opens a message as it is kept, see [message.Imported].
func imported(open mailfile.Source) (io.ReadCloser, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	header, rest, err := message.SplitHeader(r)
	if err != nil {
		r.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(message.Imported(header)), rest), r}, nil
}

func sumOf(r io.Reader) (sum [sha256.Size]byte, size int64, err error) {
	h := sha256.New()
	size, err = io.Copy(h, r)
	return [sha256.Size]byte(h.Sum(nil)), size, err
}
