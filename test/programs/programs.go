// Package programs runs meshes of real nodes and accounts, built for the purpose, for
// tests and benchmarks that drive whole programs: start with [New]. Everything lives in
// one temporary folder, and every process has ended when the test has.
package programs

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

// World is a mesh of real nodes and accounts. Its methods fail the test when something
// does not work.
type World struct {
	Dir    string
	Nodes  map[string]*Node
	People map[string]string // passport ids by name

	t     testing.TB
	ahead time.Duration // of the world's clock
}

// Node is a node that was started.
type Node struct {
	Name   string
	Listen string
	Cmd    *exec.Cmd
	Log    bytes.Buffer // what it wrote to stderr; read it once it has ended

	t    testing.TB
	done chan struct{} // closed when the process has ended
}

// New builds both programs with these build tags, separated by commas, and returns an
// empty world. With the tag asmtpclock its clock can be set, see [World.Pass].
func New(t testing.TB, tags string) *World {
	t.Helper()
	dir, err := os.MkdirTemp("", "world") // short: a control socket's path must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &World{t: t, Dir: dir, Nodes: map[string]*Node{}, People: map[string]string{}}
	tags = strings.TrimSuffix("grpcnotrace,"+tags, ",")
	for _, program := range []string{"asmtpd", "asmtp-cli"} {
		cmd := exec.Command("go", "build", "-tags", tags, "-o", w.Path(program), "github.com/asmtp/asmtp/"+program)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	t.Cleanup(func() {
		for _, n := range w.Nodes {
			n.Kill()
			if t.Failed() {
				t.Logf("log of %s:\n%s", n.Name, n.Log.String())
			}
		}
	})
	w.Pass(0)
	return w
}

// Path returns the path of something in the world's folder: the data of a node and the
// account of a person have their names.
func (w *World) Path(elem ...string) string {
	return filepath.Join(append([]string{w.Dir}, elem...)...)
}

// Pass lets time pass for all processes at once.
func (w *World) Pass(d time.Duration) {
	w.t.Helper()
	w.ahead += d
	file := w.Path("clock")
	text := strconv.FormatInt(int64(w.ahead/time.Second), 10)
	// Renamed into place: nobody may read half of it.
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		w.t.Fatal(err)
	}
}

// Command prepares one of the programs with the world's clock and without the random
// wait before receipts.
func (w *World) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.Path(program), args...)
	cmd.Env = append(os.Environ(), "ASMTP_CLOCK="+w.Path("clock"), "ASMTP_RECEIPT_DELAY=0", "ASMTP_HOME=", "ASMTP_PASSPHRASE=")
	return cmd
}

// Try runs a program to its end and returns what it printed.
func (w *World) Try(in io.Reader, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := w.Command(ctx, program, args...)
	var out, problems bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, problems.String())
	}
	return out.String(), nil
}

// Run is Try for what must work.
func (w *World) Run(program string, args ...string) string {
	w.t.Helper()
	out, err := w.Try(nil, program, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// As runs asmtp-cli for somebody and returns the lines of JSON that it printed.
func (w *World) As(name string, args ...string) []Line {
	w.t.Helper()
	return Parse(w.t, w.Run("asmtp-cli", append([]string{"--home", w.Path(name), "--json"}, args...)...))
}

// Line is what tests read of the JSON of any command.
type Line struct {
	ID       string `json:"id"`
	Passport string `json:"passport"`
	Waiting  bool   `json:"waiting"` // of a contact: its passport is not here yet
	State    string `json:"state"`
	Held     int    `json:"held"`
	Subject  string `json:"subject"`
	History  []Line `json:"history"`
	Peers    []struct {
		Connected bool `json:"connected"`
	} `json:"peers"`
}

// Parse reads a line of JSON after the other.
func Parse(t testing.TB, out string) (list []Line) {
	t.Helper()
	for text := range strings.Lines(out) {
		var l Line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		list = append(list, l)
	}
	return list
}

// Start starts a node, the first time with further arguments to "asmtpd up", and waits
// until it answers.
func (w *World) Start(name string, args ...string) *Node {
	w.t.Helper()
	n := w.Launch(name, args...)
	w.Await(name+" answers", func() bool {
		select {
		case <-n.done:
			w.t.Fatalf("%s ended: %v\n%s", name, n.Cmd.ProcessState, n.Log.String())
		default:
		}
		_, err := w.Try(nil, "asmtpd", "status", "--data", w.Path(name))
		return err == nil
	})
	return n
}

// Node returns a node that is running or will be: where it listens is known before.
func (w *World) Node(name string) *Node {
	w.t.Helper()
	n := w.Nodes[name]
	if n == nil {
		n = &Node{Name: name, Listen: FreeAddress(w.t), t: w.t}
		w.Nodes[name] = n
	}
	return n
}

// Launch is Start without the waiting.
func (w *World) Launch(name string, args ...string) *Node {
	w.t.Helper()
	n := w.Node(name)
	n.Cmd = w.Command(context.Background(), "asmtpd", append([]string{"up", "--data", w.Path(name), "--listen", n.Listen}, args...)...)
	n.Cmd.Stderr = &n.Log
	if err := n.Cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	n.done = make(chan struct{})
	go func() {
		_ = n.Cmd.Wait() // how it ended is asked of ProcessState
		close(n.done)
	}()
	return n
}

// Mesh starts nodes that are one mesh, the first its founder, and waits until each is
// connected to all others.
func (w *World) Mesh(names ...string) {
	w.t.Helper()
	w.Start(names[0])
	if len(names) > 1 {
		line := w.Run("asmtpd", "mesh", "invite", "--uses", strconv.Itoa(len(names)-1), "--data", w.Path(names[0]))
		for _, name := range names[1:] {
			w.Start(name, "--join", strings.TrimSpace(line))
		}
	}
	for _, name := range names {
		w.Connected(name, len(names)-1)
	}
}

// Meet waits until each of two contacts has the other's passport and its node knows the
// other's tag keys, so that mail between them flows at once.
func (w *World) Meet(a, b string) {
	w.t.Helper()
	for _, name := range []string{a, b} {
		w.Await(name+" has the passports of its contacts", func() bool {
			w.As(name, "sync")
			for _, contact := range w.As(name, "contact", "list") {
				if contact.Waiting {
					return false
				}
			}
			return true
		})
		w.As(name, "sync")
	}
}

// Stop ends a node cleanly.
func (n *Node) Stop() {
	n.t.Helper()
	_ = n.Cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-n.done:
	case <-time.After(patience):
		n.t.Fatalf("%s does not stop", n.Name)
	}
	if !n.Cmd.ProcessState.Success() {
		n.t.Errorf("%s ended with %v\n%s", n.Name, n.Cmd.ProcessState, n.Log.String())
	}
}

// Kill ends a node by SIGKILL.
func (n *Node) Kill() {
	if n.Cmd == nil {
		return // it was never started
	}
	_ = n.Cmd.Process.Kill() // it may have ended
	<-n.done
}

// Connected waits until a node has so many peers.
func (w *World) Connected(name string, peers int) {
	w.t.Helper()
	w.Await(fmt.Sprintf("%s is connected to %d others", name, peers), func() bool {
		n := 0
		for _, p := range Parse(w.t, w.Run("asmtpd", "status", "--json", "--data", w.Path(name)))[0].Peers {
			if p.Connected {
				n++
			}
		}
		return n >= peers
	})
}

// Await waits until ok is content.
func (w *World) Await(what string, ok func() bool) {
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

// Person makes an account with this node.
func (w *World) Person(name, node string) {
	w.t.Helper()
	w.People[name] = w.As(name, "init", "--name", name, "--no-passphrase")[0].Passport
	w.As(name, "connect", "--local", "--data", w.Path(node))
}

// Acquaint makes two persons contacts of each other.
func (w *World) Acquaint(a, b string) {
	w.t.Helper()
	w.As(a, "contact", "add", b, w.People[b])
	w.As(b, "contact", "add", a, w.People[a])
}

// FreeAddress returns an address on which nobody listens, for a node that must have the
// same after each start: none of those that the system gives to outgoing connections.
func FreeAddress(t testing.TB) string {
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
