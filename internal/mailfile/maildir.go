package mailfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// Inbox is the name of the folder that a Maildir is itself.
const Inbox = "INBOX"

// ErrNoMaildir is the error for a directory that is none.
var ErrNoMaildir = errors.New("it is no Maildir: there is no folder cur in it")

// Maildir is one folder of a Maildir. It is not safe for concurrent use, but other programs
// may work in it at the same time.
type Maildir struct {
	Folder string // name, with / between levels

	root    *os.Root
	letters []string // keyword of each letter from a on
}

// FindMaildirs returns the names of the folders of a Maildir, INBOX first. Folders whose
// names cannot be read are left out and returned as broken.
func FindMaildirs(dir string) (folders, broken []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	if isMaildir(dir) {
		folders = append(folders, Inbox)
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), ".") || !isMaildir(dir+"/"+e.Name()) {
			continue
		}
		name, err := folderOf(e.Name())
		if err != nil {
			broken = append(broken, e.Name())
			continue
		}
		folders = append(folders, name)
	}
	if len(folders) == 0 && len(broken) == 0 {
		return nil, nil, fmt.Errorf("%s: %w", dir, ErrNoMaildir)
	}
	return folders, broken, nil
}

func isMaildir(dir string) bool {
	info, err := os.Stat(dir + "/cur")
	return err == nil && info.IsDir()
}

// fileOf returns the directory of a folder in that of a Maildir.
func fileOf(folder string) string {
	if folder == Inbox {
		return "."
	}
	name := ""
	for level := range strings.SplitSeq(folder, "/") {
		name += "." + encodeLevel(level)
	}
	return name
}

func folderOf(file string) (string, error) {
	levels := strings.Split(file[1:], ".")
	for i, level := range levels {
		name, err := decodeLevel(level)
		if err != nil || name == "" {
			return "", errors.Join(err, errUTF7)
		}
		levels[i] = name
	}
	return strings.Join(levels, "/"), nil
}

// OpenMaildir opens a folder of a Maildir that is there.
func OpenMaildir(dir, folder string) (*Maildir, error) {
	top, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	root, err := top.OpenRoot(fileOf(folder))
	if err != nil {
		return nil, err
	}
	m := &Maildir{Folder: folder, root: root}
	if err := m.readKeywords(); err != nil {
		root.Close()
		return nil, err
	}
	return m, nil
}

// CreateMaildir opens a folder of a Maildir and makes both if they are missing.
func CreateMaildir(dir, folder string) (*Maildir, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	top, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	file := fileOf(folder)
	for _, sub := range []string{"tmp", "new", "cur"} { // cur last: it makes a Maildir of it
		if err := top.MkdirAll(file+"/"+sub, 0o700); err != nil {
			return nil, err
		}
	}
	if folder != Inbox { // so that deliverers know it for a folder of another (Maildir++)
		f, err := top.OpenFile(file+"/maildirfolder", os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		f.Close()
	}
	return OpenMaildir(dir, folder)
}

// Close closes the folder.
func (m *Maildir) Close() error { return m.root.Close() }

// Message is a message of a folder.
type Message struct {
	Meta
	Path string // below the folder

	key  string // the name without its flags
	form form
}

// Messages returns what is in the folder, the oldest first. Names that are none of
// messages, and what is no regular file, are left out.
func (m *Maildir) Messages() (list []*Message, err error) {
	for _, sub := range []string{"new", "cur"} {
		entries, err := fs.ReadDir(m.root.FS(), sub)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") || !e.Type().IsRegular() {
				continue
			}
			msg := m.message(sub, e.Name())
			if info, err := e.Info(); err == nil {
				msg.Date = info.ModTime()
			}
			list = append(list, msg)
		}
	}
	slices.SortStableFunc(list, func(a, b *Message) int { return a.Date.Compare(b.Date) })
	return list, nil
}

// message reads the name of a file.
func (m *Maildir) message(sub, name string) *Message {
	msg := &Message{Path: sub + "/" + name}
	info := ""
	msg.key, info, _ = strings.Cut(name, ":2,")
	if _, after, ok := strings.Cut(msg.key, "."); ok {
		msg.ID, msg.form, _ = parseMark(after)
	}
	if sub == "cur" {
		msg.Flags, msg.Keywords = m.parseInfo(info)
	}
	return msg
}

// Open opens a message for reading: as it was in the account if this package wrote it, else
// with CRLF at the end of lines.
func (m *Maildir) Open(msg *Message) (io.ReadCloser, error) {
	f, err := m.root.Open(msg.Path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", msg.Path, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{&messageReader{next: newLines(f).next, f: msg.form}, f}, nil
}

// Add writes a message, which is on disk when Add returns.
func (m *Maildir) Add(meta Meta, open Source) error {
	r, err := open()
	if err != nil {
		return err
	}
	f, _, err := formOf(r)
	r.Close()
	if err != nil {
		return err
	}
	f.noEnd = false // the file ends as the message does
	if r, err = open(); err != nil {
		return err
	}
	defer r.Close()
	key := fmt.Sprintf("%d.%s", meta.Date.Unix(), mark(meta.ID, f))
	info, err := m.info(meta)
	if err != nil {
		return err
	}
	tmp := "tmp/" + key
	if err := m.write(tmp, f, meta.Date, r); err != nil {
		return errors.Join(err, m.root.Remove(tmp))
	}
	if err := m.root.Rename(tmp, "cur/"+key+info); err != nil {
		return errors.Join(err, m.root.Remove(tmp))
	}
	return nil
}

func (m *Maildir) write(name string, form form, date time.Time, r io.Reader) error {
	f, err := m.root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if form.exact {
		_, err = io.Copy(f, r)
	} else {
		err = writeUnix(f, r)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return m.root.Chtimes(name, date, date)
}

// SetMeta gives a message other flags and keywords, if they differ.
func (m *Maildir) SetMeta(msg *Message, meta Meta) error {
	info, err := m.info(meta)
	if err != nil || msg.Path == "cur/"+msg.key+info {
		return err
	}
	to := "cur/" + msg.key + info
	if err := m.root.Rename(msg.Path, to); err != nil {
		return err
	}
	msg.Path = to
	return nil
}

// Sync makes the names of what was added durable.
func (m *Maildir) Sync() error {
	f, err := m.root.Open("cur")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
