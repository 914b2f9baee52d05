package mailfile_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/mailfile"
)

// bodies are messages that files of mail get wrong.
var bodies = map[string]string{
	"empty":           "",
	"plain":           "Subject: a\r\n\r\nbody\r\n",
	"no end":          "Subject: a\r\n\r\nbody",
	"bare LF":         "Subject: a\r\n\r\none\ntwo\r\n",
	"only LF":         "Subject: a\n\nbody\n",
	"bare CR":         "Subject: a\r\n\r\none\rtwo\r\n",
	"CR CR LF":        "Subject: a\r\n\r\none\r\r\ntwo\r\n",
	"CR at the end":   "Subject: a\r\n\r\none\r",
	"LF at the end":   "Subject: a\r\n\r\none\n",
	"From":            "Subject: a\r\n\r\nFrom here\r\n>From there\r\n>>From far\r\nfrom\r\n",
	"From first":      "From me\r\n",
	"NUL":             "Subject: a\r\n\r\n\x00\xff\r\n\r\n\r\n",
	"empty lines":     "\r\n\r\n\r\n",
	"status":          "Status: RO\r\nX-Status: A\r\nX-Keywords: none\r\nSubject: a\r\n\r\nStatus: O\r\n",
	"no header":       "\r\nStatus: RO\r\n",
	"long line":       "Subject: a\r\n\r\n" + strings.Repeat("x", 200_000) + "\r\nFrom y\r\n",
	"CR at a buffer":  "a: b\r\n\r\n" + strings.Repeat("y", 64<<10-1) + "\r\nend\r\n",
	"CR at a buffer2": "a: b\r\n\r\n" + strings.Repeat("y", 64<<10-9) + "\r\nend\r\n",
}

func source(s string) mailfile.Source {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}

func id(uid int) mailfile.ID {
	return mailfile.ID{Account: [4]byte{1, 2, 3, 4}, Validity: 7, UID: uint32(uid)}
}

// What is written is read back byte for byte, with all that is kept beside it.
func TestMaildirKeepsMessages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "Mail")
	m, err := mailfile.CreateMaildir(dir, mailfile.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	metas := map[mailfile.ID]mailfile.Meta{}
	texts := map[mailfile.ID]string{}
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"$Forwarded", "work", "later", "$MDNSent"}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range bodies {
			if !yield(name) {
				return
			}
		}
	}) {
		meta := mailfile.Meta{ID: id(len(metas) + 1), Flags: mailfile.Flags(random.IntN(32)), Date: time.Unix(1e9+int64(len(metas)), 0)}
		for _, w := range words {
			if random.IntN(2) == 0 {
				meta.Keywords = append(meta.Keywords, w)
			}
		}
		if err := m.Add(meta, source(bodies[name])); err != nil {
			t.Fatal(name, err)
		}
		metas[meta.ID], texts[meta.ID] = meta, bodies[name]
	}
	if err := m.Sync(); err != nil {
		t.Fatal(err)
	}
	again, err := mailfile.OpenMaildir(dir, mailfile.Inbox) // with the keywords as they are on disk
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	list, err := again.Messages()
	if err != nil || len(list) != len(metas) {
		t.Fatalf("%d messages, %v", len(list), err)
	}
	for _, msg := range list {
		want := metas[msg.ID]
		slices.Sort(msg.Keywords)
		slices.Sort(want.Keywords)
		if msg.Flags != want.Flags || !slices.Equal(msg.Keywords, want.Keywords) || !msg.Date.Equal(want.Date) {
			t.Errorf("got %+v, want %+v", msg.Meta, want)
		}
		if got := readAll(t, again, msg); got != texts[msg.ID] {
			t.Errorf("got %.60q, want %.60q", got, texts[msg.ID])
		}
	}
	if files, _ := filepath.Glob(dir + "/tmp/*"); len(files) > 0 {
		t.Errorf("left over: %v", files)
	}
}

func readAll(t *testing.T, m *mailfile.Maildir, msg *mailfile.Message) string {
	t.Helper()
	r, err := m.Open(msg)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Mail of other programs comes with CRLF and the flags that its name says.
func TestMaildirOfOthers(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"new/1.a.host":                   "one\n",
		"cur/2.b.host:2,RS":              "two\r\n",
		"cur/3.c.host,S=5:2,FTab":        "three\n\nx",
		"cur/4.V1U2.00000000.asmtp:2,":   "four\n",
		"cur/.hidden":                    "no",
		"dovecot-keywords":               "0 work\n1 $Label1\nx y\n99 z\n",
		".Own &- Folder.Sub/cur/5.e:2,D": "five\n",
		".&AOQ-/cur/6.f":                 "six\n",
		".&&&/cur/7.g":                   "seven\n",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "cur", "8.link")); err != nil {
		t.Fatal(err)
	}
	folders, broken, err := mailfile.FindMaildirs(dir)
	slices.Sort(folders)
	if err != nil || !slices.Equal(folders, []string{"INBOX", "Own & Folder/Sub", "ä"}) || !slices.Equal(broken, []string{".&&&"}) {
		t.Fatalf("folders %q, broken %q, %v", folders, broken, err)
	}
	m, err := mailfile.OpenMaildir(dir, mailfile.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	list, err := m.Messages()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, msg := range list {
		got[msg.Path[4:5]] = readAll(t, m, msg)
		switch msg.Path[4] {
		case '2':
			if msg.Flags != mailfile.Seen|mailfile.Answered {
				t.Errorf("flags %v", msg.Flags)
			}
		case '3':
			if msg.Flags != mailfile.Flagged|mailfile.Deleted || !slices.Equal(msg.Keywords, []string{"work", "$Label1"}) {
				t.Errorf("%+v", msg.Meta)
			}
			if err := m.SetMeta(msg, mailfile.Meta{Flags: mailfile.Seen, Keywords: []string{"new"}}); err != nil || msg.Path != "cur/3.c.host,S=5:2,Sc" {
				t.Errorf("renamed to %s, %v", msg.Path, err)
			}
		}
	}
	want := map[string]string{"1": "one\r\n", "2": "two\r\n", "3": "three\r\n\r\nx", "4": "four\r\n"}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("message %s is %q, want %q", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("messages %q", got)
	}
}

// A folder whose name has dots, slashes or other letters is found again by its name.
func TestMaildirFolderNames(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for _, name := range []string{"INBOX", "Sent", "a.b", "Work/2024/März", "a&b", "日本", "😀", "..", "x y"} {
		m, err := mailfile.CreateMaildir(dir, name)
		if err != nil {
			t.Fatal(name, err)
		}
		m.Close()
		want = append(want, name)
	}
	got, broken, err := mailfile.FindMaildirs(dir)
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || len(broken) > 0 || !slices.Equal(got, want) {
		t.Errorf("got %q, %q, %v", got, broken, err)
	}
	if _, _, err := mailfile.FindMaildirs(filepath.Join(dir, "tmp")); err == nil {
		t.Error("a folder that is no Maildir was taken for one")
	}
}

// A Maildir has letters for 26 keywords; a message with one more is not written.
func TestMaildirHasRoomFor26Keywords(t *testing.T) {
	m, err := mailfile.CreateMaildir(t.TempDir(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for i := range 27 {
		err := m.Add(mailfile.Meta{ID: id(i + 1), Keywords: []string{"k" + string(rune('a'+i))}}, source("x"))
		if k := new(mailfile.KeywordsError); (i == 26) != errors.As(err, &k) {
			t.Fatalf("keyword %d: %v", i, err)
		}
	}
}

// A large message is written and read in pieces.
func TestMaildirStreams(t *testing.T) {
	m, err := mailfile.CreateMaildir(t.TempDir(), mailfile.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	line := []byte(strings.Repeat("a", 76) + "\r\n")
	open := func() (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(&repeat{line: line}, 20<<20)), nil
	}
	if err := m.Add(mailfile.Meta{ID: id(1)}, open); err != nil {
		t.Fatal(err)
	}
	list, err := m.Messages()
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	want, got := sha256.New(), sha256.New()
	r, _ := open()
	io.Copy(want, r)
	if r, err = m.Open(list[0]); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	io.Copy(got, r)
	if !bytes.Equal(want.Sum(nil), got.Sum(nil)) {
		t.Error("it comes back with other bytes")
	}
}

type repeat struct {
	line []byte
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.line[r.at:])
	r.at = (r.at + n) % len(r.line)
	return n, nil
}
