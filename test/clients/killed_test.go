package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// between listens for programs and passes what they say on to the bridge, and the
// other way, until watch says that the moment has come. What watch was shown is passed on
// first; then act is called, once, and the connections end.
func between(t *testing.T, target string, watch func(fromProgram bool, b []byte) bool, act func()) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	var mu sync.Mutex // around watch and act
	acted := false
	pass := func(from, to net.Conn, fromProgram bool) {
		defer from.Close()
		defer to.Close()
		for b := make([]byte, 32<<10); ; {
			n, err := from.Read(b)
			if err != nil {
				return
			}
			mu.Lock()
			now := !acted && watch(fromProgram, b[:n])
			_, err = to.Write(b[:n])
			if now {
				acted = true
				act()
			}
			over := acted
			mu.Unlock()
			if over || err != nil {
				return
			}
		}
	}
	all.Go(func() {
		for {
			program, err := l.Accept()
			if err != nil {
				return
			}
			bridge, err := net.Dial("tcp", target)
			if err != nil {
				program.Close()
				continue
			}
			all.Go(func() { pass(program, bridge, true) })
			all.Go(func() { pass(bridge, program, false) })
		}
	})
	return l.Addr().String()
}

// after is for [between]: so many bytes went one way.
func after(limit int, fromProgram bool) func(bool, []byte) bool {
	passed := 0
	return func(way bool, b []byte) bool {
		if way == fromProgram {
			passed += len(b)
		}
		return passed >= limit
	}
}

// The bridge is killed while a program downloads. After a restart everything has the UID
// that it had, and the program goes on as if nothing had been.
func testKilledDownload(t *testing.T, w *world) {
	mbsync, curl := find(t, "mbsync"), find(t, "curl")
	const folder, large = "killed", "killed large"
	w.bob.create(t, folder)
	content := bytes.Repeat([]byte(sum(random(32))+"\r\n"), 20<<20/66)
	want := map[string]string{large: sum(content)}
	for n := range 40 {
		if n == 20 {
			w.bob.append(t, folder, letter(large, string(content)))
		}
		subject, text := fmt.Sprintf("killed %d", n), fmt.Sprintf("Mail %d.\r\n", n)
		want[subject] = sum([]byte(text))
		w.bob.append(t, folder, letter(subject, text))
	}
	w.bob.store(t, folder, w.bob.await(t, folder, "killed 3"), `+FLAGS (\Flagged kept)`)
	w.bob.store(t, folder, w.bob.await(t, folder, large), `+FLAGS (\Answered \Seen)`) // fetching it sets \Seen
	validity, uids := w.bob.uids(t, folder)
	check := func(what string) {
		t.Helper()
		if v, u := w.bob.uids(t, folder); v != validity || !maps.Equal(u, uids) {
			t.Errorf("after a restart in the middle of %s: UIDVALIDITY %s, UIDs %v\nbefore: %s, %v", what, v, u, validity, uids)
		}
	}

	config := mbsyncConfig(t, w.bob, mbsync, between(t, w.bob.IMAP, after(8<<20, false), w.bob.Kill), folder)
	if out, err := mbsync.try(t, nil, "-c", config, "asmtp"); err == nil {
		t.Errorf("mbsync did not see that the bridge was killed:\n%s", out)
	}
	w.bob.Start(t)
	check("mbsync")
	mbsync.do(t, "", "-c", mbsyncConfig(t, w.bob, mbsync, w.bob.IMAP, folder), "asmtp")
	box := maildir(mbsync.in("Mail", folder))
	if n := len(box.list(t)); n != len(want) {
		t.Errorf("%d mails are in the Maildir, want %d", n, len(want))
	}
	for subject, hash := range want {
		if got := sum(body(t, box.find(t, subject).content(t))); got != hash {
			t.Errorf("%q came with SHA-256 %s, want %s", subject, got, hash)
		}
	}

	user, password := w.bob.Login(t, "curl")
	path := "/" + folder + ";UID=" + w.bob.await(t, folder, large).uid + ";SECTION=TEXT"
	fetch := func(address string) (string, error) {
		return curl.try(t, nil, "-sS", "imap://"+address+path, "-u", user+":"+password)
	}
	if _, err := fetch(between(t, w.bob.IMAP, after(8<<20, false), w.bob.Kill)); err == nil {
		t.Error("curl did not see that the bridge was killed")
	}
	w.bob.Start(t)
	check("curl")
	if out, err := fetch(w.bob.IMAP); err != nil || sum([]byte(out)) != want[large] {
		t.Errorf("curl fetched %d bytes, SHA-256 %s, want %s: %v", len(out), sum([]byte(out)), want[large], err)
	}
}

// The bridge is killed while a program submits. What was answered with 250 arrives once;
// what was not is sent again, and arrives once too.
func testKilledSubmission(t *testing.T, w *world) {
	python := find(t, "python3")
	const size = 100_000
	queued := func() func(bool, []byte) bool { // in the moment of the third answer
		n := 0
		return func(fromProgram bool, b []byte) bool {
			if !fromProgram && bytes.Contains(b, []byte("250 2.0.0 queued")) {
				n++
			}
			return n == 3
		}
	}
	for _, c := range []struct {
		name  string
		watch func(bool, []byte) bool
		least int // answers
	}{
		{"first mail", after(size/2, true), 0},
		{"fifth mail", after(4*size+size/2, true), 4},
		{"third answer", queued(), 2},
	} {
		prefix := "submitted, killed in the " + c.name
		validity, uids := w.alice.uids(t, "Sent")
		var all []int
		for n := range 8 {
			all = append(all, n)
		}
		left, answered := submit(t, w, python, between(t, w.alice.SMTP, c.watch, w.alice.Kill), prefix, all)
		w.alice.Start(t)
		if len(left) == 0 || answered < c.least {
			t.Errorf("%s: %d mails were answered", c.name, answered)
		}
		if c.name == "third answer" {
			// The program may not have seen the answer, so it cannot know what to do.
			left = left[slices.Index(left, max(left[0], 3)):]
		}
		if rest, _ := submit(t, w, python, w.alice.SMTP, prefix, left); len(rest) > 0 {
			t.Errorf("%s: after a restart %v could not be sent", c.name, rest)
		}
		for _, n := range all {
			subject := fmt.Sprintf("%s %d", prefix, n)
			m := w.bob.await(t, "INBOX", subject)
			sent := w.alice.await(t, "Sent", subject)
			want := body(t, w.alice.raw(t, "Sent", sent.uid))
			if len(want) < size {
				t.Errorf("%q has %d bytes", subject, len(want))
			}
			w.bob.checkBody(t, "INBOX", m, want)
		}
		if got := len(w.bob.messages(t, "INBOX", prefix)); got != len(all) {
			t.Errorf("%s: %d mails arrived, want %d", c.name, got, len(all))
		}
		v, now := w.alice.uids(t, "Sent")
		for uid, what := range uids {
			if now[uid] != what || v != validity {
				t.Errorf("%s: UID %s of Sent is %q, was %q; UIDVALIDITY %s, was %s", c.name, uid, now[uid], what, v, validity)
			}
		}
	}
}

// submit sends these mails and returns those that were not answered, and how many were.
func submit(t *testing.T, w *world, python *tool, address, prefix string, numbers []int) (left []int, answered int) {
	t.Helper()
	alice := w.alice.python(t)
	alice.SMTP = address
	in := settings(t, pythonSettings{Alice: alice, Bob: w.bob.python(t), Prefix: prefix, Numbers: numbers})
	out := python.do(t, in, script(t, "submit.py"))
	left = slices.Clone(numbers)
	for line := range strings.Lines(out) {
		var a struct{ Number *int }
		if json.Unmarshal([]byte(line), &a) != nil || a.Number == nil {
			continue // how it ended
		}
		answered++
		left = slices.DeleteFunc(left, func(n int) bool { return n == *a.Number })
	}
	return left, answered
}
