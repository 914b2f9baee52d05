package large

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/smtp"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/asmtp/asmtp/test/programs"
)

// A mail of the largest size, by SMTP into a bridge and by IMAP out of the bridge of somebody
// who was away when it was sent, is what it was, and no process needs much memory for it.
func TestLargestMailThroughBridges(t *testing.T) {
	if testing.Short() {
		t.Skip("starts whole nodes")
	}
	w := programs.New(t, "")
	w.Mesh("n1", "n2")
	w.Person("alice", "n1")
	w.Person("bob", "n2")
	w.Acquaint("alice", "bob")
	w.Meet("alice", "bob")
	alice, bob := w.Bridge(t, "alice"), w.Bridge(t, "bob")
	m := newMeter(t, w)
	m.add("alice", alice.Cmd)
	m.add("bob", bob.Cmd)
	out, in := newSubmitter(t, alice), newReader(t, w, bob)

	sum := out.send("small", 1000)
	in.check("small", sum)
	held(w)
	before := m.peaks()

	bob.Kill()
	began := time.Now()
	sum = out.send("large", attached)
	t.Logf("the answer to its end came after %.1f s", time.Since(began).Seconds())
	held(w)
	t.Logf("it was at the nodes after %.1f s", time.Since(began).Seconds())
	bob.Start(t)
	m.add("bob", bob.Cmd)
	began = time.Now()
	in = newReader(t, w, bob)
	in.check("large", sum)
	t.Logf("it was read %.1f s after the start of the recipient's bridge", time.Since(began).Seconds())

	w.Await("the sender knows that it is delivered", func() bool { return len(w.As("alice", "queue")) == 0 })
	m.check(before, m.peaks())
}

// submitter is a program that sends mail to a bridge.
type submitter struct {
	t *testing.T
	b *programs.Bridge
	c *smtp.Client
}

func newSubmitter(t *testing.T, b *programs.Bridge) *submitter {
	t.Helper()
	c, err := smtp.Dial(b.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	user, password := b.Login(t, "large")
	if err := c.Auth(smtp.PlainAuth("", user, password, "127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	return &submitter{t, b, c}
}

// send sends a mail with so many random bytes in base64 and returns the hash of its body.
func (s *submitter) send(subject string, size int64) (sum [sha256.Size]byte) {
	s.t.Helper()
	check := func(err error) {
		if err != nil {
			s.t.Helper()
			s.t.Fatal(err)
		}
	}
	check(s.c.Mail("alice@asmtp"))
	check(s.c.Rcpt("bob@asmtp"))
	data, err := s.c.Data()
	check(err)
	_, err = fmt.Fprintf(data, "From: alice@asmtp\r\nTo: bob@asmtp\r\nSubject: %s\r\nMIME-Version: 1.0\r\n"+
		"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n", subject)
	check(err)
	hash := sha256.New()
	lines := bufio.NewWriterSize(io.MultiWriter(data, hash), 64<<10)
	var raw [57]byte // a line of 76 characters
	for ; size > 0; size -= int64(len(raw)) {
		rand.Read(raw[:])
		_, err := fmt.Fprintf(lines, "%s\r\n", base64.StdEncoding.EncodeToString(raw[:]))
		check(err)
	}
	check(lines.Flush())
	check(data.Close())
	return [sha256.Size]byte(hash.Sum(nil))
}

// held waits until another node than the sender's holds all that is not delivered yet.
func held(w *programs.World) {
	w.Await("the mail is held by another node", func() bool {
		for _, l := range w.As("alice", "queue") {
			if l.Held == 0 {
				return false
			}
		}
		return true
	})
}

// reader is a program that reads an inbox.
type reader struct {
	t *testing.T
	w *programs.World
	c *imapclient.Client
}

func newReader(t *testing.T, w *programs.World, b *programs.Bridge) *reader {
	t.Helper()
	c, err := imapclient.DialInsecure(b.IMAP, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	user, password := b.Login(t, "large")
	if err := c.Login(user, password).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	return &reader{t, w, c}
}

// check waits for a mail and compares the hash of its body.
func (r *reader) check(subject string, want [sha256.Size]byte) {
	r.t.Helper()
	var found *imap.SearchData
	r.w.Await("the mail is in the inbox", func() bool {
		var err error
		found, err = r.c.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: subject}}}, nil).Wait()
		if err != nil {
			r.t.Fatal(err)
		}
		return len(found.AllUIDs()) > 0
	})
	fetch := r.c.Fetch(found.All, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Specifier: imap.PartSpecifierText, Peek: true}}})
	defer fetch.Close()
	hash := sha256.New()
	for m := fetch.Next(); m != nil; m = fetch.Next() {
		for item := m.Next(); item != nil; item = m.Next() {
			if body, ok := item.(imapclient.FetchItemDataBodySection); ok {
				if _, err := io.Copy(hash, body.Literal); err != nil {
					r.t.Fatal(err)
				}
			}
		}
	}
	if err := fetch.Close(); err != nil {
		r.t.Fatal(err)
	}
	if [sha256.Size]byte(hash.Sum(nil)) != want {
		r.t.Errorf("the mail %q is another than the one that was sent", subject)
	}
}
