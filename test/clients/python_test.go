package clients

import (
	crand "crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// pythonSettings is what the scripts in testdata want to know.
type pythonSettings struct {
	Alice      pythonPerson `json:"alice"`
	Bob        pythonPerson `json:"bob"`
	Attachment string       `json:"attachment,omitempty"`
	Folder     string       `json:"folder,omitempty"`
	Prefix     string       `json:"prefix,omitempty"`
	Count      int          `json:"count,omitempty"`
	Numbers    []int        `json:"numbers,omitempty"`
}

type pythonPerson struct {
	IMAP        string `json:"imap"`
	SMTP        string `json:"smtp"`
	User        string `json:"user"`
	Password    string `json:"password"`
	Address     string `json:"address"`
	Certificate string `json:"certificate"`
}

func (p *person) python(t testing.TB) pythonPerson {
	t.Helper()
	user, password := p.Login(t, "python")
	return pythonPerson{p.IMAP, p.SMTP, user, password, p.address, p.Certificate()}
}

// script returns the path of a script, which runs in another folder.
func script(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// settings returns them as a script reads them.
func settings(t testing.TB, s pythonSettings) string {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// random returns content that nothing can make smaller.
func random(size int) []byte {
	content := make([]byte, size)
	crand.Read(content)
	return content
}

func testPython(t *testing.T, w *world, python *tool) {
	content := random(20 << 20)
	attachment := python.in("attachment")
	if err := os.WriteFile(attachment, content, 0o600); err != nil {
		t.Fatal(err)
	}
	out := python.do(t, settings(t, pythonSettings{Alice: w.alice.python(t), Bob: w.bob.python(t), Attachment: attachment}), script(t, "mail.py"))
	var seen struct {
		One, Two, Text, Appended, Attachment, Part string
		FullText                                   []string `json:"full text"`
		UTF8                                       []string `json:"utf-8"`
		CJK, Nothing, Flagged                      []string
		Idle                                       float64
	}
	if err := json.Unmarshal([]byte(out), &seen); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, c := range []struct {
		what      string
		got, want []string
	}{
		{"full text", seen.FullText, []string{seen.One}},
		{"UTF-8", seen.UTF8, []string{seen.Two}},
		{"Japanese", seen.CJK, []string{seen.Two}},
		{"what is nowhere", seen.Nothing, []string{}},
		{"flags and keywords", seen.Flagged, []string{seen.One}},
		{"the text", []string{seen.Text}, []string{"Viele Grüße aus Zürich, 東京 auch.\n"}},
		{"the attachment", []string{seen.Attachment, seen.Part}, []string{sum(content), sum(content)}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}
	t.Logf("a program that waits by IDLE knew of a mail %.0f ms after its sending began", seen.Idle*1000)

	inbox := w.bob.await(t, "INBOX", "python text")
	checkFlags(t, inbox, `\Seen`, `\Flagged`, "$Forwarded", "holiday")
	w.bob.checkBody(t, "INBOX", inbox, []byte("The ferry leaves at noon.\r\n"))
	checkFlags(t, w.bob.await(t, "python", "python text"), `\Seen`, `\Flagged`, "$Forwarded", "holiday")
	appended := w.bob.await(t, "python", "python appended")
	checkFlags(t, appended, `\Seen`, `\Draft`)
	if got := sum(body(t, w.bob.raw(t, "python", appended.uid))); got != seen.Appended {
		t.Errorf("what was appended has SHA-256 %s, want %s", got, seen.Appended)
	}
	checkSubjects(t, w.bob, "python", "python text", "python grüße", "python appended", "python doomed 2")
	checkSubjects(t, w.bob, "python/moved", "python grüße")
	if len(w.bob.messages(t, "INBOX", "python grüße")) > 0 {
		t.Error("a mail that was moved is in the inbox")
	}
}

// checkFlags looks whether a mail has just these flags.
func checkFlags(t testing.TB, m message, want ...string) {
	t.Helper()
	got := slices.DeleteFunc(slices.Clone(m.flags), func(f string) bool { return f == `\Recent` })
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%q has the flags %q, want %q", m.subject, got, want)
	}
}

// checkSubjects looks whether a folder has just these mails, each once.
func checkSubjects(t testing.TB, p *person, folder string, want ...string) {
	t.Helper()
	var got []string
	for _, m := range p.messages(t, folder, "") {
		got = append(got, m.subject)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s of %s has %q, want %q", folder, p.name, got, want)
	}
}
