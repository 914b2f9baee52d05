package clients

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Two programs work on one folder, and at the end both sides are the same: nothing is
// lost, nothing is there twice, nothing that was deleted comes back.
func testTogether(t *testing.T, w *world) {
	python, mbsync := find(t, "python3"), find(t, "mbsync")
	const folder, count = "together", 150
	w.bob.create(t, folder)
	config := mbsyncConfig(t, w.bob, mbsync, w.bob.IMAP, folder)
	box := maildir(mbsync.in("Mail", folder))
	mbsync.do(t, "", "-c", config, "asmtp")

	done := make(chan error, 1)
	in := settings(t, pythonSettings{Bob: w.bob.python(t), Folder: folder, Prefix: "together python", Count: count})
	go func() {
		_, err := python.try(t, strings.NewReader(in), script(t, "together.py"))
		done <- err
	}()
	var want []string
	for n, running := 0, true; running; n++ {
		subject := fmt.Sprintf("together local %d", n)
		want = append(want, subject)
		box.add(t, fmt.Sprintf("%d.local", n), "S", letter(subject, "From the other side.\r\n"))
		mbsync.do(t, "", "-c", config, "asmtp")
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
	}
	t.Logf("mbsync ran %d times meanwhile", len(want))
	mbsync.do(t, "", "-c", config, "asmtp")

	for n := range count {
		if n%5 != 0 {
			want = append(want, fmt.Sprintf("together python %d", n))
		}
	}
	checkSubjects(t, w.bob, folder, slices.Clone(want)...)
	there := map[string]message{}
	for _, m := range w.bob.messages(t, folder, "") {
		there[m.subject] = m
	}
	if n := len(box.list(t)); n != len(want) {
		t.Errorf("%d mails are in the Maildir, want %d", n, len(want))
	}
	for _, subject := range want {
		flagged := false
		if number, ok := strings.CutPrefix(subject, "together python "); ok {
			var n int
			fmt.Sscan(number, &n)
			flagged = n%3 == 0
		}
		here := box.find(t, subject)
		if strings.Contains(here.flags, "F") != flagged || there[subject].has(`\Flagged`) != flagged {
			t.Errorf("%q has the flags %q here and %q there; flagged: %v", subject, here.flags, there[subject].flags, flagged)
		}
	}
}
