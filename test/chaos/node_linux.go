package chaos

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/noise"
)

// node is one asmtpd of the world.
type node struct {
	r       *run
	name    string
	data    string
	logFile string
	listen  string // where it listens
	public  string // where its proxy listens
	key     noise.PublicKey
	disk    *disk // nil: the folder of the world
	quota   bool  // it has small ones

	mu      sync.Mutex
	cmd     *exec.Cmd // nil: not running
	asked   bool      // its end is asked for
	ended   chan struct{}
	code    int
	scanned int64 // of the log
	began   int64 // the log's length when it was started
}

// starting runs the node; more are arguments beyond those of a later start.
func (n *node) starting(more ...string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		return nil
	}
	f, err := os.OpenFile(n.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command(filepath.Join(n.r.bin, "asmtpd"), append([]string{"up", "--data", n.data}, more...)...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = n.r.environment(n.name), n.r.dir, f, f
	if st, err := f.Stat(); err == nil {
		n.began = st.Size()
	}
	if err := n.r.start.start(cmd); err != nil {
		return err
	}
	n.cmd, n.asked, n.ended = cmd, false, make(chan struct{})
	go n.wait(cmd, n.ended)
	return nil
}

// wait notes how the node ended. Nobody but the harness ends a node.
func (n *node) wait(cmd *exec.Cmd, ended chan struct{}) {
	err := cmd.Wait()
	n.mu.Lock()
	asked := n.asked
	n.cmd, n.code = nil, cmd.ProcessState.ExitCode()
	n.mu.Unlock()
	n.scan()
	if !asked && n.disk != nil && n.disk.isFull() && n.code == 1 && n.sinceStart("full") {
		n.r.counts.add("starts refused on a full disk", 1) // it is started again when there is room
	} else if !asked {
		n.r.fault("process ended unasked", "%s: %v\n%s", n.name, err, tail(n.logFile, 3000))
	}
	close(ended)
}

// scan looks for what a node must not print, from where the last scan ended.
func (n *node) scan() {
	b, err := os.ReadFile(n.logFile)
	if err != nil {
		return
	}
	n.mu.Lock()
	from := min(n.scanned, int64(len(b)))
	n.scanned = int64(len(b))
	n.mu.Unlock()
	if line := alarming(b[from:]); line != "" {
		n.r.fault("program fault", "%s: %s (see %s)", n.name, line, n.logFile)
	}
}

// kill ends the node by SIGKILL, and waits.
func (n *node) kill() { n.stop(syscall.SIGKILL) }

// term ends the node as an operator does. It must end by itself, in order, in time; one
// that has only just been started may end by the signal.
func (n *node) term() {
	if n.stop(syscall.SIGTERM) && n.code != 0 && n.sinceStart("msg=ready") {
		n.r.fault("node ended badly", "%s: exit code %d after SIGTERM\n%s", n.name, n.code, tail(n.logFile, 3000))
	}
}

// sinceStart reports whether the node has printed a word since it was started last.
func (n *node) sinceStart(word string) bool {
	b, err := os.ReadFile(n.logFile)
	n.mu.Lock()
	defer n.mu.Unlock()
	return err == nil && bytes.Contains(b[min(n.began, int64(len(b))):], []byte(word))
}

// stop sends a signal and waits until the node has ended; false if it did not run.
func (n *node) stop(s syscall.Signal) bool {
	n.mu.Lock()
	cmd, ended := n.cmd, n.ended
	n.asked = true
	n.mu.Unlock()
	if cmd == nil {
		return false
	}
	signal(cmd, s)
	const limit = 60 * time.Second
	select {
	case <-ended:
	case <-time.After(limit):
		signal(cmd, syscall.SIGQUIT) // its stacks go to the log
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			signal(cmd, syscall.SIGKILL)
			<-ended
		}
		n.r.fault("node does not stop", "%s: still there %v after %v; its stacks are in %s", n.name, limit, s, n.logFile)
	}
	return true
}

// pid returns the process id, 0 if it does not run.
func (n *node) pid() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return 0
	}
	return n.cmd.Process.Pid
}

// status asks the running node how it is.
func (n *node) status(ctx context.Context) (*control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := control.Dial(n.data)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Status(ctx)
}

// control calls f with the node's control socket.
func (n *node) control(ctx context.Context, f func(context.Context, *control.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c, err := control.Dial(n.data)
	if err != nil {
		return err
	}
	defer c.Close()
	return f(ctx, c)
}

// until waits until the node's status is as wanted.
func (n *node) until(ctx context.Context, limit time.Duration, ok func(*control.Status) bool) error {
	deadline := time.After(limit)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := n.status(ctx)
		if err == nil && ok(s) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return fmt.Errorf("%s is not as wanted after %v (%v)\n%s", n.name, limit, err, tail(n.logFile, 2000))
		}
	}
}

func connected(s *control.Status) (count int) {
	for _, p := range s.Peers {
		if p.Connected {
			count++
		}
	}
	return count
}

// owner names the node that has the socket with these ends; all others are clients.
func (r *run) owner(local, remote *net.TCPAddr) string {
	pids := map[int]string{}
	for _, n := range r.nodes {
		if pid := n.pid(); pid != 0 {
			pids[pid] = n.name
		}
	}
	return ownerOr(local, remote, pids, clients)
}

// clients is the party that stands for every client.
const clients = "clients"
