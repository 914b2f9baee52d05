//go:build linux

package powerloss

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// runs is how often the power is cut in each test that must lose nothing; unsafeRuns in
// each that must lose something.
const (
	runs       = 20
	unsafeRuns = 3
)

// random returns the source of the moments at which the power goes. The seed is printed,
// and taken from ASMTP_SEED if that is set; the same seed does not give the same moment of
// a process's life, only the same waits.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("ASMTP_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("ASMTP_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// programs is where programs are built, once for all tests.
var programs struct {
	sync.Mutex
	dir  string
	have map[string]error
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "powerbin")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		programs.dir, programs.have = dir, map[string]error{}
		return m.Run()
	}())
}

// kind says how the programs of a test are built.
type kind string

const (
	sound kind = "grpcnotrace"
	// unsynced never syncs.
	unsynced kind = "grpcnotrace,nosync"
	// hasty acknowledges, and syncs a few tenths of a second later.
	hasty kind = "grpcnotrace,break_ack_before_fsync"
)

// program builds a command of the module.
func program(t *testing.T, pkg string, k kind) string {
	t.Helper()
	tags := string(k)
	path := filepath.Join(programs.dir, filepath.Base(pkg)+"-"+tags)
	programs.Lock()
	defer programs.Unlock()
	err, built := programs.have[path]
	if !built {
		cmd := exec.Command("go", "build", "-tags", tags, "-o", path, "github.com/asmtp/asmtp/"+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, buildErr := cmd.CombinedOutput()
		if buildErr != nil {
			err = fmt.Errorf("build %s: %w\n%s", pkg, buildErr, out)
		}
		programs.have[path] = err
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// process is a running program whose lines are kept.
type process struct {
	cmd    *exec.Cmd
	lines  chan string // closed when it has ended
	ended  chan struct{}
	stderr bytes.Buffer
}

func startProcess(t *testing.T, path string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(path, args...), lines: make(chan string, 1<<16), ended: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
		_ = p.cmd.Wait() // it was killed, or failed when the disk did
	}()
	return p
}

// kill ends the process and returns the lines that nobody has read.
func (p *process) kill() (lines []string) {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	for line := range p.lines {
		lines = append(lines, line)
	}
	<-p.ended
	return lines
}

// printedBefore returns the lines of the writer that it printed before a time, without
// their times.
func printedBefore(t *testing.T, at int64, lines []string) (kept []string) {
	t.Helper()
	for _, line := range lines {
		when, text, ok := strings.Cut(line, " ")
		n, err := strconv.ParseInt(when, 10, 64)
		if !ok || err != nil {
			t.Fatalf("line without a time: %q", line)
		}
		if n < at {
			kept = append(kept, text)
		}
	}
	return kept
}

// first waits for the first line.
func (p *process) first(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case line, ok := <-p.lines:
		if !ok {
			<-p.ended
			t.Fatalf("%s ended: %s", p.cmd, p.stderr.String())
		}
		return line
	case <-ctx.Done():
		t.Fatalf("%s says nothing", p.cmd)
		return ""
	}
}

// wantLosses fails the test of a program that breaks its promises if nothing is lost.
func wantLosses(t *testing.T, all []losses, promises int) {
	t.Helper()
	lost := 0
	for _, l := range all {
		lost += len(l)
	}
	t.Logf("%d promises, %d losses", promises, lost)
	if lost == 0 {
		t.Error("nothing was lost: the power was not cut, or this test does not see it")
	}
}

// losses are what was promised and is not there.
type losses []string

func (l *losses) add(format string, args ...any) { *l = append(*l, fmt.Sprintf(format, args...)) }

// report fails the test of a program that syncs if anything is lost.
func (l losses) report(t *testing.T, run int) {
	t.Helper()
	for i, s := range l {
		if i == 10 {
			t.Errorf("run %d: and %d more", run, len(l)-i)
			break
		}
		t.Errorf("run %d: lost: %s", run, s)
	}
}

func contextOf() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
