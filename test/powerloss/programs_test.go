//go:build linux

package powerloss

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/test/powerloss/load"
)

// Both programs at work on one disk: asmtpd, commands that send one mail after the other,
// one that follows. What any of them said before the power went is true afterwards.
func TestProgramsLoseNothing(t *testing.T) {
	need(t)
	t.Parallel()
	promises := 0
	for run, l := range programRuns(t, sound, runs, &promises) {
		l.report(t, run)
	}
	t.Logf("%d promises in %d runs", promises, runs)
}

// Without syncs the same test finds that mail is lost.
func TestProgramsWithoutSyncLoseMail(t *testing.T) {
	need(t)
	t.Parallel()
	promises := 0
	all := programRuns(t, unsynced, unsafeRuns, &promises)
	wantLosses(t, all, promises)
}

func programRuns(t *testing.T, k kind, n int, promises *int) (lost []losses) {
	r := random(t)
	d := newDisk(t, 512<<20)
	w := &world{t: t, d: d, asmtpd: program(t, "asmtpd", k), cli: program(t, "asmtp-cli", k)}
	for run := range n {
		if w.mails == nil {
			w.mails = newMails(filepath.Join(d.root, fmt.Sprint(run)))
			w.create()
			if k != sound { // the losses looked for are those of mail
				d.command("sync", "-f", d.root)
			}
		} else {
			w.up()
		}
		first, stop := w.flow()
		if k != sound || r.IntN(5) > 0 {
			select {
			case <-first:
			case <-time.After(patience):
				t.Fatal("no mail is sent")
			}
		}
		sleep(r, 400*time.Millisecond)
		began := d.cut()
		w.node.kill()
		said := printedBefore(t, began, stop())
		d.restart()
		*promises += w.mails.promised(t, said)
		l := w.mails.check(nil)
		if len(l) == 0 {
			l = w.checkArrived()
		}
		lost = append(lost, l)
		if len(l) > 0 {
			w.mails = nil
		}
	}
	return lost
}

// world is a node and two accounts on a disk.
type world struct {
	t           *testing.T
	d           *disk
	asmtpd, cli string
	mails       *mails
	node        *process
	listen      string // the address of the node
}

// run runs a program to its end.
func (w *world) run(path string, args ...string) (string, error) {
	ctx, cancel := contextOf()
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "ASMTP_RECEIPT_DELAY=0")
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, problems.String())
	}
	return out.String(), nil
}

func (w *world) must(path string, args ...string) string {
	w.t.Helper()
	out, err := w.run(path, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) as(name string, args ...string) []string {
	return append([]string{"--home", filepath.Join(w.mails.dir, name), "--json"}, args...)
}

func (w *world) data() string { return filepath.Join(w.mails.dir, "n") }

// up starts the node and waits until it answers.
func (w *world) up() {
	w.t.Helper()
	w.node = startProcess(w.t, w.asmtpd, "up", "--data", w.data(), "--listen", w.listen)
	w.t.Cleanup(func() { w.node.kill() })
	w.d.await("the node answers", func() error {
		_, err := w.run(w.asmtpd, "status", "--json", "--data", w.data())
		return err
	})
}

// create makes a node and the accounts of alice and bob, who know each other.
func (w *world) create() {
	w.t.Helper()
	if err := os.MkdirAll(w.mails.dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	w.listen = freeAddress(w.t)
	w.up()
	id := map[string]string{}
	for _, name := range []string{"alice", "bob"} {
		var made struct {
			Passport string `json:"passport"`
		}
		out := w.must(w.cli, w.as(name, "init", "--name", name, "--no-passphrase")...)
		if err := json.Unmarshal([]byte(out), &made); err != nil {
			w.t.Fatal(err)
		}
		id[name] = made.Passport
		w.must(w.cli, w.as(name, "connect", "--local", "--data", w.data())...)
	}
	w.must(w.cli, w.as("alice", "contact", "add", "bob", id["bob"])...)
	w.must(w.cli, w.as("bob", "contact", "add", "alice", id["alice"])...)
}

// freeAddress returns an address on which nobody listens, for a node that must have the
// same after each start: none of those that the system gives to outgoing connections.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// said are the promises of commands, as lines of the writer: each with the time at which it
// was read, which is no earlier than it was made.
type said struct {
	sync.Mutex
	lines []string
	first chan struct{} // closed with the first line
}

func (s *said) add(format string, args ...any) {
	s.Lock()
	defer s.Unlock()
	if len(s.lines) == 0 {
		close(s.first)
	}
	s.lines = append(s.lines, fmt.Sprint(load.Clock(), " ", fmt.Sprintf(format, args...)))
}

// flow has mail flow until stop is called, which returns what was said. first is closed
// when something was said.
func (w *world) flow() (first <-chan struct{}, stop func() []string) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &said{first: make(chan struct{})}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { w.keepSending(ctx, s) })
	}
	follow := startProcess(w.t, w.cli, w.as("bob", "sync", "--follow")...)
	wg.Go(func() {
		for line := range follow.lines {
			var mail struct {
				ID string `json:"id"`
			}
			if json.Unmarshal([]byte(line), &mail) == nil && mail.ID != "" {
				s.add("mail %s", mail.ID)
			}
		}
	})
	return s.first, func() []string {
		cancel()
		follow.kill()
		wg.Wait()
		return s.lines
	}
}

// keepSending sends mail after mail, each with its own command, and asks how the last is.
func (w *world) keepSending(ctx context.Context, s *said) {
	last := ""
	for n := 0; ctx.Err() == nil; n++ {
		send := last == "" || n%3 > 0
		args := w.as("alice", "status", last)
		if send {
			args = w.as("alice", "send", "--to", "bob", "--subject", "x")
		}
		cmd := exec.CommandContext(ctx, w.cli, args...)
		cmd.Env = append(os.Environ(), "ASMTP_RECEIPT_DELAY=0")
		cmd.Stdin = strings.NewReader("text")
		out, err := cmd.Output()
		if err != nil { // the disk is gone; what this command had to say counts for nothing
			continue
		}
		var mail struct {
			ID    string `json:"id"`
			State string `json:"state"`
		}
		if err := json.Unmarshal(out, &mail); err != nil {
			w.t.Errorf("%v printed %q: %v", args, out, err)
			return
		}
		if send {
			last = mail.ID
			s.add("sent %s", last)
		}
		s.add("state %s %s", last, mail.State)
	}
}

// verify opens the node's store.
func (w *world) verify(l *losses) {
	st, err := store.Open(filepath.Join(w.data(), "store"), store.Options{})
	if err != nil {
		l.add("the node's store: %v", err)
		return
	}
	defer st.Close()
	ctx, cancel := contextOf()
	defer cancel()
	if err := st.Verify(ctx, func(p string) { l.add("order: %s", p) }); err != nil {
		l.add("verify: %v", err)
	}
}

// checkArrived starts the node again, lets all mail arrive, and looks whether each is in
// the inbox once and known to be, and whether the node's store is in order.
func (w *world) checkArrived() (l losses) {
	w.verify(&l)
	w.up()
	for _, name := range []string{"alice", "bob", "alice"} {
		if _, err := w.run(w.cli, w.as(name, "sync")...); err != nil {
			l.add("%s syncs: %v", name, err)
		}
	}
	var in []string
	out := w.must(w.cli, w.as("bob", "inbox", "--all")...)
	for line := range strings.Lines(out) {
		var mail struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal([]byte(line), &mail); err != nil {
			w.t.Fatal(err)
		}
		in = append(in, mail.ID)
	}
	count := map[string]int{}
	for _, id := range in {
		count[id]++
	}
	ctx, cancel := contextOf()
	defer cancel()
	alice, bob, err := w.mails.open(ctx)
	if err != nil {
		l.add("an account: %v", err)
		return l
	}
	defer alice.Close()
	defer bob.Close()
	for id := range w.mails.sent {
		if count[id] != 1 {
			l.add("mail %s: %d times in the inbox", id, count[id])
		}
		if w.mails.checkSent(ctx, alice, id, account.Queued, &l); w.mails.sent[id] != account.Delivered {
			l.add("mail %s is %s", id, w.mails.sent[id])
		}
	}
	w.node.kill()
	return l
}
