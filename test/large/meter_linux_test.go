package large

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asmtp/asmtp/test/programs"
)

// meter watches how much memory processes take. Pages of files that are mapped are not
// counted: what a node stored stays in the page cache, and the kernel takes it away when
// somebody needs the memory. It also maps more or less of a program at a time as it likes.
type meter struct {
	t    *testing.T
	mu   sync.Mutex
	pids map[string]int
	most map[string]int64 // bytes
}

// newMeter returns a meter that looks at the nodes every 5 ms until the test ends.
func newMeter(t *testing.T, w *programs.World) *meter {
	m := &meter{t: t, pids: map[string]int{}, most: map[string]int64{}}
	for name, n := range w.Nodes {
		m.add(name, n.Cmd)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				m.look()
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return m
}

// add begins to watch a process, which takes the place of another one of that name.
func (m *meter) add(name string, cmd *exec.Cmd) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pids[name] = cmd.Process.Pid
}

func (m *meter) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, pid := range m.pids {
		anon, err := kernelFigure(pid, "RssAnon")
		if err != nil {
			continue // it ended
		}
		m.most[name] = max(m.most[name], anon)
	}
}

// peaks returns the most memory that each process took since the last call, in bytes.
func (m *meter) peaks() map[string]int64 {
	m.look()
	m.mu.Lock()
	defer m.mu.Unlock()
	most := m.most
	m.most = map[string]int64{}
	return most
}

// kernelFigure returns a figure of what the kernel tells of a process, in bytes.
func kernelFigure(pid int, what string) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(b), "\n"+what+":")
	var kib int64
	_, err = fmt.Sscan(after, &kib)
	return kib << 10, err
}

// check looks at how much more the processes took than before.
func (m *meter) check(before, after map[string]int64) {
	m.t.Helper()
	for name, bytes := range after {
		all, err := kernelFigure(m.pids[name], "VmHWM")
		if err != nil {
			m.t.Fatal(err)
		}
		checkMemory(m.t, fmt.Sprintf("%s (%d MiB at the most with the pages of files)", name, all>>20), bytes-before[name])
	}
}
