package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/asmtp/asmtp/test/chaos/check"
)

// starter starts processes from one thread that lives as long as it does: the kernel
// kills a process with Pdeathsig when the thread that started it ends.
type starter struct {
	requests chan func()
	ended    chan struct{}
}

func newStarter() *starter {
	s := &starter{make(chan func()), make(chan struct{})}
	go func() {
		defer close(s.ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for f := range s.requests {
			f()
		}
	}()
	return s
}

func (s *starter) close() {
	close(s.requests)
	<-s.ended
}

// start starts cmd in a process group of its own that dies with the harness.
func (s *starter) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	done := make(chan error, 1)
	s.requests <- func() { done <- cmd.Start() }
	return <-done
}

// signal sends a signal to the process group of cmd.
func signal(cmd *exec.Cmd, s syscall.Signal) { _ = syscall.Kill(-cmd.Process.Pid, s) }

// build makes both programs with a clock that can be set, and with the fault if there is one.
func (r *run) build(ctx context.Context) error {
	r.bin = filepath.Join(r.dir, "bin")
	tags := "grpcnotrace,asmtpclock"
	if r.Break != "" {
		tags += ",break_" + strings.ReplaceAll(r.Break, "-", "_")
	}
	args := []string{"build", "-trimpath", "-tags", tags, "-o", r.bin + "/"}
	env := append(os.Environ(), "CGO_ENABLED=0")
	if r.Race {
		args, env = append(args, "-race"), os.Environ()
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./asmtpd", "./asmtp-cli")...)
	cmd.Dir, cmd.Env = r.Source, env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}

// environment is what a process of the world sees.
func (r *run) environment(clock string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "TMPDIR=" + r.dir, "ASMTP_CLOCK=" + r.clocks.file(clock),
		"ASMTP_RECEIPT_DELAY=300ms", "GORACE=halt_on_error=1 exitcode=66", "GOTRACEBACK=all"}
}

// result is how a command ended.
type result struct {
	check.Span
	out    []byte
	text   string // stderr
	code   int    // -1: killed
	killed bool   // by the harness
}

// patience is how long a command may take before it is killed.
const patience = 25 * time.Second

// command runs one of the programs. It is killed when limit is over, or cancel is closed.
func (r *run) command(clock, program string, stdin []byte, limit time.Duration, args ...string) result {
	cmd := exec.Command(filepath.Join(r.bin, program), args...)
	cmd.Env, cmd.Dir = r.environment(clock), r.dir
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Stdin = &out, &problems, bytes.NewReader(stdin)
	res := result{Span: check.Span{From: r.now()}}
	if err := r.start.start(cmd); err != nil {
		return result{text: err.Error(), code: 127}
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t := time.NewTimer(limit)
	defer t.Stop()
	var err error
	select {
	case err = <-done:
	case <-t.C:
		res.killed = true
		signal(cmd, syscall.SIGKILL)
		err = <-done
	}
	res.Until, res.out, res.text = r.now(), out.Bytes(), strings.TrimSpace(problems.String())
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		res.code = exit.ExitCode()
	} else if err != nil {
		res.code = 127
	}
	if line := alarming(problems.Bytes()); line != "" {
		r.fault("program fault", "%s %s: %s\n%s", program, strings.Join(args, " "), line, problems.String())
	}
	return res
}

// alarms are what no program may print.
var alarms = []string{"panic:", "DATA RACE", "fatal error:", "unexpected fault address", "SIGSEGV", "SIGBUS", "runtime error:",
	"takes no writes until", "store failed", "panicked"}

// alarming returns the first line of text that no program may print.
func alarming(text []byte) string {
	for line := range bytes.Lines(text) {
		for _, a := range alarms {
			if bytes.Contains(line, []byte(a)) {
				return strings.TrimSpace(string(line))
			}
		}
	}
	return ""
}

// tail returns the last bytes of a file.
func tail(path string, n int64) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, int64(len(b))-n):])
}
