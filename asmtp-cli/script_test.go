package main_test

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
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// patience bounds every wait of a script.
const patience = 60 * time.Second

var binaries string // the folder of both programs, built for this run

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "asmtp-bin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		for _, program := range []string{"asmtpd", "asmtp-cli"} {
			// With the tag a script can set the clock; else nothing is different.
			out, err := exec.Command("go", "build", "-tags", "grpcnotrace,asmtpclock", "-o", filepath.Join(dir, program), "github.com/asmtp/asmtp/"+program).CombinedOutput()
			if err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v\n%s", program, err, out)
				return 1
			}
		}
		binaries = dir
		return m.Run()
	}())
}

// The commands do what cli.md says, with real processes. Each script has a folder of
// its own. All its processes are as many seconds ahead as its file "clock" says. Besides
// testscript's commands it may use:
//
//	node NAME [ARGS]        start "asmtpd up --data NAME --listen 127.0.0.1:0 ARGS", wait until it answers
//	halt NAME | kill9 NAME  end that node, cleanly or by SIGKILL ("stop" would end the script)
//	capture VAR             VAR = what the last exec printed, without the line break
//	field VAR KEY           VAR = the value of KEY in the first line of JSON that the last exec printed
//	until REGEXP CMD ARGS   repeat a command until its output matches
//	nowhere TEXT DIR…       no file below these folders holds TEXT
//	bridge NAME [ARGS]      start a bridge; SMTP_NAME and IMAP_NAME say where; it ends as nodes do
//	mail SMTP USER PASSWORD FROM TO FILE     send a message; with ! it is refused, and stdout has the answer
//	folder REGEXP IMAP USER PASSWORD FOLDER  wait until the mails of a folder match
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts whole nodes")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, "home")
			e.Setenv("PATH", binaries+string(os.PathListSeparator)+os.Getenv("PATH"))
			e.Setenv("HOME", home)
			e.Setenv("XDG_DATA_HOME", "")
			e.Setenv("XDG_CONFIG_HOME", "")
			e.Setenv("ASMTP_RECEIPT_DELAY", "0")
			e.Setenv("ASMTP_CLOCK", filepath.Join(e.WorkDir, "clock"))
			nodes := &scriptNodes{byName: map[string]*scriptNode{}}
			e.Values["nodes"] = nodes
			e.Defer(nodes.close)
			return os.Mkdir(home, 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"node":    cmdNode,
			"halt":    cmdHalt,
			"kill9":   cmdKill,
			"capture": cmdCapture,
			"field":   cmdField,
			"until":   cmdUntil,
			"nowhere": cmdNowhere,
			"bridge":  cmdBridge,
			"mail":    cmdMail,
			"folder":  cmdFolder,
		},
	})
}

// Scripts depend on the exit codes: 2 for what cannot be meant, 5 for what is not there,
// 3 without a node.
func TestExitCodes(t *testing.T) {
	home := t.TempDir()
	run := func(program string, args ...string) (int, string) {
		cmd := exec.Command(filepath.Join(binaries, program), args...)
		cmd.Env = append(os.Environ(), "ASMTP_HOME="+home, "HOME="+home, "XDG_DATA_HOME=")
		out, err := cmd.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return exit.ExitCode(), string(out)
		}
		if err != nil {
			t.Fatal(err)
		}
		return 0, string(out)
	}
	if code, out := run("asmtp-cli", "init", "--name", "alice", "--no-passphrase"); code != 0 {
		t.Fatalf("init: %d\n%s", code, out)
	}
	for _, tt := range []struct {
		want int
		line string
	}{
		{2, "asmtp-cli nosuch"}, {2, "asmtp-cli contact nosuch"}, {2, "asmtp-cli queue extra x"}, {2, "asmtp-cli init"},
		{2, "asmtp-cli send --to a b c"}, {2, "asmtp-cli status a b"}, {2, "asmtp-cli send"}, {2, "asmtp-cli --bogus"},
		{2, "asmtp-cli send --to bob --wait nosuch"}, {2, "asmtp-cli send --to bob --lifetime 1m"}, {2, "asmtp-cli node"}, {2, "asmtp-cli"}, {2, "asmtp-cli --remote-address a:1 sync"},
		{2, "asmtpd nosuch"}, {2, "asmtpd"}, {2, "asmtpd user add"}, {2, "asmtpd user add xyz"}, {2, "asmtpd peer add a"},
		{3, "asmtp-cli sync"}, {3, "asmtp-cli status"}, {3, "asmtp-cli connect --local"}, {3, "asmtpd status"},
		{5, "asmtp-cli read 00112233"}, {5, "asmtp-cli send --to nobody"}, {5, "asmtp-cli contact remove nobody"}, {5, "asmtp-cli node remove 0000"},
		{1, "asmtp-cli init --name bob --no-passphrase"}, {1, "asmtpd check --config nosuch.yaml"},
		{0, "asmtp-cli inbox"}, {0, "asmtp-cli node list"}, {0, "asmtp-cli version"}, {0, "asmtpd version"}, {0, "asmtp-cli help send"},
	} {
		words := strings.Fields(tt.line)
		code, out := run(words[0], words[1:]...)
		if code != tt.want {
			t.Errorf("%s: exit %d, want %d\n%s", tt.line, code, tt.want, out)
		}
		if code != 0 && !strings.Contains(out, words[0]+": error: ") {
			t.Errorf("%s: no line of an error\n%s", tt.line, out)
		}
		if (code == 2 || code == 3 || code == 5) && !strings.Contains(out, words[0]+": hint: ") {
			t.Errorf("%s: no hint\n%s", tt.line, out)
		}
	}
}

type scriptNode struct {
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	done   chan error
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
	for _, key := range []string{"PATH", "HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "ASMTP_RECEIPT_DELAY", "ASMTP_CLOCK", "ASMTP_HOME", "ASMTP_PASSPHRASE", "ASMTPD_KEY_PASSWORD"} {
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
	node := &scriptNode{cmd: cmd, stderr: new(bytes.Buffer), done: make(chan error, 1)}
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
