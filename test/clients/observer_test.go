package clients

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// observer is an IMAP client that knows just what the test needs, so that what a program
// did is seen by something that shares no code with it nor with the bridge.
type observer struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

// message is a mail in a folder.
type message struct {
	uid     string
	flags   []string
	subject string
}

func (m message) has(flag string) bool { return slices.Contains(m.flags, flag) }

// answer is an answer of the server; literals stand apart from its text.
type answer struct {
	text     string
	literals [][]byte
}

// observe logs in.
func (p *person) observe(t testing.TB) *observer {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.IMAP, patience)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(2 * patience))
	o := &observer{t, conn, bufio.NewReaderSize(conn, 64<<10)}
	o.read() // the greeting
	o.do("LOGIN %q %q", p.user, p.password)
	return o
}

func (o *observer) close() { o.conn.Close() }

// do sends a command and returns what was answered before the final OK.
func (o *observer) do(format string, args ...any) (list []answer) {
	o.t.Helper()
	command := fmt.Sprintf(format, args...)
	if _, err := fmt.Fprintf(o.conn, "o %s\r\n", command); err != nil {
		o.t.Fatal(err)
	}
	for {
		a := o.read()
		if rest, ok := strings.CutPrefix(a.text, "o "); ok {
			if !strings.HasPrefix(rest, "OK") {
				o.t.Fatalf("%.200s: %s", command, rest)
			}
			return list
		}
		list = append(list, a)
	}
}

var literal = regexp.MustCompile(`\{(\d+)\}\r\n$`)

func (o *observer) read() (a answer) {
	o.t.Helper()
	for {
		line, err := o.in.ReadString('\n')
		if err != nil {
			o.t.Fatalf("the observer reads: %v", err)
		}
		a.text += line
		m := literal.FindStringSubmatch(line)
		if m == nil {
			return a
		}
		n, _ := strconv.Atoi(m[1]) // digits; io.ReadFull fails if it is wrong
		content := make([]byte, n)
		if _, err := io.ReadFull(o.in, content); err != nil {
			o.t.Fatalf("the observer reads: %v", err)
		}
		a.literals = append(a.literals, content)
	}
}

var (
	uidItem      = regexp.MustCompile(`UID (\d+)`)
	flagsItem    = regexp.MustCompile(`FLAGS \(([^)]*)\)`)
	validityItem = regexp.MustCompile(`UIDVALIDITY (\d+)`)
	subjectField = regexp.MustCompile(`(?i)^subject: *(.*?)\r\n`)
)

// list returns the mails of a folder.
func (o *observer) list(folder string) (list []message) {
	o.t.Helper()
	o.do("EXAMINE %q", folder)
	for _, a := range o.do("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])") {
		uid, flags := uidItem.FindStringSubmatch(a.text), flagsItem.FindStringSubmatch(a.text)
		if uid == nil || flags == nil || len(a.literals) != 1 {
			continue // news of something else
		}
		m := message{uid: uid[1], flags: strings.Fields(flags[1])}
		if s := subjectField.FindSubmatch(a.literals[0]); s != nil {
			m.subject = decode(string(s[1]))
		}
		list = append(list, m)
	}
	return list
}

// decode decodes a subject as RFC 2047 has it: programs choose between its encodings.
func decode(subject string) string {
	if decoded, err := new(mime.WordDecoder).DecodeHeader(subject); err == nil {
		return decoded
	}
	return subject
}

// messages returns the mails of a folder whose subject begins with prefix.
func (p *person) messages(t testing.TB, folder, prefix string) (list []message) {
	t.Helper()
	o := p.observe(t)
	defer o.close()
	for _, m := range o.list(folder) {
		if strings.HasPrefix(m.subject, prefix) {
			list = append(list, m)
		}
	}
	return list
}

// await waits for the mail with a subject. There may be one.
func (p *person) await(t testing.TB, folder, subject string) message {
	t.Helper()
	var found []message
	o := p.observe(t)
	defer o.close()
	await(t, fmt.Sprintf("%s has %q in %s", p.name, subject, folder), func() bool {
		found = slices.DeleteFunc(o.list(folder), func(m message) bool { return m.subject != subject })
		return len(found) > 0
	})
	if len(found) > 1 {
		t.Errorf("%s has %q in %s %d times", p.name, subject, folder, len(found))
	}
	return found[0]
}

// raw returns a mail as it is.
func (p *person) raw(t testing.TB, folder, uid string) []byte {
	t.Helper()
	o := p.observe(t)
	defer o.close()
	o.do("EXAMINE %q", folder)
	for _, a := range o.do("UID FETCH %s (BODY.PEEK[])", uid) {
		if len(a.literals) == 1 {
			return a.literals[0]
		}
	}
	t.Fatalf("%s has no mail %s in %s", p.name, uid, folder)
	return nil
}

// uids returns UIDVALIDITY and the UIDs of a folder, with the subjects and flags.
func (p *person) uids(t testing.TB, folder string) (validity string, uids map[string]string) {
	t.Helper()
	o := p.observe(t)
	defer o.close()
	for _, a := range o.do("EXAMINE %q", folder) {
		if m := validityItem.FindStringSubmatch(a.text); m != nil {
			validity = m[1]
		}
	}
	uids = map[string]string{}
	for _, m := range o.list(folder) {
		slices.Sort(m.flags)
		uids[m.uid] = m.subject + " " + strings.Join(m.flags, " ")
	}
	return validity, uids
}

// create makes a folder.
func (p *person) create(t testing.TB, folder string) {
	t.Helper()
	o := p.observe(t)
	defer o.close()
	o.do("CREATE %q", folder)
}

// append puts a mail into a folder.
func (p *person) append(t testing.TB, folder, mail string) {
	t.Helper()
	o := p.observe(t)
	defer o.close()
	o.do("APPEND %q {%d+}\r\n%s", folder, len(mail), mail)
}

// store changes flags.
func (p *person) store(t testing.TB, folder string, m message, change string) {
	t.Helper()
	o := p.observe(t)
	defer o.close()
	o.do("SELECT %q", folder)
	o.do("UID STORE %s %s", m.uid, change)
}

// body returns what follows the header.
func body(t testing.TB, mail []byte) []byte {
	t.Helper()
	_, b, ok := bytes.Cut(mail, []byte("\r\n\r\n"))
	if !ok {
		t.Fatalf("a mail without a body: %.200q", mail)
	}
	return b
}

// sum is the SHA-256 in hex.
func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

// checkBody compares the body of a mail with what was sent, byte for byte.
func (p *person) checkBody(t testing.TB, folder string, m message, want []byte) {
	t.Helper()
	if got := body(t, p.raw(t, folder, m.uid)); sum(got) != sum(want) {
		t.Errorf("%q of %s has a body with SHA-256 %s, want %s\ngot  %.300q\nwant %.300q", m.subject, p.name, sum(got), sum(want), got, want)
	}
}
