package away

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds every single wait of a test.
const patience = 60 * time.Second

// world is a mesh of real nodes and accounts, all with one settable clock.
type world struct {
	t      *testing.T
	dir    string
	nodes  map[string]*node
	people map[string]string // passport ids by name
	ahead  time.Duration     // of the world's clock
}

type node struct {
	name   string
	listen string
	cmd    *exec.Cmd
	log    *bytes.Buffer
	done   chan struct{} // closed when the process has ended
}

func newWorld(t *testing.T) *world {
	dir, err := os.MkdirTemp("", "away") // short: a control socket's path must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, nodes: map[string]*node{}, people: map[string]string{}}
	for _, program := range []string{"asmtpd", "asmtp-cli"} {
		cmd := exec.Command("go", "build", "-tags", "grpcnotrace,asmtpclock", "-o", w.path(program), "github.com/asmtp/asmtp/"+program)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	t.Cleanup(func() {
		for _, n := range w.nodes {
			n.kill()
			if t.Failed() {
				t.Logf("log of %s:\n%s", n.name, n.log)
			}
		}
	})
	w.pass(0)
	return w
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

// pass lets time pass for all processes at once.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	w.ahead += d
	file := w.path("clock")
	text := strconv.FormatInt(int64(w.ahead/time.Second), 10)
	// Renamed into place: nobody may read half of it.
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.path(program), args...)
	cmd.Env = append(os.Environ(), "ASMTP_CLOCK="+w.path("clock"), "ASMTP_RECEIPT_DELAY=0", "ASMTP_HOME=", "ASMTP_PASSPHRASE=")
	return cmd
}

// try runs a program to its end and returns what it printed.
func (w *world) try(in io.Reader, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := w.command(ctx, program, args...)
	var out, problems bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, problems.String())
	}
	return out.String(), nil
}

func (w *world) run(program string, args ...string) string {
	w.t.Helper()
	out, err := w.try(nil, program, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// as runs asmtp-cli for somebody and returns the lines of JSON that it printed.
func (w *world) as(name string, args ...string) []line {
	w.t.Helper()
	return parse(w.t, w.run("asmtp-cli", append([]string{"--home", w.path(name), "--json"}, args...)...))
}

// line is what the test reads of the JSON of any command.
type line struct {
	ID       string `json:"id"`
	Passport string `json:"passport"`
	Waiting  bool   `json:"waiting"` // of a contact: its passport is not here yet
	State    string `json:"state"`
	Held     int    `json:"held"`
	Subject  string `json:"subject"`
	History  []line `json:"history"`
	Peers    []struct {
		Connected bool `json:"connected"`
	} `json:"peers"`
}

func parse(t *testing.T, out string) (list []line) {
	t.Helper()
	for text := range strings.Lines(out) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		list = append(list, l)
	}
	return list
}

// start starts a node, the first time with further arguments to "asmtpd up".
func (w *world) start(name string, args ...string) *node {
	w.t.Helper()
	n := w.nodes[name]
	if n == nil {
		n = &node{name: name, listen: freeAddress(w.t), log: new(bytes.Buffer)}
		w.nodes[name] = n
	}
	n.cmd = w.command(context.Background(), "asmtpd", append([]string{"up", "--data", w.path(name), "--listen", n.listen}, args...)...)
	n.cmd.Stderr = n.log
	if err := n.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	n.done = make(chan struct{})
	go func() {
		_ = n.cmd.Wait() // how it ended is asked of ProcessState
		close(n.done)
	}()
	w.await(name+" answers", func() bool {
		_, err := w.try(nil, "asmtpd", "status", "--data", w.path(name))
		return err == nil
	})
	return n
}

// stop ends a node cleanly.
func (n *node) stop(t *testing.T) {
	t.Helper()
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-n.done:
	case <-time.After(patience):
		t.Fatalf("%s does not stop", n.name)
	}
	if !n.cmd.ProcessState.Success() {
		t.Errorf("%s ended with %v\n%s", n.name, n.cmd.ProcessState, n.log)
	}
}

// kill ends a node by SIGKILL.
func (n *node) kill() {
	_ = n.cmd.Process.Kill() // it may have ended
	<-n.done
}

// connected waits until a node has so many peers.
func (w *world) connected(name string, peers int) {
	w.t.Helper()
	w.await(fmt.Sprintf("%s is connected to %d others", name, peers), func() bool {
		n := 0
		for _, p := range parse(w.t, w.run("asmtpd", "status", "--json", "--data", w.path(name)))[0].Peers {
			if p.Connected {
				n++
			}
		}
		return n >= peers
	})
}

func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// person makes an account with this node.
func (w *world) person(name, node string) {
	w.t.Helper()
	w.people[name] = w.as(name, "init", "--name", name, "--no-passphrase")[0].Passport
	w.as(name, "connect", "--local", "--data", w.path(node))
}

func (w *world) acquaint(a, b string) {
	w.t.Helper()
	w.as(a, "contact", "add", b, w.people[b])
	w.as(b, "contact", "add", a, w.people[a])
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
