// Package scripts runs testscript scripts over both programs as real processes.
//
// [Main] builds them once for a test binary, [Run] runs the scripts of a folder. It is
// imported by tests alone.
package scripts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// patience bounds every wait of a script.
const patience = 60 * time.Second

var binaries string // the folder of both programs, built for this run

// Folder returns the folder in which Main has built both programs.
func Folder() string { return binaries }

// Main builds both programs, runs the tests and returns their exit code. Call it from TestMain.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "asmtp-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	for _, program := range []string{"asmtpd", "asmtp-cli"} {
		out, err := exec.Command("go", "build", "-o", filepath.Join(dir, program), "github.com/asmtp/asmtp/"+program).CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", program, err, out)
			return 1
		}
	}
	binaries = dir
	return m.Run()
}

// Run runs the scripts of a folder. Each has a folder of its own; besides
// testscript's commands it may use:
//
//	node NAME [ARGS]        start "asmtpd up --data NAME --listen 127.0.0.1:0 ARGS", wait until it answers
//	halt NAME               end that node cleanly (testscript has a "stop" that ends the script)
//	kill9 NAME              end it by SIGKILL
//	log NAME REGEXP         wait until that node has printed this on stderr; with ! it has not so far
//	hangup NAME             send it SIGHUP
//	capture VAR             VAR = what the last exec printed, without the line break
//	field VAR KEY           VAR = the value of KEY in the first line of JSON that the last exec printed
//	until REGEXP CMD ARGS   repeat a command until its output matches
//	nowhere TEXT DIR…       no file below these folders holds TEXT
func Run(t *testing.T, dir string) {
	if testing.Short() {
		t.Skip("starts whole nodes")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, "home")
			e.Setenv("PATH", binaries+string(os.PathListSeparator)+os.Getenv("PATH"))
			e.Setenv("HOME", home)
			e.Setenv("XDG_DATA_HOME", "")
			e.Setenv("XDG_CONFIG_HOME", "")
			e.Setenv("ASMTP_RECEIPT_DELAY", "0")
			nodes := &scriptNodes{byName: map[string]*scriptNode{}}
			e.Values["nodes"] = nodes
			e.Defer(nodes.close)
			return os.Mkdir(home, 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"node":    cmdNode,
			"halt":    cmdHalt,
			"kill9":   cmdKill,
			"log":     cmdLog,
			"hangup":  cmdHangup,
			"capture": cmdCapture,
			"field":   cmdField,
			"until":   cmdUntil,
			"nowhere": cmdNowhere,
		},
	})
}

type scriptNode struct {
	cmd    *exec.Cmd
	stderr *output
	done   chan error
}

// output is what a process printed so far; it may be read while more comes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

type scriptNodes struct{ byName map[string]*scriptNode }

func (n *scriptNodes) close() {
	for _, node := range n.byName {
		_ = node.cmd.Process.Kill() // it may have ended already
		<-node.done
	}
}

// command prepares a program in the script's folder and environment.
func command(ctx context.Context, ts *testscript.TestScript, args []string) *exec.Cmd {
	path := args[0]
	if full := filepath.Join(binaries, path); path == "asmtpd" || path == "asmtp-cli" {
		path = full
	}
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = os.Environ()
	for _, key := range []string{"PATH", "HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "ASMTP_RECEIPT_DELAY", "ASMTP_HOME", "ASMTP_PASSPHRASE", "ASMTPD_KEY_PASSWORD", "ASMTPD_BACKUP_PASSWORD"} {
		cmd.Env = append(cmd.Env, key+"="+ts.Getenv(key))
	}
	return cmd
}

func cmdNode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: node NAME [ARGS]")
	}
	nodes := ts.Value("nodes").(*scriptNodes)
	name := args[0]
	listen := []string{"--listen", "127.0.0.1:0"}
	if _, err := os.Stat(ts.MkAbs(filepath.Join(name, "config.yaml"))); err == nil {
		listen = nil
	}
	cmd := command(context.Background(), ts, append(append([]string{"asmtpd", "up", "--data", name}, listen...), args[1:]...))
	node := &scriptNode{cmd: cmd, stderr: new(output), done: make(chan error, 1)}
	cmd.Stderr = node.stderr
	ts.Check(cmd.Start())
	nodes.byName[name] = node
	go func() { node.done <- cmd.Wait() }()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		if command(context.Background(), ts, []string{"asmtpd", "status", "--data", name}).Run() == nil {
			return
		}
		select {
		case <-tick.C:
		case err := <-node.done:
			node.done <- err
			ts.Fatalf("node %s ended: %v\n%s", name, err, node.stderr)
		case <-deadline:
			ts.Fatalf("node %s does not answer", name)
		}
	}
}

// end waits for a node that was sent a signal.
func end(ts *testscript.TestScript, name string, signal os.Signal) error {
	nodes := ts.Value("nodes").(*scriptNodes)
	node, ok := nodes.byName[name]
	if !ok {
		ts.Fatalf("no node %s was started", name)
	}
	delete(nodes.byName, name)
	ts.Check(node.cmd.Process.Signal(signal))
	select {
	case err := <-node.done:
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, node.stderr)
		}
		return err
	case <-time.After(patience):
		_ = node.cmd.Process.Kill()
		return errors.New("it does not stop")
	}
}

func cmdHalt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: halt NAME")
	}
	if err := end(ts, args[0], syscall.SIGTERM); err != nil {
		ts.Fatalf("node %s did not end cleanly: %v", args[0], err)
	}
}

func cmdKill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: kill9 NAME")
	}
	_ = end(ts, args[0], syscall.SIGKILL) // says "signal: killed"
}

// running returns a node that was started.
func running(ts *testscript.TestScript, name string) *scriptNode {
	node, ok := ts.Value("nodes").(*scriptNodes).byName[name]
	if !ok {
		ts.Fatalf("no node %s was started", name)
	}
	return node
}

func cmdLog(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: log NAME REGEXP")
	}
	want, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	node := running(ts, args[0])
	if neg {
		if want.MatchString(node.stderr.String()) {
			ts.Fatalf("node %s printed %q:\n%s", args[0], args[1], node.stderr)
		}
		return
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !want.MatchString(node.stderr.String()) {
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("node %s never printed %q:\n%s", args[0], args[1], node.stderr)
		}
	}
}

func cmdHangup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hangup NAME")
	}
	ts.Check(running(ts, args[0]).cmd.Process.Signal(syscall.SIGHUP))
}

func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: capture VAR")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

func cmdField(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field VAR KEY")
	}
	var m map[string]any
	ts.Check(json.NewDecoder(strings.NewReader(ts.ReadFile("stdout"))).Decode(&m))
	v, ok := m[args[1]]
	if !ok {
		ts.Fatalf("no field %q in %v", args[1], m)
	}
	ts.Setenv(args[0], fmt.Sprint(v))
}

func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP CMD ARGS")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var stderr bytes.Buffer
		cmd := command(ctx, ts, args[1:])
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if want.Match(out) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("%v: no match for %q within %v; last: %v\n%s%s", args[1:], args[0], patience, err, out, &stderr)
		}
	}
}

func cmdNowhere(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: nowhere TEXT DIR…")
	}
	found := ""
	for _, dir := range args[1:] {
		ts.Check(filepath.WalkDir(ts.MkAbs(dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err == nil && bytes.Contains(b, []byte(args[0])) {
				found = path
			}
			return err
		}))
	}
	if (found != "") != neg {
		ts.Fatalf("%q: found in %q", args[0], found)
	}
}
