package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// buildAsReleased builds a program with the flags of the Makefile and returns its path.
func buildAsReleased(b testing.TB, dir, program string) string {
	b.Helper()
	path := filepath.Join(dir, program)
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", path, "github.com/asmtp/asmtp/"+program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", program, err, out)
	}
	return path
}

// BenchmarkPrograms shows what users feel of the two programs as they are released: the size of
// the binaries, the memory of an idle node, the time of "asmtp-cli status" on an account with a
// passphrase (which contains the work of unsealing the key file).
func BenchmarkPrograms(b *testing.B) {
	dir, err := os.MkdirTemp("", "asmtp-bench-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	node, cli := buildAsReleased(b, dir, "asmtpd"), buildAsReleased(b, dir, "asmtp-cli")
	for _, path := range []string{node, cli} {
		st, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		fmt.Printf("%-10s %.1f MB stripped\n", filepath.Base(path), float64(st.Size())/1e6)
	}
	data := filepath.Join(dir, "node")
	daemon := exec.Command(node, "up", "--data", data, "--listen", "127.0.0.1:0")
	if err := daemon.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait()
	}()
	passphrase := filepath.Join(dir, "passphrase")
	if err := os.WriteFile(passphrase, []byte("correct horse"), 0o600); err != nil {
		b.Fatal(err)
	}
	account := []string{"--home", filepath.Join(dir, "alice"), "--passphrase-file", passphrase}
	run := func(args ...string) time.Duration {
		start := time.Now()
		out, err := exec.Command(cli, append(account, args...)...).CombinedOutput()
		if err != nil {
			b.Fatalf("asmtp-cli %v: %v\n%s", args, err, out)
		}
		return time.Since(start)
	}
	awaitNode(b, node, data)
	run("init", "--name", "alice")
	run("connect", "--local", "--data", data)
	var times []time.Duration
	for range 11 {
		times = append(times, run("status"))
	}
	slices.Sort(times)
	fmt.Printf("asmtp-cli status: median %v, smallest %v, largest %v of %d\n", times[5].Round(time.Millisecond), times[0].Round(time.Millisecond), times[10].Round(time.Millisecond), len(times))
	fmt.Printf("asmtpd idle: %s after the above\n", rss(b, daemon.Process.Pid))
}

func awaitNode(b testing.TB, node, data string) {
	b.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := exec.Command(node, "status", "--json", "--data", data).Output()
		if err == nil && json.Valid(bytes.TrimSpace(out)) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			b.Fatal("the node does not answer")
		}
	}
}

// rss returns the resident memory of a process as Linux tells it.
func rss(b testing.TB, pid int) string {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "memory unknown: " + err.Error()
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return "VmRSS " + strings.TrimSpace(rest)
		}
	}
	return "memory unknown"
}

// The node goes onto small machines: its stripped binary stays under 22 MB.
func TestNodeStaysSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	st, err := os.Stat(buildAsReleased(t, t.TempDir(), "asmtpd"))
	if err != nil {
		t.Fatal(err)
	}
	if limit := int64(22_000_000); st.Size() >= limit {
		t.Errorf("asmtpd has %d bytes, the limit is %d", st.Size(), limit)
	}
}
