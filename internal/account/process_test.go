package account_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
)

// TestMain lets the test binary be another process of an account: what it does is in
// the variable, its directory behind a colon.
func TestMain(m *testing.M) {
	if what, dir, ok := strings.Cut(os.Getenv("ASMTP_TEST_PROCESS"), ":"); ok {
		if err := process(what, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const perProcess = 8

func process(what, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := account.Open(ctx, dir, account.Options{ReceiptDelay: -1})
	if err != nil {
		return err
	}
	defer a.Close()
	switch what {
	case "send": // mail after mail, each with its own sync, as commands do
		for i := range perProcess {
			if _, err := a.Send(ctx, account.Draft{To: []string{"bob"}, Text: fmt.Sprint(i)}); err != nil {
				return err
			}
			if _, err := a.Sync(ctx, account.SyncOptions{}); err != nil {
				return err
			}
		}
	case "flood": // until killed; says what is on disk
		for i := 0; ; i++ {
			out, err := a.Send(ctx, account.Draft{To: []string{"bob"}, Text: fmt.Sprint(i)})
			if err != nil {
				return err
			}
			fmt.Println(out[0].ID)
		}
	case "receive": // until killed; says what was shown
		_, err := a.Sync(ctx, account.SyncOptions{Follow: true, OnMail: func(s account.Summary) { fmt.Println(s.ID) }})
		return err
	}
	return nil
}

func start(t *testing.T, what, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ASMTP_TEST_PROCESS="+what+":"+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

// dirs makes alice and bob with known directories at one node.
func dirs(t *testing.T) (alice, bob *account.Account, aliceDir, bobDir string) {
	t.Helper()
	n := startNode(t, nil)
	var list []*account.Account
	var paths []string
	for _, name := range []string{"alice", "bob"} {
		dir := t.TempDir()
		a, err := account.Create(t.Context(), dir, name, options(nil))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
		join(t, n, a)
		list, paths = append(list, a), append(paths, dir)
	}
	acquaint(t, list[0], list[1])
	return list[0], list[1], paths[0], paths[1]
}

// Several processes send and sync with one account at the same time: no error, no mail
// lost, none twice.
func TestProcessesAtOnce(t *testing.T) {
	alice, bob, dir, _ := dirs(t)
	const processes = 3
	var wg sync.WaitGroup
	for range processes {
		cmd := start(t, "send", dir)
		wg.Go(func() {
			if err := cmd.Run(); err != nil {
				t.Errorf("a process failed: %v", err)
			}
		})
	}
	wg.Wait()
	sync1(t, alice)
	if got := sync1(t, bob); len(got) != processes*perProcess {
		t.Errorf("bob got %d mails, want %d", len(got), processes*perProcess)
	}
	sync1(t, alice)
	q, err := alice.Queue(t.Context())
	if err != nil || len(q) != 0 {
		t.Errorf("%d mails are left in the queue (%v), want all delivered", len(q), err)
	}
}

// A sender killed at any moment: every mail that Send returned arrives.
func TestSenderKilled(t *testing.T) {
	alice, bob, dir, _ := dirs(t)
	promised := make(map[string]bool)
	for range 3 {
		for _, id := range killAfter(t, start(t, "flood", dir), 5) {
			promised[id] = true
		}
	}
	sync1(t, alice)
	for _, s := range sync1(t, bob) {
		delete(promised, s.ID.String())
	}
	if len(promised) != 0 {
		t.Errorf("%d mails are lost that Send returned", len(promised))
	}
}

// A receiver killed at any moment shows nothing twice and loses nothing.
func TestReceiverKilled(t *testing.T) {
	alice, bob, _, dir := dirs(t)
	const mails = 40
	for i := range mails {
		send(t, alice, account.Draft{To: []string{"bob"}, Text: fmt.Sprint(i)})
	}
	shown := make(map[string]int)
	sync1(t, alice)
	for range 2 {
		for _, id := range killAfter(t, start(t, "receive", dir), 1) {
			shown[id]++
		}
		if n := len(shown); n == mails {
			break
		}
		send(t, alice, account.Draft{To: []string{"bob"}, Text: "one more"})
		sync1(t, alice)
	}
	for _, s := range sync1(t, bob) {
		shown[s.ID.String()]++
	}
	for id, n := range shown {
		if n > 1 {
			t.Errorf("mail %s was shown %d times", id, n)
		}
	}
	if list := inboxOf(t, bob); len(list) < mails {
		t.Errorf("the inbox has %d mails, want at least %d", len(list), mails)
	}
	sync1(t, alice)
	if q, err := alice.Queue(t.Context()); err != nil || len(q) != 0 {
		t.Errorf("%d mails have no receipt (%v)", len(q), err)
	}
}

// killAfter runs cmd, kills it after some lines, and returns the lines it wrote.
func killAfter(t *testing.T, cmd *exec.Cmd, lines int) []string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	var got []string
	s := bufio.NewScanner(out)
	for s.Scan() {
		if got = append(got, s.Text()); len(got) == lines {
			cmd.Process.Kill()
		}
	}
	if len(got) < lines {
		t.Fatalf("the process wrote %d lines, want %d", len(got), lines)
	}
	cmd.Wait() // it was killed
	return got
}
