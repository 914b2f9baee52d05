package account_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
)

func folder(t *testing.T, a *account.Account, name string) account.Folder {
	t.Helper()
	f, err := a.FolderNamed(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func file(t *testing.T, a *account.Account, f account.Folder, text string) uint32 {
	t.Helper()
	uid, err := a.Append(t.Context(), account.Filing{Folder: f.ID}, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return uid
}

// watcher follows a folder by its changes alone.
type watcher struct {
	at   uint64
	rows map[uint32]account.Place
}

func (w *watcher) catchUp(t *testing.T, a *account.Account, folder int64) {
	t.Helper()
	c, err := a.FolderChanges(t.Context(), folder, w.at)
	if err != nil {
		t.Fatal(err)
	}
	if c.Reset || w.rows == nil {
		w.rows = make(map[uint32]account.Place)
	}
	for _, p := range c.Places {
		w.rows[p.UID] = p
	}
	for _, uid := range c.Expunged {
		delete(w.rows, uid)
	}
	w.at = c.At
}

// Whoever applies the changes of a folder, whenever and by whichever handle they were
// made, has what a fresh look shows; no UID is given twice.
func TestFolderChangesMissNothing(t *testing.T) {
	one := create(t, nil, "alice")
	two, err := account.Open(t.Context(), one.Dir(), options(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { two.Close() })
	both := []*account.Account{one, two}
	seed := mrand.Uint64()
	t.Logf("seed %d", seed)
	r := mrand.New(mrand.NewPCG(seed, 0))
	folders := []account.Folder{folder(t, one, "INBOX"), folder(t, one, "Archive")}
	watchers := [2]watcher{}
	given := make(map[string]bool)
	for step := range 120 {
		a, i := both[r.IntN(2)], r.IntN(2)
		here, there := folders[i], folders[1-i]
		var some []uint32
		for uid := range watchers[i].rows {
			if r.IntN(3) == 0 {
				some = append(some, uid)
			}
		}
		slices.Sort(some)
		var fresh []uint32
		in := here
		var err error
		switch r.IntN(7) {
		case 0, 1:
			fresh = []uint32{file(t, a, here, fmt.Sprintf("Subject: %d\r\n\r\ntext\r\n", step))}
		case 2:
			err = a.ChangeFlags(t.Context(), here.ID, some, account.FlagChange(r.IntN(3)), account.Flag(r.IntN(32)), []string{"$Junk", "own"}[:r.IntN(3)])
		case 3:
			_, fresh, err = a.CopyPlaces(t.Context(), here.ID, there.ID, some)
			in = there
		case 4:
			_, fresh, err = a.MovePlaces(t.Context(), here.ID, there.ID, some)
			in = there
		case 5:
			_, err = a.Expunge(t.Context(), here.ID, some)
		case 6:
			_, fresh, err = a.CopyPlaces(t.Context(), here.ID, here.ID, some)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, uid := range fresh {
			key := fmt.Sprint(in.ID, uid)
			if given[key] {
				t.Fatalf("step %d: UID %d of %s was given twice", step, uid, in.Name)
			}
			given[key] = true
		}
		for j := range watchers {
			if r.IntN(2) == 0 && step < 119 {
				continue
			}
			watchers[j].catchUp(t, both[r.IntN(2)], folders[j].ID)
			var truth watcher
			truth.catchUp(t, one, folders[j].ID)
			if fmt.Sprint(truth.rows) != fmt.Sprint(watchers[j].rows) {
				t.Fatalf("step %d: %s has\n%v\nthe reader\n%v", step, folders[j].Name, truth.rows, watchers[j].rows)
			}
		}
	}
}

// A reader that stayed away longer than removals are remembered is told so.
func TestFolderChangesResets(t *testing.T) {
	a := create(t, nil, "alice")
	in := folder(t, a, "INBOX")
	file(t, a, in, "Subject: stays\r\n\r\n")
	var w watcher
	w.catchUp(t, a, in.ID)
	file(t, a, in, "Subject: goes\r\n\r\n")
	w.catchUp(t, a, in.ID)
	if err := a.Exec(t.Context(), "UPDATE folders SET forgotten = 1000"); err != nil {
		t.Fatal(err)
	}
	if err := a.Exec(t.Context(), "UPDATE meta SET value = x'00000000000003e9' WHERE key = 'change'"); err != nil {
		t.Fatal(err)
	}
	c, err := a.FolderChanges(t.Context(), in.ID, w.at)
	if err != nil || !c.Reset || len(c.Places) != 2 {
		t.Errorf("changes are %+v, %v; want a reset", c, err)
	}
}

// UIDs that come after a pause are higher than those that a database, which a backup
// replaced, may have given meanwhile.
func TestUIDsAfterARestoreAreOthers(t *testing.T) {
	c := new(clock)
	a := create(t, c, "alice")
	in := folder(t, a, "INBOX")
	first := file(t, a, in, "Subject: one\r\n\r\n")
	second := file(t, a, in, "Subject: two\r\n\r\n")
	if first != 1 || second != 2 {
		t.Fatalf("UIDs are %d and %d", first, second)
	}
	c.Add(time.Hour)
	if uid := file(t, a, in, "Subject: three\r\n\r\n"); uid < 3600 {
		t.Errorf("an hour later the UID is %d, want at least 3600", uid)
	}
}

// Messages come back byte for byte: as a whole, in pieces, from behind, small and large.
func TestAppendKeepsEveryByte(t *testing.T) {
	a := create(t, nil, "alice")
	in := folder(t, a, "Drafts")
	noise := make([]byte, 3<<20)
	rand.Read(noise)
	for name, text := range map[string]string{
		"empty": "", "no header": "\r\nbody", "header only": "Subject: x\r\n", "odd": "Subject: a\nX: \x00\x80\r\n\rb\n\n\x00 body \r",
		"text": "Subject: x\r\n\r\n" + strings.Repeat("line\r\n", 1000), "two parts": "Subject: x\r\n\r\n" + string(noise[:200<<10]),
		"large": "Subject: x\r\n\r\n" + string(noise), "no end of header": strings.Repeat("x", 300<<10),
	} {
		t.Run(name, func(t *testing.T) {
			uid := file(t, a, in, text)
			m, err := a.OpenPlace(t.Context(), in.ID, uid)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if m.Size() != int64(len(text)) || !strings.HasPrefix(text, string(m.Header())) {
				t.Errorf("size %d of %d, header %q", m.Size(), len(text), m.Header())
			}
			for _, at := range []int{0, len(text) / 2, len(text) / 3, len(text)} {
				if err := m.SkipTo(int64(at)); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(m); err != nil || string(got) != text[at:] {
					t.Errorf("from %d: %d bytes that differ, %v", at, len(got), err)
				}
			}
			err = a.ReadPlaces(t.Context(), in.ID, []uint32{uid}, true, func(p account.Place, header, body []byte) error {
				if body == nil != (len(text) > 256<<10) || body != nil && string(body) != text || !bytes.Equal(header, m.Header()) {
					t.Errorf("ReadPlaces gives %d bytes, header %q", len(body), header)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	m, err := a.OpenPlace(t.Context(), in.ID, file(t, a, in, "text, no field\r\n\r\nbody"))
	if err != nil || len(m.Header()) != 0 {
		t.Errorf("a message that begins with text has the header %q, %v", m.Header(), err)
	}
	if _, err := a.Append(t.Context(), account.Filing{Folder: in.ID}, io.LimitReader(zeros{}, 51<<20)); !errors.As(err, new(*account.SizeError)) {
		t.Errorf("51 MiB give %v", err)
	}
	if n, err := a.Count(t.Context(), "SELECT count(*) FROM mails WHERE id IS NULL"); err != nil || n != 0 {
		t.Errorf("%d mails are left over, %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A text is found wherever it stands, without regard to case and accents, and only there.
func TestSearchFindsSubstrings(t *testing.T) {
	a := create(t, nil, "alice")
	in := folder(t, a, "INBOX")
	one := file(t, a, in, "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from\r\n afar\r\n\r\nHello \"World\", x=1\r\n")
	two := file(t, a, in, "Subject: other\r\nX-Field: afar\r\n\r\nworldly Grusse ab\r\n")
	for _, test := range []struct {
		text string
		body bool
		want []uint32
	}{
		{"world", true, []uint32{one, two}}, {`"WORLD"`, true, []uint32{one}}, {"grüße", false, []uint32{one}}, {"Grusse", false, []uint32{two}},
		{"afar", false, []uint32{one, two}}, {"afar", true, nil}, {"from afar", false, []uint32{one}}, {"ab", true, []uint32{two}},
		{"lo w", true, nil}, {"", true, []uint32{one, two}}, {"wor rld", true, nil},
	} {
		got, err := a.SearchFolder(t.Context(), in.ID, account.TextQuery{Text: test.text, BodyOnly: test.body})
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%q, body only %v: %v, %v; want %v", test.text, test.body, got, err, test.want)
		}
	}
}

// A copy that a program files of what it sent is the one that is there, in either order.
func TestSentCopyIsThereOnce(t *testing.T) {
	for _, first := range []string{"sending", "filing"} {
		t.Run(first, func(t *testing.T) {
			alice, bob := create(t, nil, "alice"), create(t, nil, "bob")
			acquaint(t, alice, bob)
			in := folder(t, alice, "Sent")
			const text = "To: bob@asmtp\r\nMessage-ID: <1@here>\r\nSubject: x\r\n\r\nbody\r\n"
			transmit := func() { send(t, alice, account.Draft{Raw: strings.NewReader(text)}) }
			if first == "sending" {
				transmit()
				file(t, alice, in, text)
			} else {
				file(t, alice, in, text)
				transmit()
			}
			if s, err := alice.FolderStatus(t.Context(), in.ID); err != nil || s.Messages != 1 {
				t.Errorf("Sent has %d messages, %v", s.Messages, err)
			}
			if q, err := alice.Queue(t.Context()); err != nil || len(q) != 1 {
				t.Errorf("queue is %+v, %v", q, err)
			}
		})
	}
}

// What mail programs and commands say of a mail is one truth.
func TestOneTruthForCommandsAndFolders(t *testing.T) {
	a := create(t, nil, "alice")
	in := folder(t, a, "INBOX")
	uid := file(t, a, in, "From: X <x@example>\r\nSubject: x\r\n\r\n")
	list := inboxOf(t, a)
	if len(list) != 1 || list[0].Read || list[0].From != "X <x@example>" {
		t.Fatalf("inbox is %+v", list)
	}
	if err := a.MarkRead(t.Context(), list[0].ID, true); err != nil {
		t.Fatal(err)
	}
	var w watcher
	w.catchUp(t, a, in.ID)
	if w.rows[uid].Flags != account.FlagSeen {
		t.Errorf("the folder says %+v", w.rows)
	}
	if err := a.ChangeFlags(t.Context(), in.ID, []uint32{uid}, account.SetFlags, account.FlagDeleted, nil); err != nil {
		t.Fatal(err)
	}
	if list := inboxOf(t, a); len(list) != 1 || list[0].Read {
		t.Errorf("inbox is %+v", list)
	}
	copied, _, err := a.CopyPlaces(t.Context(), in.ID, folder(t, a, "Trash").ID, []uint32{uid})
	if err != nil || len(copied) != 1 {
		t.Fatal(copied, err)
	}
	if _, err := a.Expunge(t.Context(), in.ID, nil); err != nil {
		t.Fatal(err)
	}
	if len(inboxOf(t, a)) != 0 {
		t.Error("the expunged mail is in the inbox")
	}
	if _, err := a.Mail(t.Context(), list[0].ID); err != nil {
		t.Errorf("the copy in Trash: %v", err)
	}
	if err := a.Delete(t.Context(), list[0].ID); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Count(t.Context(), "SELECT (SELECT count(*) FROM body) + (SELECT count(*) FROM places)"); err != nil || n != 0 {
		t.Errorf("%d rows are left, %v", n, err)
	}
}

// Writes that share a transaction do not touch each other: those that fail, or whose
// caller gave up, leave nothing behind, and the others are there.
func TestSharedCommitKeepsWritesApart(t *testing.T) {
	a := create(t, nil, "alice")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	wrong := errors.New("wrong")
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			ctx, want := t.Context(), error(nil)
			switch i % 3 {
			case 1:
				want = wrong
			case 2:
				ctx, want = gone, context.Canceled
			}
			if err := a.Write(ctx, fmt.Sprintf("INSERT INTO meta VALUES ('test %d', x'')", i), want); !errors.Is(err, want) {
				t.Errorf("write %d: %v, want %v", i, err, want)
			}
		})
	}
	wg.Wait()
	if n, err := a.Count(t.Context(), "SELECT count(*) FROM meta WHERE key LIKE 'test %'"); err != nil || n != 20 {
		t.Errorf("%d rows, %v; want 20", n, err)
	}
}

func TestPasswords(t *testing.T) {
	a := create(t, nil, "alice")
	first, err := a.MakePassword(t.Context(), "phone")
	if err != nil {
		t.Fatal(err)
	}
	other, err := a.MakePassword(t.Context(), "laptop")
	if err != nil || other == first {
		t.Fatal(err)
	}
	check := func(password, want string) {
		t.Helper()
		if p, ok, err := a.CheckPassword(t.Context(), password); err != nil || ok != (want != "") || p.Name != want {
			t.Errorf("%q is of %q, %v, %v; want %q", password, p.Name, ok, err, want)
		}
	}
	check(first, "phone")
	check(strings.ToUpper(strings.ReplaceAll(other, "-", " ")), "laptop")
	check("", "")
	check(first[:len(first)-1], "")
	check(strings.Repeat("x", 1<<20), "")
	if err := a.RevokePassword(t.Context(), "phone"); err != nil {
		t.Fatal(err)
	}
	check(first, "")
	wantError(t, a.RevokePassword(t.Context(), "phone"), account.ErrNotFound)
	if list, err := a.Passwords(t.Context()); err != nil || len(list) != 1 || list[0].Name != "laptop" || list[0].Used.IsZero() {
		t.Errorf("passwords are %+v, %v", list, err)
	}
	for _, name := range []string{"", "a\nb", strings.Repeat("x", 65)} {
		if _, err := a.MakePassword(t.Context(), name); err == nil {
			t.Errorf("a password named %q was made", name)
		}
	}
}

// What arrives is presented with the sender's true address, by the reader's name for it,
// and the body byte for byte; what was sent is presented with the sender's own names.
func TestPresentedHeader(t *testing.T) {
	_, alice, bob := pair(t, nil)
	const body = "\x00 body\r\n\n\x80\r\n"
	send(t, alice, account.Draft{Raw: strings.NewReader("From: Alice <alice@asmtp>\r\nTo: bob@asmtp\r\nX-Odd:  kept\r\n\r\n" + body)})
	sync1(t, alice)
	if len(sync1(t, bob)) != 1 {
		t.Fatal("no mail came")
	}
	for _, test := range []struct {
		a      *account.Account
		folder string
		want   []string
	}{
		{bob, "INBOX", []string{"Authentication-Results: asmtp; passport=pass (" + alice.ID().String() + ")\r\n", "From: Alice <alice@asmtp>\r\n", "To: \"bob\" <bob@asmtp>\r\n", "X-Odd:  kept\r\n"}},
		{alice, "Sent", []string{"To: \"bob\" <bob@asmtp>\r\n", "X-Odd:  kept\r\n"}},
	} {
		f := folder(t, test.a, test.folder)
		err := test.a.ReadPlaces(t.Context(), f.ID, []uint32{1}, true, func(p account.Place, header, whole []byte) error {
			for _, want := range test.want {
				if !strings.Contains(string(header), want) {
					t.Errorf("%s lacks %q:\n%s", test.folder, want, header)
				}
			}
			if string(whole) != string(header)+body || p.Size != int64(len(whole)) {
				t.Errorf("%s: size %d, message %q", test.folder, p.Size, whole)
			}
			m, err := test.a.OpenPlace(t.Context(), f.ID, 1)
			if err != nil {
				return err
			}
			defer m.Close()
			if got, err := io.ReadAll(m); err != nil || string(got) != string(whole) {
				t.Errorf("in pieces %q, %v", got, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// What is asked of a folder that another program deleted is an error, not done.
func TestGoneFolderIsAnError(t *testing.T) {
	_, a, _ := pair(t, new(clock))
	ctx := t.Context()
	f, err := a.CreateFolder(ctx, "Short")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.DeleteFolder(ctx, "Short"); err != nil {
		t.Fatal(err)
	}
	if err := a.ChangeFlags(ctx, f.ID, []uint32{1}, account.AddFlags, account.FlagSeen, nil); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("flags: %v", err)
	}
	if _, err := a.Expunge(ctx, f.ID, nil); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("expunge: %v", err)
	}
	if _, _, err := a.MovePlaces(ctx, f.ID, folder(t, a, "Trash").ID, nil); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("move: %v", err)
	}
}
