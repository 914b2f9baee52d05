// Package nodetest makes meshes of whole nodes for tests: real stores in temporary
// folders, real connections over loopback, in one process.
//
// It is imported by tests alone.
package nodetest

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/node"
	"github.com/asmtp/asmtp/noise"
)

// Patience bounds every wait of a test.
const Patience = 30 * time.Second

// Node is a running node.
type Node struct {
	*node.Node
	Options node.Options
	Control *control.Client
	Data    string

	t    testing.TB
	stop context.CancelFunc
	done chan error
}

// Start starts a node with a folder and a key of its own; change, if not nil, changes its
// options before. It is stopped when the test ends, which fails if that is not clean.
func Start(t testing.TB, change func(*node.Options)) *Node {
	t.Helper()
	key, err := noise.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: the path of the control socket must be short.
	dir, err := os.MkdirTemp("", "node")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	o := node.Options{Key: key, Data: dir, Listen: "127.0.0.1:0", Version: "test", Log: slog.New(slog.DiscardHandler)}
	if os.Getenv("ASMTP_TEST_LOG") != "" {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", key.Public().Short())
	}
	if change != nil {
		change(&o)
	}
	n := &Node{Options: o, Data: o.Data, t: t}
	n.start()
	t.Cleanup(n.Stop)
	return n
}

func (n *Node) start() {
	n.t.Helper()
	opened, err := node.Open(context.Background(), n.Options)
	// A process that another test is just starting has a copy of the lock that this one gave
	// back. syscall.ForkLock does not tell when that has passed: Linux lets the parent go on
	// before the new program has closed what it must not have.
	for end := time.Now().Add(Patience); errors.Is(err, control.ErrRunning) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		opened, err = node.Open(context.Background(), n.Options)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.Node, n.stop, n.done = opened, cancel, make(chan error, 1)
	go func() { n.done <- opened.Run(ctx) }()
	if n.Control, err = control.Dial(n.Data); err != nil {
		n.t.Fatal(err)
	}
}

// Stop stops the node, if it runs, and fails the test if that is not clean.
func (n *Node) Stop() {
	n.t.Helper()
	if n.stop == nil {
		return
	}
	n.Control.Close()
	n.stop()
	n.stop = nil
	if err := <-n.done; err != nil {
		n.t.Errorf("node ended: %v", err)
	}
	if err := n.Close(); err != nil {
		n.t.Errorf("close the node: %v", err)
	}
}

// Failed waits for the node to end by itself, and returns what with.
func (n *Node) Failed() error {
	n.t.Helper()
	select {
	case err := <-n.done:
		n.Control.Close()
		n.stop()
		n.stop = nil
		if err := n.Close(); err != nil {
			n.t.Errorf("close the node: %v", err)
		}
		return err
	case <-time.After(Patience):
		n.t.Fatal("the node goes on")
		return nil
	}
}

// Restart stops the node and starts it again, at the same address.
func (n *Node) Restart() {
	n.t.Helper()
	n.Options.Listen = n.Addr()
	n.Stop()
	n.start()
}

// Mesh starts nodes that are one mesh, the first its founder, all connected to it.
func Mesh(t testing.TB, size int) []*Node {
	t.Helper()
	nodes := []*Node{Start(t, nil)}
	for len(nodes) < size {
		line := nodes[0].Invite()
		nodes = append(nodes, Start(t, func(o *node.Options) { o.Join = line }))
	}
	for _, n := range nodes {
		n.Await("each node has the others as peers", func(s *control.Status) bool {
			connected := 0
			for _, p := range s.Peers {
				if p.Connected {
					connected++
				}
			}
			return connected == size-1
		})
	}
	return nodes
}

// Invite returns an invitation to the node's mesh.
func (n *Node) Invite() string {
	n.t.Helper()
	line, err := n.Control.MeshInvite(n.t.Context(), control.Invite{})
	if err != nil {
		n.t.Fatal(err)
	}
	return line
}

// Await waits until ok is content with the node's status.
func (n *Node) Await(what string, ok func(*control.Status) bool) *control.Status {
	n.t.Helper()
	deadline := time.After(Patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := n.Control.Status(n.t.Context())
		if err != nil {
			n.t.Fatal(err)
		}
		if ok(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-deadline:
			n.t.Fatalf("waited in vain: %s; status %+v", what, s)
		}
	}
}
